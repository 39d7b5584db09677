"""One object of S3 read with everything that can be known of it: faults sorted, ETags compared. Effects: S3."""

import asyncio
from dataclasses import dataclass
from functools import partial

from pipeline.errors import StorageError
from pipeline.storage.counting import count
from pipeline.storage.interface import CHANGED, TOO_BIG, ReadFault, StorageOptions, StoredObject
from pipeline.storage.s3_body import BodyReader, etag_of
from pipeline.storage.s3_client import S3Client
from pipeline.storage.s3_errors import S3_ERRORS, fault_of, is_answer, no_usable_answer
from pipeline.storage.urls import split_s3


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that another client made before, in vain."""

    error: Exception | None
    """None where it tells nothing: the next attempt need not wait."""

    took_s: float

    is_attempt: bool = True


NOT_TRIED = Tried(None, 0.0, is_attempt=False)


class S3Reader:
    """Reads objects by ``get_object``, one request for each attempt. Lives on the client's event loop."""

    def __init__(self, options: StorageOptions, client: S3Client, bodies: BodyReader) -> None:
        self._options = options
        self._client = client
        self._bodies = bodies

    async def read(self, url: str, etag: str, tried: Tried = NOT_TRIED) -> bytes | ReadFault:
        """Return the bytes of an object, or its fault; see `Storage.read_many`.

        Parameters
        ----------
        tried
            What was tried before; it counts as the first attempt.
        """
        deadline_s = max(self._options.read_deadline_s - tried.took_s, 0.0)
        get = partial(self._get, url, etag, set())
        try:
            return await self._client.attempt(
                url, "read", get, deadline_s, failed=tried.error, is_retry=tried.is_attempt
            )
        except MemoryError:
            return TOO_BIG
        except StorageError as error:
            fault = fault_of(error.__cause__)
            if fault is None and await self._is_well(split_s3(url)[0]):
                fault = no_usable_answer(error.__cause__)
            if fault is None:
                raise
            return fault

    async def stat(self, url: str) -> StoredObject | ReadFault:
        """Return an object's version and size, or its fault; see `Storage.stat_many`."""
        bucket, key = split_s3(url)
        head = partial(self._client.call, "head_object", bucket, Key=key)
        try:
            answer = await self._client.attempt(url, "stat", head, self._options.deadline_s)
        except StorageError as error:
            fault = fault_of(error.__cause__)
            if fault is None:
                raise
            return fault
        return StoredObject(url, etag_of(answer), answer["ContentLength"])

    async def _get(self, url: str, etag: str, seen: set[str]) -> bytes | ReadFault:
        bucket, key = split_s3(url)
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        answer = await self._client.call("get_object", bucket, Key=key, **condition)
        # Some servers ignore If-Match: the answer's own ETag decides.
        if etag not in ("", etag_of(answer)):
            answer["Body"].close()
            return CHANGED
        return await self._bodies.read(bucket, answer, seen)

    async def _is_well(self, bucket: str) -> bool:
        """Return whether the store answers at all, so that what fails is the object."""
        count(list=1)
        try:
            async with asyncio.timeout(self._options.deadline_s - self._options.read_deadline_s):
                await self._client.call("list_objects_v2", bucket, MaxKeys=1)
        except S3_ERRORS as error:
            return is_answer(error)
        return True
