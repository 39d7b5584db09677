"""What all jobs of a benchmark have in common: the images, the weights, the bucket. Effects: files."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path, PurePosixPath

from pipeline.demo.images import FIRST_UNUSABLE_NUMBER
from pipeline.stages.labels import categories

BUCKET = "bench"
IMAGES = "dogs/Images"
"""Where the tutorial looks for truth and name."""

_COPIES_APART = 100
"""Between the numbers of one drawing's copies."""


@dataclass(frozen=True, slots=True)
class Site:
    """A bucket that is a folder, and the weights."""

    root: Path
    """Of the S3 server; a folder in it is a bucket."""

    weights: str
    """Absolute path of the state dict."""

    @property
    def source(self) -> str:
        """URL of the images."""
        return f"s3://{BUCKET}/{IMAGES}"

    def destination(self, name: str) -> str:
        """Return the URL of a folder for outcomes."""
        return f"s3://{BUCKET}/outcomes/{name}"

    def folder(self, name: str) -> Path:
        """Return the same folder on this machine's disk."""
        return self.root / BUCKET / "outcomes" / name

    def images(self) -> list[str]:
        """Return the images' names without their ending, in the order of their keys."""
        return [path.stem for path in sorted((self.root / BUCKET / IMAGES).rglob("*.jpg"))]

    def fill(self, drawings: Path, n_images: int) -> None:
        """Put the first good drawings into the bucket, copies of them under new names where there are too few.

        All are called ``.jpg``, whatever they are inside, since the tutorial lists nothing else; the tutorial's file of
        classes stands beside them. The files are links to the drawings.
        """
        for drawing, name in islice(named(drawings), n_images):
            path = self.root / BUCKET / IMAGES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(drawing, path)
        lines = [f"{index}: {name!r},\n" for index, name in enumerate(categories())]
        (self.root / BUCKET / "dogs/imagenet1000_clsidx_to_labels.txt").write_text("".join(lines), encoding="utf-8")


def named(drawings: Path) -> Iterator[tuple[Path, str]]:
    """Yield the good drawings with a name for each, without end: after the last come copies of the first."""
    good = [path for path in sorted(drawings.rglob("*.*")) if _number(path.name) < FIRST_UNUSABLE_NUMBER]
    for copy in count():
        for path in good:
            wnid, number = path.stem.split("_")
            yield path, f"{path.parent.name}/{wnid}_{int(number) + copy * _COPIES_APART}.jpg"


def _number(name: str) -> int:
    """Return the number in a drawing's name.

    >>> _number("n02085620_10002.jpg")
    10002
    """
    return int(PurePosixPath(name).stem.rpartition("_")[2])


def _link(target: Path, path: Path) -> None:
    try:
        os.link(target, path)
    except OSError:  # another file system
        shutil.copyfile(target, path)
