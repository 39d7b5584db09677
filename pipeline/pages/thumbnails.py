"""Images of a table as the model saw them, read back from their source with the run's own care. Effects: storage."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.isolation import decode_apart
from pipeline.errors import StorageError
from pipeline.pages.pictures import jpeg
from pipeline.records import ImageFailure, ImageRef, Sample, Transform
from pipeline.storage import ReadFault, StorageOptions, open_storage

SIDE = 168
"""Pixels of a thumbnail's side; 24 of them take about 200 kB."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture, or why there is none."""

    picture: str | None
    """A data URI."""

    why_not: str = ""


def thumbnails(refs: Sequence[ImageRef], transform: Transform, options: StorageOptions) -> list[Thumbnail]:
    """Return what the model saw of each image, at the version that it was scored, or why it cannot be shown."""
    if not refs:
        return []
    try:
        bodies = open_storage(refs[0].url, options).read_many([(ref.url, ref.etag) for ref in refs])
    except StorageError:
        return [Thumbnail(None, "its source cannot be read")] * len(refs)
    read = [(ref, body) for ref, body in zip(refs, bodies, strict=True) if isinstance(body, bytes)]
    decoded = iter(decode_apart(read, transform))
    return [_thumbnail(body if isinstance(body, ReadFault) else next(decoded)) for body in bodies]


def _thumbnail(found: Sample | ImageFailure | ReadFault) -> Thumbnail:
    return Thumbnail(jpeg(found.pixels, SIDE)) if isinstance(found, Sample) else Thumbnail(None, found.reason)
