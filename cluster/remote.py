"""Clusters that somebody else started: joined by address or scheduler file, and left as they were."""

import asyncio
import json
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dask.config
from distributed import Client
from distributed.comm import connect
from distributed.security import Security
from distributed.versions import VersionMismatchWarning

from cluster.security import TlsFiles, security_of, why_refused

CONNECT_S = 10.0
"""Seconds in which a scheduler must answer."""

_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx|ucxx|inproc)://)?[\w.\-\[\]:/]+:\d+/?")


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
        with ThreadPoolExecutor(1) as aside:  # in a notebook this thread has a loop of its own
            aside.submit(asyncio.run, _knock(address, security)).result()
        with warnings.catch_warnings():  # pipeline.diagnosis says it in one line, and refuses
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = Client(address, timeout=CONNECT_S, set_as_default=False, security=security)
    # Of an answer that is none of Dask's it takes the first bytes for a length, and asks for so much memory.
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        if why := why_refused(address_or_file, address, security):
            raise ValueError(why) from error
        raise ConnectionError(
            f"--cluster {address_or_file}: no scheduler answers there within {CONNECT_S:g} s"
        ) from error
    with client:
        yield client


async def _knock(address: str, security: Security) -> None:
    """Raise an exception unless a Dask process answers in time; `Client` waits without limit for one that is silent."""
    async with asyncio.timeout(CONNECT_S):
        comm = await connect(address, timeout=CONNECT_S, **security.get_connection_args("client"))
        comm.abort()


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
