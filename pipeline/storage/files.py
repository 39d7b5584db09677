"""Any fsspec filesystem as a storage: local disks and memory in the first place. Effects: that filesystem.

Such stores have no ETag: what fsspec tells of an object (size and times) stands for its version.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import toolz
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import StorageError
from pipeline.storage import local
from pipeline.storage.counting import count, counted_alike
from pipeline.storage.interface import CHANGED, GONE, REFUSED, TOO_BIG, ReadFault, StoredObject
from pipeline.storage.urls import redact

_PAGE = 1000
_CONCURRENCY = 8

_FAULTS_OF_ONE_FILE = {errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP, errno.EIO, errno.EINVAL}


class FileStorage:
    """A `pipeline.storage.Storage` on an fsspec filesystem without ETags."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs
        self._creating = threading.Lock()

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder in sorted order; see `Storage.list_pages`."""
        count(list=1)
        try:
            found = self._fs.find(folder, detail=True)
        except Exception as error:
            raise _storage_error("list", folder, error) from error
        objects = [self._stored(found[path]) for path in sorted(found)]
        yield from map(list, toolz.partition_all(_PAGE, objects))

    def stat_many(self, urls: Sequence[str]) -> list[StoredObject | ReadFault]:
        """Return what a listing would tell of each object; see `Storage.stat_many`."""
        return [self._stat(url) for url in urls]

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each object or its fault; see `Storage.read_many`."""
        with ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="read") as pool:
            urls, etags = ([item[i] for item in objects] for i in (0, 1))
            return list(pool.map(counted_alike(self._read), urls, etags))

    def write(self, url: str, data: bytes) -> str:
        """Put an object whole and return what stands for its ETag; see `Storage.write`."""
        return self._put(url, data, is_new=False)

    def write_new(self, url: str, data: bytes) -> bool:
        """Put an object where there is none; see `Storage.write_new`."""
        with contextlib.suppress(FileExistsError):
            self._put(url, data, is_new=True)
        return self._read(url, "") == data

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; see `Storage.delete`."""
        for url in urls:
            count(delete=1)
            try:
                self._fs.rm_file(self._fs._strip_protocol(url))
            except FileNotFoundError:
                continue
            except Exception as error:
                raise _storage_error("delete", url, error) from error

    def _stat(self, url: str) -> StoredObject | ReadFault:
        count(stat=1)
        try:
            return self._stored(self._fs.info(self._fs._strip_protocol(url)))
        except Exception as error:
            fault = _fault_of(error)
            if fault is None:
                raise _storage_error("stat", url, error) from error
            return fault

    def _put(self, url: str, data: bytes, *, is_new: bool) -> str:
        """Put an object, or raise `FileExistsError` where a new one is asked for and there is one."""
        count(write=1)
        path = self._fs._strip_protocol(url)
        try:
            self._fs.makedirs(self._fs._parent(path), exist_ok=True)
            self._write_whole(path, data, is_new=is_new)
            etag = self._stored(self._fs.info(path)).etag
        except Exception as error:
            if is_new and isinstance(error, FileExistsError):
                raise
            raise _storage_error("write", url, error) from error
        count(bytes_written=len(data))
        return etag

    def _write_whole(self, path: str, data: bytes, *, is_new: bool) -> None:
        if isinstance(self._fs, LocalFileSystem):
            (local.create if is_new else local.replace)(path, data)
        elif is_new:
            self._create(path, data)
        else:
            self._fs.pipe_file(path, data)

    def _create(self, path: str, data: bytes) -> None:
        with self._creating:  # some filesystems only look first, and some do not know the mode
            if self._fs.exists(path):
                raise FileExistsError
            self._fs.pipe_file(path, data, mode="create")

    def _read(self, url: str, etag: str) -> bytes | ReadFault:
        count(read=1)
        path = self._fs._strip_protocol(url)
        try:
            data: bytes = self._fs.cat_file(path)
            now = self._stored(self._fs.info(path))
        except Exception as error:
            fault = _fault_of(error)
            if fault is None:
                raise _storage_error("read", url, error) from error
            return fault
        count(bytes_read=len(data))
        return data if etag in ("", now.etag) else CHANGED

    def _stored(self, info: dict[str, Any]) -> StoredObject:
        changed = next((info[key] for key in ("mtime", "LastModified", "created") if key in info), "")
        if isinstance(changed, datetime):  # fsspec's memory lists a number and informs with a datetime
            changed = changed.timestamp()
        size_bytes = -1 if info["size"] is None else int(info["size"])
        etag = str(info.get("ETag") or f"{size_bytes}-{changed}").strip('"')
        return StoredObject(self._fs.unstrip_protocol(info["name"]), etag, size_bytes)


def _fault_of(error: Exception) -> ReadFault | None:
    """Return the fault of one file that an error names; None is a fault of the whole filesystem."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError, KeyError)):
        return GONE
    if isinstance(error, PermissionError):
        return REFUSED
    if isinstance(error, MemoryError):
        return TOO_BIG
    if isinstance(error, OSError) and error.errno in _FAULTS_OF_ONE_FILE:
        return ReadFault(os.strerror(error.errno).lower())
    return None


def _storage_error(verb: str, url: str, error: Exception) -> StorageError:
    """Name a fault. Only an OSError's words are passed on: an HTTP client's may hold a signed URL."""
    reason = str(error) if isinstance(error, OSError) and "://" not in str(error) else type(error).__name__
    return StorageError(f"cannot {verb} {redact(url)}: {reason}")
