"""Clusters that somebody else started: joined by address or scheduler file, and left as they were."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client
from distributed.security import Security
from distributed.versions import VersionMismatchWarning

CONNECT_S = 10.0
"""Seconds in which a scheduler must answer."""

_ADDRESS = re.compile(r"(\w+://)?[\w.\-\[\]:]+:\d+/?")


@contextmanager
def join_cluster(address_or_file: str) -> Iterator[Client]:
    """Yield a client of a running scheduler; closing it closes nothing else.

    Raises
    ------
    ValueError
        If this is neither an address nor a scheduler file, or its scheduler asks for certificates and there are none.
    ConnectionError
        If no scheduler answers in time.
    """
    address = _address(address_or_file)
    if address.startswith("tls://") and not Security().get_connection_args("client").get("ssl_context"):
        raise ValueError(
            f"--cluster {address_or_file}: {address} takes only clients with a certificate; "
            "set distributed.comm.tls in Dask's YAML"
        )
    # pipeline.diagnosis says it in one line, and refuses.
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(
            f"--cluster {address_or_file}: no scheduler answers there within {CONNECT_S:g} s"
        ) from error
    with client:
        yield client


def _address(address_or_file: str) -> str:
    if Path(address_or_file).is_file():
        try:
            return str(json.loads(Path(address_or_file).read_text())["address"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"--cluster {address_or_file}: this file names no scheduler's address") from error
    if _ADDRESS.fullmatch(address_or_file):
        return address_or_file if "://" in address_or_file else f"tcp://{address_or_file}"
    raise ValueError(
        f"--cluster {address_or_file}: expected auto, cuda, cpu, a scheduler's address such as tcp://10.0.0.7:8786, "
        "or the path of an existing scheduler file"
    )
