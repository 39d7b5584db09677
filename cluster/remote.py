"""Clusters that somebody else started: joined by address or scheduler file, and left as they were."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.config
from distributed import Client
from distributed.versions import VersionMismatchWarning

from cluster.security import TlsFiles, check_greeting, security_of, why_refused

CONNECT_S = 10.0
"""Seconds in which a scheduler must answer."""

_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx|ucxx|inproc)://)?[\w.\-\[\]:]+:\d+/?")


@contextmanager
def join_cluster(address_or_file: str, tls: TlsFiles = TlsFiles()) -> Iterator[Client]:  # noqa: B008  immutable
    """Yield a client of a running scheduler; closing it closes nothing else.

    Raises
    ------
    ValueError
        If this is neither an address nor a scheduler file, or the certificates are not what its scheduler asks for.
    ConnectionError
        If no scheduler answers in time.
    """
    address = scheduler_address(address_or_file, tls)
    security = security_of(address_or_file, address, tls)
    try:
        check_greeting(address, security, CONNECT_S)
        with warnings.catch_warnings():  # pipeline.diagnosis says it in one line, and refuses
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = Client(address, timeout=CONNECT_S, set_as_default=False, security=security)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        if why := why_refused(address_or_file, address, security):
            raise ValueError(why) from error
        raise ConnectionError(
            f"--cluster {address_or_file}: no scheduler answers there within {CONNECT_S:g} s"
        ) from error
    with client:
        yield client


def scheduler_address(address_or_file: str, tls: TlsFiles) -> str:
    """Return the address of a scheduler; raise `ValueError` where this is neither one nor a scheduler file."""
    if Path(address_or_file).is_file():
        try:
            return str(json.loads(Path(address_or_file).read_text())["address"].strip())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"--cluster {address_or_file}: this file names no scheduler's address") from error
    if _ADDRESS.fullmatch(address_or_file):
        protocol = "tls" if tls.is_given else dask.config.get("distributed.comm.default-scheme")
        return address_or_file if "://" in address_or_file else f"{protocol}://{address_or_file}"
    raise ValueError(
        f"--cluster {address_or_file}: expected auto, cuda, cpu, a scheduler's address such as tcp://10.0.0.7:8786, "
        "or the path of an existing scheduler file"
    )
