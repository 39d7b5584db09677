"""Where a bucket answers, and with what keys: as botocore decides it, for a client that would decide otherwise.

Profiles, the chain of credentials, regions, addressing styles and redirects to a bucket's own region are botocore's
trade. What it did for the last request is copied, so that two clients never speak to two places. Effects: reads the
AWS settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

from botocore.exceptions import NoCredentialsError
from botocore.httpsession import get_cert_path
from botocore.session import Session

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/")

_KEYS_LAST = timedelta(minutes=10)
"""botocore renews keys at the latest 10 minutes before they expire, so its answer holds for so long."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket answers."""

    endpoint: str
    """Without a path-style bucket, but with a virtual host's."""

    is_virtual_host: bool

    region: str | None
    """The one that requests are signed for; None where they are not signed."""


class Keys(TypedDict):
    """What signs requests, as obstore names it."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime


class Keyring:
    """Gives this process's own keys, renewed as they expire. A pickle of it holds none."""

    def __init__(self) -> None:
        credentials = Session().get_credentials()
        if credentials is None:
            raise NoCredentialsError
        self._credentials = credentials

    def __call__(self) -> Keys:
        """Return keys that hold for at least ten minutes."""
        until = datetime.now(UTC) + _KEYS_LAST
        keys = self._credentials.get_frozen_credentials()
        return Keys(
            access_key_id=keys.access_key, secret_access_key=keys.secret_key, token=keys.token, expires_at=until
        )

    def __reduce__(self) -> tuple[type["Keyring"], tuple[()]]:
        return Keyring, ()


def place_of(bucket: str, url: str, headers: Mapping[str, Any]) -> Place | None:
    """Return the place of a bucket that a request for one of its objects was sent to; None where no URL shows it.

    >>> place_of("dogs", "https://dogs.s3.eu-west-3.amazonaws.com/a/dogs/1.jpg", {})
    Place(endpoint='https://dogs.s3.eu-west-3.amazonaws.com', is_virtual_host=True, region=None)
    >>> place_of("dogs", "http://127.0.0.1:9000/s3/dogs/1.jpg", {"Authorization": "Credential=ME/20261121/eu/s3/aws4"})
    Place(endpoint='http://127.0.0.1:9000/s3', is_virtual_host=False, region='eu')
    """
    parts = urlsplit(url)
    is_virtual_host = parts.netloc.startswith(f"{bucket}.")
    before, shown, _ = ("", "/", "") if is_virtual_host else parts.path.partition(f"/{bucket}/")
    if not shown:
        return None  # an access point's, for one
    signed = headers.get("Authorization", "")
    scope = _SCOPE.search(signed.decode() if isinstance(signed, bytes) else signed)
    return Place(f"{parts.scheme}://{parts.netloc}{before}", is_virtual_host, scope[1] if scope else None)


def root_certificates() -> bytes:
    """Return the certificates that botocore trusts, in PEM."""
    return Path(get_cert_path(Session().get_config_variable("ca_bundle") or True)).read_bytes()
