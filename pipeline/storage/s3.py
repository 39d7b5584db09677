"""S3 through s3fs: flat listings, one GET per object tied to its ETag, one PUT, and one level of retries.

s3fs and botocore both retry by default and multiply each other; here both make a single attempt, and
`stamina <https://stamina.hynek.me>`_ alone repeats it, with jitter, until the deadline.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import stamina
from aiohttp import ClientError as AiohttpError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as BotoConnectionError
from fsspec.asyn import sync
from s3fs import S3FileSystem

from pipeline.errors import StorageError
from pipeline.storage.interface import CHANGED, GONE, REFUSED, ReadFault, StorageOptions, StoredObject

T = TypeVar("T")

_CONCURRENCY = 32
"""Requests at a time, of all threads of this process: as many as there are connections, so that none waits for one."""

# A retry is routine: a line for each would bury what matters.
logging.getLogger("stamina").setLevel(logging.ERROR)

_SICK_ACCOUNT = {
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "InvalidToken": "the session token is invalid",
    "NoSuchBucket": "there is no such bucket",
}
_FAULTS = {"NoSuchKey": GONE, "404": GONE, "PreconditionFailed": CHANGED, "412": CHANGED}
_REFUSALS = {"AccessDenied", "403", "InvalidObjectState", "AllAccessDisabled"}
_THROTTLES = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestTimeTooSkewed"}


class S3Storage:
    """A `pipeline.storage.Storage` on S3 and on servers that speak its protocol."""

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self._fs = S3FileSystem(
            anon=options.anon,
            requester_pays=options.requester_pays,
            endpoint_url=options.endpoint_url,
            client_kwargs={"region_name": options.region} if options.region else {},
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "max_pool_connections": _CONCURRENCY,
                "connect_timeout": 5,
                "read_timeout": options.attempt_s,
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        self._fs.retries = 1
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder in sorted order; see `Storage.list_pages`."""
        bucket, key = self._split(folder)
        request = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
        while True:
            page = self._sync(folder, "list", partial(self._fs._call_s3, "list_objects_v2", **request))
            yield [self._stored(bucket, entry) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each object or its fault; see `Storage.read_many`."""
        return sync(self._fs.loop, self._gather, [partial(self._read, *item) for item in objects])  # type: ignore[no-any-return]

    def write(self, url: str, data: bytes) -> None:
        """Put an object whole; see `Storage.write`."""
        bucket, key = self._split(url)
        self._sync(url, "write", partial(self._fs._call_s3, "put_object", Bucket=bucket, Key=key, Body=data))

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; see `Storage.delete`."""
        sync(self._fs.loop, self._gather, [partial(self._delete, url) for url in urls])

    async def _delete(self, url: str) -> None:
        bucket, key = self._split(url)
        await self._attempt(url, "delete", partial(self._fs._call_s3, "delete_object", Bucket=bucket, Key=key))

    async def _read(self, url: str, etag: str) -> bytes | ReadFault:
        try:
            return await self._attempt(url, "read", partial(self._get, url, etag))
        except StorageError as error:
            code = _code(error.__cause__)
            if code in _REFUSALS:
                return REFUSED
            if code in _FAULTS:
                return _FAULTS[code]
            raise

    async def _get(self, url: str, etag: str) -> bytes | ReadFault:
        bucket, key = self._split(url)
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        response = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, **condition)
        async with response["Body"] as body:
            data: bytes = await body.read()
        # Some servers ignore If-Match: the answer's own ETag decides.
        return data if etag in ("", response["ETag"].strip('"')) else CHANGED

    async def _gather(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        async def in_slot(call: Callable[[], Awaitable[T]]) -> T:
            async with self._slots:
                return await call()

        return await asyncio.gather(*map(in_slot, calls))

    def _sync(self, url: str, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        return sync(self._fs.loop, self._attempt, url, verb, call)  # type: ignore[no-any-return]

    async def _attempt(self, url: str, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, fails for good, or the deadline has passed."""
        attempts = stamina.retry_context(on=_is_transient, attempts=None, timeout=self._options.deadline_s)
        try:
            async for attempt in attempts:
                with attempt:
                    return await asyncio.wait_for(call(), self._options.deadline_s)
        except (OSError, BotoCoreError, ClientError, AiohttpError) as error:
            raise StorageError(self._explain(url, verb, error)) from error
        raise AssertionError("stamina ends with a result or an exception")

    def _explain(self, url: str, verb: str, error: Exception) -> str:
        bucket = self._split(url)[0]
        where = f"{verb} {url} at {self._options.endpoint_url or 'AWS'}"
        code = _code(error)
        if isinstance(error, NoCredentialsError):
            return f"cannot {where}: no credentials found; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        if code in _SICK_ACCOUNT:
            return f"cannot {where}: {_SICK_ACCOUNT[code]} (bucket {bucket}, {code})"
        if code in _REFUSALS:
            return f"cannot {where}: access to bucket {bucket} denied ({code}); check the credentials' rights"
        if _is_transient(error):
            return f"cannot {where}: no usable answer within {self._options.deadline_s:g} s ({_brief(error)})"
        return f"cannot {where}: {_brief(error)}"

    def _split(self, url: str) -> tuple[str, str]:
        bucket, _, key = url.partition("://")[2].partition("/")
        return bucket, key

    def _stored(self, bucket: str, entry: dict[str, Any]) -> StoredObject:
        return StoredObject(f"s3://{bucket}/{entry['Key']}", entry["ETag"].strip('"'), entry["Size"])


def _code(error: BaseException | None) -> str:
    """Return S3's own code of an error that s3fs may have translated to a builtin one."""
    while error is not None:
        if isinstance(error, ClientError):
            return str(error.response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def _is_transient(error: Exception) -> bool:
    cause = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or _code(cause) in _THROTTLES
    return isinstance(error, (TimeoutError, ConnectionError, HTTPClientError, BotoConnectionError, AiohttpError))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
