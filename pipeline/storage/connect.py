"""From a URL to the storage that serves it: one per process and options, however many threads ask."""

import os
import threading

import fsspec
from fsspec import AbstractFileSystem
from fsspec.core import split_protocol

from pipeline.errors import StorageError, UsageError
from pipeline.storage.files import FileStorage
from pipeline.storage.interface import GONE, ReadFault, Storage, StorageOptions
from pipeline.storage.s3 import S3Storage
from pipeline.storage.urls import redact

_S3_PROTOCOLS = ("s3", "s3a")

_open: dict[tuple[str, StorageOptions], Storage] = {}
_lock = threading.Lock()


def open_storage(url: str, options: StorageOptions) -> Storage:
    """Return this process's storage for a URL.

    Raises
    ------
    UsageError
        If the URL's protocol is unknown, or its package is not installed.
    """
    protocol = _protocol(url)
    with _lock:
        key = (protocol, options)
        if key not in _open:
            _open[key] = _connect(protocol, options)
        return _open[key]


def read_whole(url: str, options: StorageOptions) -> bytes:
    """Return the bytes of whatever version of an object there is.

    Raises
    ------
    StorageError
        If there is none, or it cannot be read.
    """
    url = resolve_url(url)
    data = open_storage(url, options).read_many([(url, "")])[0]
    if isinstance(data, ReadFault):
        raise StorageError(f"cannot read {redact(url)}: {'no such object' if data is GONE else data.reason}")
    return data


def options_from_environment(
    *, anon: bool = False, requester_pays: bool = False, s3_client: str = "auto"
) -> StorageOptions:
    """Return the options that the standard AWS variables name, without any key; an empty variable names nothing."""
    return StorageOptions(
        anon=anon,
        requester_pays=requester_pays,
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        s3_client=s3_client,
    )


def resolve_url(location: str) -> str:
    """Return a location as its store spells it, absolute and without a trailing slash.

    >>> resolve_url("s3://bucket/dogs/")
    's3://bucket/dogs'
    >>> resolve_url("/data/dogs")
    'file:///data/dogs'
    """
    protocol = _protocol(location)
    if protocol in _S3_PROTOCOLS:
        return "s3://" + location.partition("://")[2].rstrip("/")
    fs = _filesystem(protocol)
    return str(fs.unstrip_protocol(fs._strip_protocol(location))).rstrip("/")


def _connect(protocol: str, options: StorageOptions) -> Storage:
    return S3Storage(options) if protocol in _S3_PROTOCOLS else FileStorage(_filesystem(protocol))


def _protocol(location: str) -> str:
    return split_protocol(location)[0] or "file"


def _filesystem(protocol: str) -> AbstractFileSystem:
    try:
        return fsspec.filesystem(protocol)
    except (ValueError, ImportError) as error:
        raise UsageError(f"cannot open {protocol}:// locations: {error}") from error
