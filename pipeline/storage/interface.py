"""What the pipeline asks of a store, whichever keeps the bytes. Pure: the contract only.

Faults come in three kinds, and every implementation sorts them alike: a fault of *one object* (gone, replaced, refused)
is returned as a `ReadFault`; a *transient* fault is retried until the deadline; what is left (no answer, no bucket, no
credentials, no space) is a `pipeline.errors.StorageError` that names the place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

_PROBE_SHARE = 0.2


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

    s3_client: str = "auto"
    """What reads from S3: 's3fs', or 'obstore' wherever an ETag vouches for the bytes and s3fs elsewhere; 'auto' is the
    faster, obstore."""

    deadline_s: float = 60.0
    """Seconds after which a request, with all its retries, is given up."""

    attempt_s: float = 20.0
    """Seconds of silence after which a single attempt is given up."""

    def within(self, deadline_s: float) -> "StorageOptions":
        """Return the same for a check that should be over in so many seconds."""
        return replace(self, deadline_s=deadline_s, attempt_s=deadline_s / 2)

    @property
    def read_deadline_s(self) -> float:
        """Seconds for all attempts at one object; the rest goes into asking whether it is the store that fails."""
        return self.deadline_s * (1 - _PROBE_SHARE)


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
    """In words that are the same for every object with this fault: they are counted."""


CHANGED = ReadFault("changed since it was listed")
GONE = ReadFault("gone since it was listed")
REFUSED = ReadFault("access denied")
ENDS_EARLY = ReadFault("the body ends early")
MISMATCH = ReadFault("the bytes do not match their ETag")
TOO_BIG = ReadFault("does not fit into memory")


class Storage(Protocol):
    """A store of objects with URLs. Safe to share between threads."""

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder, in sorted order, at most 1,000 at a time."""

    def stat_many(self, urls: Sequence[str]) -> list[StoredObject | ReadFault]:
        """Return what a listing would tell of each object, concurrently, or why it cannot be told."""

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each (url, etag), concurrently, or why there are none.

        Bytes of any other version than `etag` are never returned; an empty `etag` accepts every version.
        """

    def write(self, url: str, data: bytes) -> str:
        """Put an object whole, and return its ETag as a listing spells it: readers see all of it or nothing of it."""

    def write_new(self, url: str, data: bytes) -> bool:
        """Put an object whole where there is none, and return whether exactly these bytes stand there afterwards.

        So it is no matter whether the bytes are this call's, an earlier attempt's or an equal writer's; other bytes are
        left as they are.
        """

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; those that are not there are no fault."""
