"""Any fsspec filesystem as a storage: local disks and memory in the first place.

Such stores have no ETag: what fsspec tells of an object (size and times) stands for its version.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import toolz
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import StorageError
from pipeline.storage.interface import CHANGED, GONE, REFUSED, ReadFault, StoredObject
from pipeline.storage.urls import redact

_PAGE = 1000


class FileStorage:
    """A `pipeline.storage.Storage` on an fsspec filesystem without ETags."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs

    def list_pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield every object below a folder in sorted order; see `Storage.list_pages`."""
        try:
            found = self._fs.find(folder, detail=True)
        except Exception as error:
            raise _storage_error("list", folder, error) from error
        objects = [self._stored(found[path]) for path in sorted(found)]
        yield from map(list, toolz.partition_all(_PAGE, objects))

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | ReadFault]:
        """Return the bytes of each object or its fault; see `Storage.read_many`."""
        return [self._read(url, etag) for url, etag in objects]

    def write(self, url: str, data: bytes) -> None:
        """Put an object whole; see `Storage.write`."""
        path = self._fs._strip_protocol(url)
        try:
            self._fs.makedirs(self._fs._parent(path), exist_ok=True)
            self._replace(path, data)
        except Exception as error:
            raise _storage_error("write", url, error) from error

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; see `Storage.delete`."""
        for url in urls:
            try:
                self._fs.rm_file(self._fs._strip_protocol(url))
            except FileNotFoundError:
                continue
            except Exception as error:
                raise _storage_error("delete", url, error) from error

    def _replace(self, path: str, data: bytes) -> None:
        """Write beside the target, then rename: on a POSIX disk a reader never sees half a file.

        A process killed in between leaves a hidden file, which readers of Parquet folders pass over.
        """
        if not isinstance(self._fs, LocalFileSystem):
            self._fs.pipe_file(path, data)
            return
        half = Path(path).with_name(f".{Path(path).name}.{uuid4().hex}.partial")
        try:
            half.write_bytes(data)
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)

    def _read(self, url: str, etag: str) -> bytes | ReadFault:
        path = self._fs._strip_protocol(url)
        try:
            data: bytes = self._fs.cat_file(path)
            now = self._stored(self._fs.info(path))
        except (FileNotFoundError, KeyError):
            return GONE
        except PermissionError:
            return REFUSED
        except Exception as error:
            raise _storage_error("read", url, error) from error
        return data if etag in ("", now.etag) else CHANGED

    def _stored(self, info: dict[str, Any]) -> StoredObject:
        changed = next((info[key] for key in ("mtime", "LastModified", "created") if key in info), "")
        if isinstance(changed, datetime):  # fsspec's memory lists a number and informs with a datetime
            changed = changed.timestamp()
        size_bytes = -1 if info["size"] is None else int(info["size"])
        etag = str(info.get("ETag") or f"{size_bytes}-{changed}").strip('"')
        return StoredObject(self._fs.unstrip_protocol(info["name"]), etag, size_bytes)


def _storage_error(verb: str, url: str, error: Exception) -> StorageError:
    """Name a fault. Only an OSError's words are passed on: an HTTP client's may hold a signed URL."""
    reason = str(error) if isinstance(error, OSError) and "://" not in str(error) else type(error).__name__
    return StorageError(f"cannot {verb} {redact(url)}: {reason}")
