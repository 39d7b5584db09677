"""The demo's own folder: drawings and weights, made once and kept. Effects: files."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.demo.images import demo_objects

Say = Callable[[str], None]
"""Is told what was made and how long it took."""


def made_weights(home: Path, say: Say) -> Path:
    """Return the path of the state dict of a ResNet50 that knows the drawings."""
    path = home / "resnet50-drawn.pth"
    if not path.exists():
        from pipeline.demo.weights import make_weights  # noqa: PLC0415  imports torch: only where there is work for it

        started = time.monotonic()
        make_weights(path)
        _say_made(say, "weights of a ResNet50 that knows the drawings", started)
    return path


def made_images(home: Path, say: Say) -> Path:
    """Return the folder that holds the drawings by their keys."""
    folder = home / "bucket"
    if not folder.exists():
        started = time.monotonic()
        half = home / "bucket.partial"
        shutil.rmtree(half, ignore_errors=True)
        for key, data in demo_objects():
            path = half / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        half.rename(folder)
        _say_made(say, "images", started)
    return folder


def objects_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the (key, bytes) of every file below a folder, in sorted order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _say_made(say: Say, what: str, started: float) -> None:
    say(f"made {what} ({time.monotonic() - started:.0f} s, kept for the next time)")
