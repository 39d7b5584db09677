"""Clusters that somebody else started: joined by address or scheduler file, and left as they were."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client
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
        If this is neither an address nor an existing file.
    ConnectionError
        If no scheduler answers in time.
    """
    arguments = _arguments(address_or_file)
    # cluster.versions says it in one line, and refuses.
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
    try:
        client = Client(**arguments, timeout=CONNECT_S, set_as_default=False)
    except TypeError as error:  # a tls:// address without certificates
        raise ValueError(f"--cluster {address_or_file}: {error}; set distributed.comm.tls in Dask's YAML") from error
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(
            f"--cluster {address_or_file}: no scheduler answers there within {CONNECT_S:g} s"
        ) from error
    with client:
        yield client


def _arguments(address_or_file: str) -> dict[str, str]:
    if Path(address_or_file).is_file():
        return {"scheduler_file": address_or_file}
    if _ADDRESS.fullmatch(address_or_file):
        return {"address": address_or_file if "://" in address_or_file else f"tcp://{address_or_file}"}
    raise ValueError(
        f"--cluster {address_or_file}: expected auto, cuda, cpu, a scheduler's address such as tcp://10.0.0.7:8786, "
        "or the path of an existing scheduler file"
    )
