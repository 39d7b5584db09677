"""What a wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_both_packages_and_their_data(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]

    subprocess.run([*command, "--no-build-isolation"], check=True, timeout=120)

    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = [
        path.relative_to(ROOT).as_posix() for top in ("pipeline", "cluster") for path in (ROOT / top).rglob("*.py")
    ]
    assert names >= {
        *modules,
        "pipeline/stages/imagenet_1k.csv",
        "pipeline/stages/stanford_dogs.csv",
        "pipeline/stages/architectures.json",
    }
