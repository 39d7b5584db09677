"""Which objects under SOURCE are images of the run. Pure: pages of a listing in, pages of `ImageRef` out.

A folder is listed flat, never folder by folder: 12,000 keys are 12 requests whatever their nesting.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from fsspec.utils import glob_translate

from pipeline.errors import UsageError
from pipeline.records import ImageRef

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""What an image's name ends in, in any case."""

INVENTORY = "/manifest.json"
"""What the URL of an S3 Inventory ends in."""

MANIFEST_SUFFIXES = (".csv", ".csv.gz", ".parquet", INVENTORY)
"""What the URL of a table that names images ends in."""

_MAGIC = re.compile(r"[*?\[]")


def is_manifest(source: str) -> bool:
    """Return whether a source is a table that names images, and not a folder or glob of them.

    >>> is_manifest("s3://bucket/lists/photos.CSV"), is_manifest("s3://bucket/photos"), is_manifest("s3://b/*.csv")
    (True, False, False)
    """
    return source.lower().endswith(MANIFEST_SUFFIXES) and _MAGIC.search(source) is None


class Listed(Protocol):
    """What a listing tells of an object."""

    @property
    def url(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the objects under a source are taken."""

    source: str
    """Folder or glob, as an absolute URL."""

    include: tuple[str, ...] = ()
    """Globs on the path below the source's folder: one must match, where there are any."""

    exclude: tuple[str, ...] = ()
    """Globs on the path below the source's folder: none may match."""

    limit: int | None = None
    """Take the first so many."""

    @property
    def folder(self) -> str:
        """The folder to list: the source up to its first wildcard; of a manifest, the folder that it stands in.

        >>> Selection("s3://bucket/dogs/Images/*/*.jpg").folder
        's3://bucket/dogs/Images'
        """
        magic = _MAGIC.search(self.source)
        if is_manifest(self.source):
            return self.source.rpartition("/")[0]
        return self.source if magic is None else self.source[: magic.start()].rpartition("/")[0]


def select(pages: Iterable[Iterable[Listed]], selection: Selection) -> Iterator[ImageRef]:
    """Yield the images of a listing in its order, lazily: the first page's before the second is asked for.

    They come without a label: labels may change while the plan stands.
    """
    admits = _admits(selection)
    images = (_ref(entry) for page in pages for entry in page if admits(entry.url))
    return islice(images, selection.limit)


def _ref(entry: Listed) -> ImageRef:
    return ImageRef(entry.url, entry.etag, entry.size_bytes)


class _admits:  # noqa: N801  a predicate: reads as the verb it is
    """Whether an image belongs to a selection, by its URL alone."""

    def __init__(self, selection: Selection) -> None:
        self._root = f"{selection.folder}/"
        is_glob = selection.source != selection.folder and not is_manifest(selection.source)
        self._glob = _pattern(selection.source) if is_glob else None
        self._include = [_pattern(glob) for glob in selection.include]
        self._exclude = [_pattern(glob) for glob in selection.exclude]

    def __call__(self, url: str) -> bool:
        if not url.lower().endswith(SUFFIXES):
            return False
        if self._glob is not None and not self._glob.fullmatch(url):
            return False
        below = url.removeprefix(self._root)
        if self._include and not any(pattern.fullmatch(below) for pattern in self._include):
            return False
        return not any(pattern.fullmatch(below) for pattern in self._exclude)


def _pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob: ``*`` stays within a folder, ``**`` crosses folders; without a slash it matches the name."""
    try:
        return re.compile(glob_translate(glob if "/" in glob else f"**/{glob}"))
    except (ValueError, re.error) as error:
        raise UsageError(f"the glob {glob} cannot be read: {error}") from error
