"""S3 and servers that speak its protocol: flat listings, one GET per object tied to its ETag, one PUT. Effects: S3."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import toolz
from botocore.exceptions import ClientError

from pipeline.errors import StorageError
from pipeline.storage.counting import count
from pipeline.storage.interface import GONE, ReadFault, StorageOptions, StoredObject
from pipeline.storage.obstore_reader import ObstoreReader
from pipeline.storage.s3_body import BodyReader, etag_of
from pipeline.storage.s3_client import S3Client
from pipeline.storage.s3_errors import UNMET, UNSUPPORTED, code_of
from pipeline.storage.s3_reading import NOT_TRIED, S3Reader, Tried
from pipeline.storage.urls import split_s3

_PAGE = 1000
"""Objects that one listing or one deletion may name."""


class S3Storage:
    """A `pipeline.storage.Storage` on S3 and on servers that speak its protocol."""

    def __init__(self, options: StorageOptions) -> None:
        bodies = BodyReader()
        self._client = S3Client(options)
        self._reader = S3Reader(options, self._client, bodies)
        self._first = None if options.s3_client == "s3fs" else ObstoreReader(options, bodies, self._client.place_of)

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder in sorted order; see `Storage.list_pages`."""
        bucket, key = split_s3(folder)
        request = {"Prefix": f"{key}/" if key else ""}
        while True:
            page = self._client.wait_for(
                folder, "list", partial(self._client.call, "list_objects_v2", bucket, **request)
            )
            yield [_stored(bucket, entry) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def stat_many(self, urls: Sequence[str]) -> list[StoredObject | ReadFault]:
        """Return what a listing would tell of each object; see `Storage.stat_many`."""
        return self._client.wait_for_all([partial(self._reader.stat, url) for url in urls])

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each object or its fault; see `Storage.read_many`."""
        tried = self._first.read_many(objects) if self._first else [NOT_TRIED] * len(objects)
        left = [(item, before) for item, before in zip(objects, tried, strict=True) if isinstance(before, Tried)]
        read = iter(self._client.wait_for_all([partial(self._reader.read, *item, before) for item, before in left]))
        return [next(read) if isinstance(body, Tried) else body for body in tried]

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
            for urls_of_one in toolz.groupby(lambda url: split_s3(url)[0], some).values():
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
        keys = [split_s3(url)[1] for url in urls]
        bucket = split_s3(urls[0])[0]
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
        bucket, key = split_s3(url)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        answer = await self._client.call("put_object", bucket, Key=key, Body=data, ContentMD5=digest, **condition)
        count(bytes_written=len(data))
        return etag_of(answer)


def _stored(bucket: str, entry: dict[str, Any]) -> StoredObject:
    return StoredObject(f"s3://{bucket}/{entry['Key']}", etag_of(entry), entry["Size"])
