"""What stands on a cluster, to be compared before and after a run. Travels by value: the cluster may lack the tests."""

import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client

SETTLE_S = 15.0
"""Seconds after which a cluster has heard of a client that left, however it went."""


def state_of(client: Client, *, with_modules: bool = False) -> dict[str, Any]:
    """Return what runs could leave on the scheduler and on each worker.

    Parameters
    ----------
    with_modules
        Whether modules and paths of ours count, as they do where the package is not installed.
    """
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        scheduler = client.run_on_scheduler(_of_scheduler)
        workers = client.run(_of_worker)
        processes = {"the scheduler": client.run_on_scheduler(_of_process), **client.run(_of_process)}
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    scheduler["clients"].remove(client.id)
    return {"scheduler": scheduler, "workers": workers} | ({"processes": processes} if with_modules else {})


@contextmanager
def left_as_found(client: Client, *, with_modules: bool = False):
    """Assert that what happens within the context leaves a cluster as it was."""
    deadline = time.monotonic() + SETTLE_S
    while "pipeline-" in repr(before := state_of(client, with_modules=with_modules)) and time.monotonic() < deadline:
        time.sleep(0.2)  # workers tell their scheduler twice a second of what has gone since an earlier run
    yield
    assert_same_state(client, before, with_modules=with_modules)


def assert_same_state(client: Client, before: dict[str, Any], *, with_modules: bool = False):
    deadline = time.monotonic() + SETTLE_S
    while (now := state_of(client, with_modules=with_modules)) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not (differences := _differences(before, now)), "\n".join(differences)


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [f"{where}: {before} became {now}"]
    names = {**before, **now}
    return [told for name in names for told in _differences(before.get(name), now.get(name), f"{where}/{name}")]


def _of_scheduler(dask_scheduler: Any) -> dict[str, Any]:
    own = ("all", "scheduler", "stealing", "Client-", "tcp://")  # what Dask itself logs, of bounded length each
    topics = {topic for topic in dask_scheduler.get_events() if not topic.startswith(own)}
    return {
        "tasks": sorted(map(str, dask_scheduler.tasks)),
        "task groups": sorted(dask_scheduler.task_groups),
        "clients": sorted(name for name in dask_scheduler.clients if name != "fire-and-forget"),
        "plugins": sorted(dask_scheduler.plugins),
        "worker plugins": sorted(dask_scheduler.worker_plugins),
        "nanny plugins": sorted(dask_scheduler.nanny_plugins),
        "datasets": sorted(dask_scheduler.extensions["publish"].datasets),
        "extensions": sorted(dask_scheduler.extensions),
        "handlers": sorted([*dask_scheduler.handlers, *dask_scheduler.stream_handlers]),
        "callbacks": sorted(dask_scheduler.periodic_callbacks),
        "topics": sorted(topics),
        "workers": sorted(dask_scheduler.workers),
        "metrics": sorted({name for worker in dask_scheduler.workers.values() for name in worker.metrics}),
        "resources": sorted(dask_scheduler.resources),
    }


def _of_worker(dask_worker: Any) -> dict[str, Any]:
    return {
        "plugins": sorted(dask_worker.plugins),
        "tasks": sorted(map(str, dask_worker.state.tasks)),
        "data": sorted(map(str, dask_worker.data)),
        "metrics": sorted(dask_worker.metrics),
        "extensions": sorted(dask_worker.extensions),
        "handlers": sorted([*dask_worker.handlers, *dask_worker.stream_handlers]),
        "callbacks": sorted(dask_worker.periodic_callbacks),
        "threads": sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("inference")),
    }


def _of_process(dask_worker: Any = None, dask_scheduler: Any = None) -> dict[str, Any]:
    folder = Path((dask_worker or dask_scheduler).local_directory)
    kinds = sys.modules["dask.sizeof"].sizeof._lookup
    return {
        "modules": sorted(name for name in sys.modules if name.partition(".")[0] in ("pipeline", "cluster")),
        "path": list(sys.path),
        "importers": sorted(name for name in sys.path_importer_cache if "upload" in name),
        "files": sorted(path.name for path in folder.iterdir()),
        "sizes": sorted(str(kind) for kind in kinds if kind.__module__.partition(".")[0] == "pipeline"),
    }
