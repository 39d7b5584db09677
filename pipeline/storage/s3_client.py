"""A session with S3 that serves all threads of a process. Effects: one event loop's connections.

s3fs and botocore both retry by default and multiply each other; here botocore makes a single attempt, s3fs lends its
session alone, and `pipeline.storage.retries` repeats.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from fsspec.asyn import sync
from s3fs import S3FileSystem

from pipeline.errors import StorageError
from pipeline.storage.interface import StorageOptions
from pipeline.storage.retries import Retries
from pipeline.storage.s3_errors import S3_ERRORS, explain
from pipeline.storage.s3_place import Place, place_of
from pipeline.storage.urls import split_s3

T = TypeVar("T")

_CONCURRENCY = 32
"""Requests at a time, of all threads of this process: as many as there are connections, so that none waits for one."""

_bucket: ContextVar[str] = ContextVar("_bucket")
"""Whose object the request is for that this task of the event loop makes."""


class S3Client:
    """Makes requests with a deadline, from any thread, on fsspec's own event loop."""

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self._payer = {"RequestPayer": "requester"} if options.requester_pays else {}
        self._retries = Retries(longest_pause_s=min(5.0, options.deadline_s / 10))
        self._slots = asyncio.Semaphore(_CONCURRENCY)
        self._places: dict[str, Place | None] = {}
        self._watched: Any = None
        self._fs = S3FileSystem(
            anon=options.anon,
            endpoint_url=options.endpoint_url,
            client_kwargs={"region_name": options.region} if options.region else {},
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "max_pool_connections": _CONCURRENCY,
                "connect_timeout": 5,
                "read_timeout": options.attempt_s,
                # Newer checksums frame the body in a way that some servers store with it; Content-MD5 is as old as S3.
                "request_checksum_calculation": "when_required",
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def wait_for(self, url: str, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `attempt` returns, to a thread that is not the event loop's."""
        return sync(self._fs.loop, self.attempt, url, verb, call, self._options.deadline_s)  # type: ignore[no-any-return]

    def wait_for_all(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """Return what all calls return, made concurrently; the first that raises ends the others."""
        return sync(self._fs.loop, self._gather, calls)  # type: ignore[no-any-return]

    def place_of(self, bucket: str) -> Place | None:
        """Return where the last object read from a bucket was asked for; None if none was, or nobody can tell."""
        return self._places.get(bucket)

    async def attempt(
        self, url: str, verb: str, call: Callable[[], Awaitable[T]], deadline_s: float, **before: Any
    ) -> T:
        """Return what a call returns, repeated until it succeeds, fails for good, or the deadline has passed.

        Parameters
        ----------
        before
            What `Retries.run` should know of an attempt that was made before.

        Raises
        ------
        StorageError
            That names the place and what to do, caused by the last attempt's own error.
        """
        try:
            return await self._retries.run(verb, call, deadline_s, **before)
        except S3_ERRORS as error:
            where = f"{verb} {url} at {self._options.endpoint_url or 'AWS'}"
            what = explain(error, split_s3(url)[0], self._options.deadline_s)
            raise StorageError(f"cannot {where}: {what}") from error

    async def call(self, method: str, bucket: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a single request."""
        client = await self._fs.set_session()
        if client is not self._watched:
            client.meta.events.register("before-send.s3.GetObject", self._note_place)
            self._watched = client
        _bucket.set(bucket)
        return await getattr(client, method)(Bucket=bucket, **self._payer, **parameters)  # type: ignore[no-any-return]

    def _note_place(self, request: Any, **_: Any) -> None:
        bucket = _bucket.get()
        self._places[bucket] = place_of(bucket, request.url, request.headers)

    async def _gather(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        async def in_slot(call: Callable[[], Awaitable[T]]) -> T:
            async with self._slots:
                return await call()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(in_slot(call)) for call in calls]
        except ExceptionGroup as errors:
            first = errors.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise first  # out here it is not bound to the group that holds it: a circle cannot travel to the client
