"""Images read by obstore, in a fraction of s3fs's time: the first attempt at whatever an ETag vouches for.

obstore tells neither an answer's encryption nor its checksums, and S3's own code of an error only in prose; some keys
it cannot name. So what it reads is taken if it is what the ETag says, as nearly all is; whatever else comes is an
attempt that failed, and `pipeline.storage.s3_reading` goes on from there, with a client that sees it all. Effects: S3.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, GenericError, PreconditionError
from obstore.store import ObjectStore

from pipeline.storage.counting import count, counted_alike
from pipeline.storage.interface import CHANGED, ENDS_EARLY, GONE, MISMATCH, ReadFault, StorageOptions
from pipeline.storage.obstore_store import is_plain, open_bucket
from pipeline.storage.s3_body import BodyReader, DamagedBodyError, plain_etag
from pipeline.storage.s3_place import Place
from pipeline.storage.s3_reading import NOT_TRIED, Tried
from pipeline.storage.urls import split_s3

_CONCURRENCY = 16
"""Requests at a time of one call; several threads call."""

_LARGE_BYTES = 1 << 28
"""From here on, memory may run out: there Python raises an error, and Rust ends the process."""

_FAILURES_BEFORE_REST = 32
_REST_S = 60.0

if TYPE_CHECKING:
    from obstore import GetResult  # there for type checkers only

log = logging.getLogger("pipeline")


class ObstoreReader:
    """Makes the first attempt at objects, from any thread. After 32 failures in a row it leaves a minute to s3fs."""

    def __init__(self, options: StorageOptions, bodies: BodyReader, place_of: Callable[[str], Place | None]) -> None:
        self._options = options
        self._bodies = bodies
        self._place_of = place_of
        self._stores: dict[str, ObjectStore | None] = {}
        self._lock = threading.Lock()
        self._n_failures_in_a_row = 0
        self._rests_until = 0.0

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault | Tried]:
        """Return the bytes of each (url, etag), or its fault, or what was tried in vain."""
        if not any(self._is_ours(*item) for item in objects):
            return [NOT_TRIED] * len(objects)
        with ThreadPoolExecutor(min(_CONCURRENCY, len(objects)), thread_name_prefix="obstore") as pool:
            return list(pool.map(counted_alike(self._try), *zip(*objects, strict=True)))

    def _is_ours(self, url: str, etag: str) -> bool:
        bucket, key = split_s3(url)
        is_known = self._bodies.is_vouched_for(bucket, etag) and is_plain(key)
        return is_known and time.monotonic() >= self._rests_until

    def _try(self, url: str, etag: str) -> bytes | ReadFault | Tried:
        bucket, key = split_s3(url)
        store = self._store(bucket) if self._is_ours(url, etag) else None
        if store is None:
            return NOT_TRIED
        began = time.monotonic()
        count(read=1)
        try:
            answer = self._get(store, key, etag)
            self._n_failures_in_a_row = 0
            return answer
        except Exception as error:  # noqa: BLE001  whatever it is, a client that sees more decides
            took_s = time.monotonic() - began
            self._note_failure(error)
            return Tried(_translated(error, took_s >= self._options.attempt_s), took_s)

    def _get(self, store: ObjectStore, key: str, etag: str) -> bytes | ReadFault:
        try:
            answer = obstore.get(store, key, options={"if_match": f'"{etag}"'})
        except PreconditionError:
            return CHANGED
        except FileNotFoundError as error:
            if "<Code>NoSuchKey</Code>" in str(error):
                return GONE
            raise
        # Some servers ignore If-Match: the answer's own ETag decides.
        return self._body(answer) if plain_etag(answer.meta["e_tag"]) == etag else CHANGED

    def _body(self, answer: "GetResult") -> bytes:
        if answer.meta["size"] >= _LARGE_BYTES:
            raise MemoryError
        try:
            data = answer.bytes().to_bytes()
        except BaseError as error:
            raise DamagedBodyError(ENDS_EARLY) from error
        count(bytes_read=len(data))
        if not self._bodies.is_what_etag_says(plain_etag(answer.meta["e_tag"]), data):
            raise DamagedBodyError(MISMATCH)
        return data

    def _note_failure(self, error: Exception) -> None:
        self._n_failures_in_a_row += 1
        if self._n_failures_in_a_row >= _FAILURES_BEFORE_REST:
            self._n_failures_in_a_row = 0
            self._rests_until = time.monotonic() + _REST_S
            log.warning(
                "obstore failed %d times in a row (last: %s); s3fs reads for %g s",
                _FAILURES_BEFORE_REST,
                type(error).__name__,
                _REST_S,
            )

    def _store(self, bucket: str) -> ObjectStore | None:
        """Return what reads a bucket; None where obstore cannot be brought to where botocore goes."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._opened(bucket)
            return self._stores[bucket]

    def _opened(self, bucket: str) -> ObjectStore | None:
        place = self._place_of(bucket)
        try:
            return None if place is None else open_bucket(self._options, bucket, place)
        except Exception as error:  # noqa: BLE001  whatever it is, there is a client that could
            log.warning("obstore cannot open bucket %s (%s): s3fs reads it", bucket, type(error).__name__)
            return None


def _translated(error: Exception, is_silence: bool) -> Exception | None:
    """Return what an error is to our retries: one that may pass; None where the next attempt need not wait."""
    if is_silence:
        return TimeoutError()
    if isinstance(error, DamagedBodyError):
        return error
    # An answer (403, 404) or a mistake of ours is the other client's to judge; the rest is the network's or a 5xx.
    return ConnectionError(type(error).__name__) if isinstance(error, GenericError) else None
