"""Our own package on a cluster that lacks it, for as long as a client needs it. Effects: the cluster's processes.

Dask's own ``UploadDirectory`` leaves files, ``sys.path`` and modules behind; and its plugins arrive where they have to
be imported from what they bring.
"""

import hashlib
import io
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
from distributed import Client

from cluster import parcel as travelling
from cluster.parcel import PackageOnScheduler, PackageOnWorker, Parcel, leave

logger = logging.getLogger("pipeline")

LEAVE_S = 15.0
"""Seconds that a cluster has for letting go of the package."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same files make the same archive, whenever they were written."""


def pack(folders: Sequence[Path], version: str, needs: Mapping[str, str], scheduler_needs: Mapping[str, str]) -> Parcel:
    """Return the files of packages as they are installed, without what Python keeps beside them.

    Parameters
    ----------
    folders
        Each a package's own; the first has the version.
    version
        Of all of them.
    needs, scheduler_needs
        What workers, and the scheduler, must have: the name that is imported, and the name that is installed.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), _EPOCH)
                    target.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    files = archive.getvalue()
    digest = hashlib.sha256(files).hexdigest()[:16]
    return Parcel(tuple(folder.name for folder in folders), version, digest, files, dict(needs), dict(scheduler_needs))


@contextmanager
def uploaded(client: Client, parcel: Parcel) -> Iterator[None]:
    """Have a package in every process of a cluster, of workers that join later too, and leave them as they were.

    A process that has the same version already keeps its own. The package goes again if the client is killed.

    Raises
    ------
    ConnectionError
        If a process has another version, or lacks what the package needs of others: then nothing was sent.
    """
    name = f"upload-{parcel.digest}-{client.id}"
    with _by_value():
        _refuse_unfit(client, parcel)
    try:
        with _by_value():
            client.register_plugin(PackageOnScheduler(name, parcel, client.id))
            client.register_plugin(PackageOnWorker(name, parcel))
        yield
    finally:
        with _by_value():
            _take_away(client, name)


@contextmanager
def _by_value() -> Iterator[None]:
    cloudpickle.register_pickle_by_value(travelling)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(travelling)


def _refuse_unfit(client: Client, parcel: Parcel) -> None:
    faults = {"the scheduler": client.run_on_scheduler(parcel.fault_of_scheduler)}
    faults |= {f"worker {address}": fault for address, fault in client.run(parcel.fault_of_worker).items()}
    for process, fault in faults.items():
        if fault is not None:
            raise ConnectionError(f"{process} {fault}")


def _take_away(client: Client, name: str) -> None:
    """Take the package away; a cluster that cannot any more must not decide how a run ends."""
    if client.status != "running":
        return
    try:
        client.sync(client._run_on_scheduler, leave, name, callback_timeout=LEAVE_S)  # noqa: SLF001  the public one waits without limit
    except Exception as error:  # noqa: BLE001  workers leave at any time
        logger.warning("could not take %s away from every worker: %s", name, error)
