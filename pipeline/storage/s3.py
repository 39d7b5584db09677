"""S3 and servers that speak its protocol: flat listings, one GET per object tied to its ETag, one PUT. Effects: S3."""

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import toolz
from botocore.exceptions import ClientError

from pipeline.errors import StorageError
from pipeline.storage.counting import count
from pipeline.storage.interface import CHANGED, GONE, TOO_BIG, ReadFault, StorageOptions, StoredObject
from pipeline.storage.s3_body import BodyReader, plain_etag
from pipeline.storage.s3_client import S3Client, split
from pipeline.storage.s3_errors import S3_ERRORS, UNMET, UNSUPPORTED, code_of, fault_of, is_answer, no_usable_answer

_PAGE = 1000
"""Objects that one listing or one deletion may name."""

_PROBE_SHARE = 0.2
"""Of a read's deadline, what is kept for asking whether it is the object or the store that does not answer."""


class S3Storage:
    """A `pipeline.storage.Storage` on S3 and on servers that speak its protocol."""

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self._client = S3Client(options)
        self._bodies = BodyReader()

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder in sorted order; see `Storage.list_pages`."""
        bucket, key = split(folder)
        request = {"Prefix": f"{key}/" if key else ""}
        while True:
            page = self._client.wait_for(
                folder, "list", partial(self._client.call, "list_objects_v2", bucket, **request)
            )
            yield [_stored(bucket, entry) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each object or its fault; see `Storage.read_many`."""
        return self._client.wait_for_all([partial(self._read, *item) for item in objects])

    def write(self, url: str, data: bytes) -> str:
        """Put an object whole and return its ETag; see `Storage.write`."""
        return self._client.wait_for(url, "write", partial(self._put, url, data))

    def write_new(self, url: str, data: bytes) -> bool:
        """Put an object where there is none; see `Storage.write_new`.

        On a server that ignores the condition, only one of two writers within the same instant is sure of its answer.
        """
        there = self._now(url)
        if there is None:
            self._put_first(url, data)
            there = self._now(url)
        return there == data

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects, a thousand with each request; see `Storage.delete`."""
        for some in toolz.partition_all(_PAGE, urls):
            for urls_of_one in toolz.groupby(lambda url: split(url)[0], some).values():
                self._delete(urls_of_one)

    def _delete(self, urls: Sequence[str]) -> None:
        try:
            self._client.wait_for(urls[0], "delete", partial(self._delete_at_once, urls))
        except StorageError as error:
            if len(urls) == 1 or code_of(error.__cause__) not in UNSUPPORTED:
                raise
            for url in urls:
                self._delete([url])

    async def _delete_at_once(self, urls: Sequence[str]) -> None:
        keys = [split(url)[1] for url in urls]
        bucket = split(urls[0])[0]
        if len(keys) == 1:
            await self._client.call("delete_object", bucket, Key=keys[0])
            return
        named = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = await self._client.call("delete_objects", bucket, Delete=named)
        for failure in answer.get("Errors", ()):
            raise ClientError({"Error": failure}, "DeleteObjects")

    def _now(self, url: str) -> bytes | None:
        body = self.read_many([(url, "")])[0]
        if isinstance(body, ReadFault) and body != GONE:
            raise StorageError(f"cannot write {url}, since what stands there cannot be read: {body.reason}")
        return None if isinstance(body, ReadFault) else body

    def _put_first(self, url: str, data: bytes) -> None:
        try:
            self._client.wait_for(url, "write", partial(self._put, url, data, IfNoneMatch="*"))
        except StorageError as error:
            code = code_of(error.__cause__)
            if code in UNSUPPORTED:
                self.write(url, data)
            elif code not in UNMET:
                raise

    async def _put(self, url: str, data: bytes, **condition: str) -> str:
        bucket, key = split(url)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        answer = await self._client.call("put_object", bucket, Key=key, Body=data, ContentMD5=digest, **condition)
        count(bytes_written=len(data))
        return plain_etag(answer)

    async def _read(self, url: str, etag: str) -> bytes | ReadFault:
        deadline_s = self._options.deadline_s * (1 - _PROBE_SHARE)
        try:
            return await self._client.attempt(url, "read", partial(self._get, url, etag, set()), deadline_s)
        except MemoryError:
            return TOO_BIG
        except StorageError as error:
            fault = fault_of(error.__cause__)
            if fault is None and await self._is_well(split(url)[0]):
                fault = no_usable_answer(error.__cause__)
            if fault is None:
                raise
            return fault

    async def _get(self, url: str, etag: str, seen: set[str]) -> bytes | ReadFault:
        bucket, key = split(url)
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        answer = await self._client.call("get_object", bucket, Key=key, **condition)
        # Some servers ignore If-Match: the answer's own ETag decides.
        if etag not in ("", plain_etag(answer)):
            answer["Body"].close()
            return CHANGED
        return await self._bodies.read(bucket, answer, seen)

    async def _is_well(self, bucket: str) -> bool:
        """Return whether the store answers at all, so that what fails is the object."""
        count(list=1)
        try:
            async with asyncio.timeout(self._options.deadline_s * _PROBE_SHARE):
                await self._client.call("list_objects_v2", bucket, MaxKeys=1)
        except S3_ERRORS as error:
            return is_answer(error)
        return True


def _stored(bucket: str, entry: dict[str, Any]) -> StoredObject:
    return StoredObject(f"s3://{bucket}/{entry['Key']}", plain_etag(entry), entry["Size"])
