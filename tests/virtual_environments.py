"""Virtual environments of Python, made in a moment: they share this one's packages, but for ours and what is left out.

A worker that runs in one truly lacks a package, where one with a patched answer would only say so. Start it in another
working folder than the repository's, and without its ``PYTHONPATH``: `tests.by_hand` does.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

OURS = "dask-image-inference"
_HERE = Path(sysconfig.get_paths()["purelib"])


def environment(folder: Path, *, without: Sequence[str] = (), paths: Sequence[Path] = ()) -> Path:
    """Return the ``python`` of a new environment.

    Parameters
    ----------
    folder
        Where it is made.
    without
        Names of distributions, as pip has them, that it lacks beside this project's.
    paths
        Folders with packages of its own, which stand before the shared ones.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    site_packages = next(folder.glob("lib/python*/site-packages"))
    left_out = {name for package in (OURS, *without) for name in _names_of(package)}
    for entry in _HERE.iterdir():
        # .pth files run code: the one of this project's editable install would bring it back
        if entry.name not in left_out and entry.suffix != ".pth" and not entry.name.startswith("__editable__"):
            (site_packages / entry.name).symlink_to(entry)
    (site_packages / "own.pth").write_text(
        "".join(f"import sys; sys.path.insert(0, {str(path)!r})\n" for path in paths)
    )
    return folder / "bin" / "python"


def another_python() -> str | None:
    """Return an interpreter of another minor version that runs, the nearest first; None where there is none."""
    ours = sys.version_info.minor
    others = sorted({*range(10, 20)} - {ours}, key=lambda minor: abs(minor - ours))
    return next((python for minor in others for python in _pythons(minor) if _runs(python)), None)


def _pythons(minor: int) -> Iterator[str]:
    """Yield what may be one: on the path, or beside the one that runs here, as version managers keep them."""
    if found := shutil.which(f"python3.{minor}"):
        yield found
    yield from map(str, Path(sys.base_prefix).parent.glob(f"*3.{minor}*/bin/python3"))


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0


def _names_of(package: str) -> Iterator[str]:
    """Yield the names of a distribution's files and folders in site-packages, its metadata too."""
    # The metadata that is found may be that of a source folder, which an editable install leaves there.
    yield from (entry.name for entry in _HERE.glob(f"{package.replace('-', '_')}-*.dist-info"))
    try:
        files = distribution(package).files or ()
    except PackageNotFoundError:
        return
    yield from {file.parts[0] for file in files}
