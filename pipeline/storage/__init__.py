"""Where bytes come from and go to: the one owner of fsspec."""

from pipeline.storage.connect import open_storage, options_from_environment, read_whole, resolve_url
from pipeline.storage.counting import counted_for, requests, requests_since_last
from pipeline.storage.interface import CHANGED, GONE, REFUSED, ReadFault, Storage, StorageOptions, StoredObject
from pipeline.storage.s3_errors import is_without_keys
from pipeline.storage.urls import join, redact

__all__ = [
    "CHANGED",
    "GONE",
    "REFUSED",
    "ReadFault",
    "Storage",
    "StorageOptions",
    "StoredObject",
    "counted_for",
    "is_without_keys",
    "join",
    "open_storage",
    "options_from_environment",
    "read_whole",
    "redact",
    "requests",
    "requests_since_last",
    "resolve_url",
]
