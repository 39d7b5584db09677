"""What ``--upload`` sends: a package's own files, and the plugins that put them where they lack and take them away.

This module travels by value, since those who need it have nothing of ours: it imports the standard library and
distributed alone. Effects: files below Dask's own local directory, ``sys.path`` and ``sys.modules``.
"""

import asyncio
import io
import logging
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distributed import Scheduler, SchedulerPlugin, Worker, WorkerPlugin

FOLDER = "uploaded-package-"
"""What the folder of uploaded files is called, before their digest."""

_USERS = "users"
"""Folder beside the packages with an empty file for each run that needs them in this process."""

_LAST_S = 10.0
"""Seconds that the plugins of a client that is gone have for leaving before the package that they are made of."""


@dataclass(frozen=True)
class Parcel:
    """Files of a package, and what it needs."""

    packages: tuple[str, ...]
    """Names of its top folders; the first has a ``__version__``."""

    version: str
    digest: str
    """Of the files: the same files are put into place once, however many runs bring them."""

    files: bytes
    """A zip archive."""

    needs: Mapping[str, str]
    """What a worker must have of others, by the name that is imported: the name that is installed."""

    scheduler_needs: Mapping[str, str]
    """The same of a scheduler."""

    def fault_of_scheduler(self, dask_scheduler: Scheduler) -> str | None:
        """Return why a scheduler cannot take part, as a clause for people; None if it can."""
        return self._fault(self.scheduler_needs)

    def fault_of_worker(self, dask_worker: Worker) -> str | None:
        """Return why a worker cannot take part, as a clause for people; None if it can."""
        return self._fault(self.needs)

    def _fault(self, needs: Mapping[str, str]) -> str | None:
        if there := self._clash():
            return there
        missing = [install for name, install in needs.items() if find_spec(name) is None]
        if missing:
            return f"lacks {', '.join(missing)}: install that there, --upload brings nothing but this package"
        return None

    def put(self, server: Any, user: str) -> None:
        """Put the files into place if this process lacks them, and note who needs them."""
        folder = Path(server.local_directory) / f"{FOLDER}{self.digest}"
        found = self._found()
        if None in found:
            zipfile.ZipFile(io.BytesIO(self.files)).extractall(folder)
            (folder / _USERS).mkdir(exist_ok=True)
            sys.path.append(str(folder))
            invalidate_caches()
        elif self._is_uploaded(found[0]):
            folder = Path(str(found[0]))
        else:
            return
        (folder / _USERS / _user(server, user)).touch()

    def take_away(self, server: Any, user: str) -> None:
        """Leave nothing of the files in this process, unless another run needs them."""
        for folder in [Path(entry) for entry in sys.path if self._is_uploaded(entry)]:
            (folder / _USERS / _user(server, user)).unlink(missing_ok=True)
            if not any((folder / _USERS).glob("*")):
                sys.path.remove(str(folder))
                _forget_modules(f"{folder}/")
                shutil.rmtree(folder, ignore_errors=True)

    def _is_uploaded(self, folder: Any) -> bool:
        return Path(str(folder)).name == f"{FOLDER}{self.digest}"

    def _found(self) -> list[str | None]:
        """Return the folder in which each package stands already; None where there is none."""
        specs = [find_spec(name) for name in self.packages]
        # a folder without __init__.py, in the worker's working folder for instance, is not in our way
        return [str(Path(spec.origin).parent.parent) if spec and spec.origin else None for spec in specs]

    def _clash(self) -> str | None:
        found = self._found()
        if found == [None] * len(found):
            return None
        if len(set(found)) > 1:
            name, folder = next((name, where) for name, where in zip(self.packages, found, strict=True) if where)
            return f"has another package that is called {name} (in {folder}): --upload cannot bring ours beside it"
        version = getattr(import_module(self.packages[0]), "__version__", None)
        if version != self.version:
            return f"has version {version} of this package (in {found[0]}), here it is {self.version}: install the same"
        is_other_upload = FOLDER in str(found[0]) and not self._is_uploaded(found[0])
        return "holds another upload of the same version; wait until that run is over" if is_other_upload else None


class PackageOnWorker(WorkerPlugin):  # type: ignore[misc]
    """Brings the package to a worker process, also to those that join later."""

    idempotent = True

    def __init__(self, name: str, parcel: Parcel) -> None:
        self.name, self.parcel = name, parcel

    def setup(self, worker: Worker) -> None:
        """Put the package into place, or end a worker that cannot take part; Dask calls this by its name."""
        if fault := self.parcel.fault_of_worker(worker):
            logging.getLogger("distributed.worker").error("%s %s", worker.address, fault)
            worker.loop.add_callback(worker.close, executor_wait=False, reason=fault)
        else:
            self.parcel.put(worker, self.name)

    def teardown(self, worker: Worker) -> None:
        """Take the package away; Dask calls this by its name."""
        self.parcel.take_away(worker, self.name)


class PackageOnScheduler(SchedulerPlugin):  # type: ignore[misc]
    """Brings the package to a scheduler, and takes it away everywhere once the client is gone, however it went."""

    def __init__(self, name: str, parcel: Parcel, client_id: str) -> None:
        self.name, self.parcel, self.client_id = name, parcel, client_id

    def start(self, scheduler: Scheduler) -> None:
        """Put the package into place; Dask calls this by its name."""
        self.parcel.put(scheduler, self.name)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Act, if it is ours that has left; Dask calls this by its name."""
        if client == self.client_id:
            scheduler.loop.add_callback(self._leave_last, scheduler)

    async def leave(self, scheduler: Scheduler) -> None:
        """Take the package away from every worker, then from the scheduler."""
        if self.name in scheduler.worker_plugins:
            await scheduler.unregister_worker_plugin(None, name=self.name)
        if scheduler.plugins.get(self.name) is self:
            scheduler.remove_plugin(self.name)
            self.parcel.take_away(scheduler, self.name)

    async def _leave_last(self, scheduler: Scheduler) -> None:
        """Leave once the client's other plugins have: they are made of the package."""
        deadline = time.monotonic() + _LAST_S
        while self._others(scheduler) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await self.leave(scheduler)

    def _others(self, scheduler: Scheduler) -> list[Any]:
        plugins = [plugin for plugin in scheduler.plugins.values() if plugin is not self]
        return [plugin for plugin in plugins if getattr(plugin, "client_id", None) == self.client_id]


async def leave(name: str, dask_scheduler: Scheduler) -> None:
    """Take an upload away from a cluster."""
    plugin = dask_scheduler.plugins.get(name)
    if plugin is not None:
        await plugin.leave(dask_scheduler)
    elif name in dask_scheduler.worker_plugins:
        await dask_scheduler.unregister_worker_plugin(None, name=name)


def _user(server: Any, name: str) -> str:
    return f"{name}-{server.id}"


def _forget_modules(folder: str) -> None:
    """Drop what Python holds of a folder, and what Dask's registry of sizes knows of the classes that came from it."""
    from dask.sizeof import sizeof  # noqa: PLC0415  travels with this function

    for place in [place for place in sys.path_importer_cache if f"{place}/".startswith(folder)]:
        del sys.path_importer_cache[place]
    files = {name: str(getattr(module, "__file__", None)) for name, module in sys.modules.items()}
    names = [name for name, file in files.items() if file.startswith(folder)]
    for name in names:
        del sys.modules[name]
    for kind in [kind for kind in sizeof._lookup if getattr(kind, "__module__", None) in names]:  # noqa: SLF001  it has no way to unregister
        del sizeof._lookup[kind]  # noqa: SLF001
