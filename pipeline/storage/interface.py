"""What the pipeline asks of a store, whichever keeps the bytes. Pure: the contract only.

Faults come in three kinds, and every implementation sorts them alike: a fault of *one object* (gone, replaced, refused)
is returned as a `ReadFault`; a *transient* fault is retried until the deadline; what is left (no answer, no bucket, no
credentials, no space) is a `pipeline.errors.StorageError` that names the place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach a store. Travels to the workers, so it holds no key: each process finds its own."""

    anon: bool = False
    """Send unsigned requests, as public buckets allow."""

    requester_pays: bool = False
    """Agree to pay for the requests, as some public buckets ask."""

    endpoint_url: str | None = None
    """The S3 endpoint; None is AWS."""

    region: str | None = None

    deadline_s: float = 60.0
    """Seconds after which a request, with all its retries, is given up."""

    attempt_s: float = 20.0
    """Seconds of silence after which a single attempt is given up."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing."""

    url: str
    etag: str
    """Changes whenever the bytes do; without quotes."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReadFault:
    """Why one object could not be read, though its store answers."""

    reason: str


CHANGED = ReadFault("changed since it was listed")
GONE = ReadFault("gone since it was listed")
REFUSED = ReadFault("access denied")


class Storage(Protocol):
    """A store of objects with URLs. Safe to share between threads."""

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder, in sorted order, at most 1,000 at a time."""

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each (url, etag), concurrently, or why there are none.

        Bytes of any other version than `etag` are never returned; an empty `etag` accepts every version.
        """

    def write(self, url: str, data: bytes) -> None:
        """Put an object whole: readers see all of it or nothing of it."""

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; those that are not there are no fault."""
