"""A bucket as obstore opens it: in the place and with the keys that botocore uses, and without retries of its own.

Effects: reads the AWS settings.
"""

import os
from datetime import timedelta
from typing import Any

from obstore.fsspec import FsspecStore
from obstore.store import ObjectStore

from pipeline.storage.interface import StorageOptions
from pipeline.storage.s3_place import Keyring, Place, root_certificates

CONNECT_S = 5.0


def open_bucket(options: StorageOptions, bucket: str, place: Place) -> ObjectStore | None:
    """Return the store of a bucket; None where obstore would go elsewhere than botocore, or sign in another way."""
    is_signed_alike = options.anon or place.region is not None
    # obstore lets this variable overrule what it is told.
    is_sent_alike = os.environ.get("AWS_ENDPOINT_URL_S3", place.endpoint).rstrip("/") == place.endpoint
    if not (is_signed_alike and is_sent_alike):
        return None
    settings: dict[str, Any] = {
        "endpoint": place.endpoint,
        "region": place.region or "us-east-1",
        "virtual_hosted_style_request": place.is_virtual_host,
        "skip_signature": options.anon,
        "request_payer": options.requester_pays,
        "credential_provider": None if options.anon else Keyring(),
    }
    filesystem = FsspecStore(
        "s3", client_options=_client_options(options, place), retry_config={"max_retries": 0}, **settings
    )
    # fsspec's own `cat_file` knows neither If-Match nor the answer's ETag; the store below it does.
    return filesystem._construct_store(bucket)


def is_plain(key: str) -> bool:
    """Return whether a key means the same as a path, which is how obstore names it.

    >>> [is_plain(key) for key in ("dogs/1.jpg", "dogs//1.jpg", "dogs/../1.jpg", "dogs/")]
    [True, False, False, False]
    """
    return not {"", ".", ".."}.intersection(key.split("/"))


def _client_options(options: StorageOptions, place: Place) -> Any:
    client = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=options.attempt_s),
        "timeout": timedelta(seconds=options.read_deadline_s),
    }
    return client | ({"root_certificate": root_certificates()} if place.endpoint.startswith("https:") else {})
