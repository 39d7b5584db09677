"""Clusters on this machine, for one run: everything listens on loopback only."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.config
from distributed import LocalCluster

LOOPBACK = "127.0.0.1"
DASHBOARD_PORT = 8787

CORES_PER_WORKER = 8
"""Enough threads to keep one model on a CPU busy; more share memory bandwidth and the interpreter lock."""

WAITING_SLOTS = 4
"""Task slots of a worker with a GPU beyond its cores: two device batches on their way, and two that wait."""

_INTERVALS = {
    "distributed.admin.tick.interval": ("20ms", "500ms"),
    "distributed.admin.system-monitor.interval": ("500ms", "2s"),
    "distributed.worker.profile.interval": ("10ms", "100ms"),
}
"""What Dask's processes do beside their work, how often by default, and how often here: it took 7 % of a core each."""


@contextmanager
def frugal_processes() -> Iterator[None]:
    """Have Dask processes that are started meanwhile look at themselves less often, unless the user said how often."""
    settings = {name: ours for name, (default, ours) in _INTERVALS.items() if dask.config.get(name) == default}
    with dask.config.set(settings):
        yield


def local_cpu_cluster(n_workers: int | None, threads_per_worker: int | None) -> LocalCluster:
    """Open a cluster of CPU workers.

    Parameters
    ----------
    n_workers
        Processes; None is one for every 8 cores.
    threads_per_worker
        Task slots of each; None is its share of the cores and one more, since a task that waits for the model holds
        a slot.
    """
    cores = usable_cores()
    n_workers = n_workers or max(1, cores // CORES_PER_WORKER)
    threads_per_worker = threads_per_worker or max(1, cores // n_workers) + 1
    no_gpu = {"CUDA_VISIBLE_DEVICES": ""}  # where there is one after all, these workers must not crowd it
    return LocalCluster(n_workers=n_workers, threads_per_worker=threads_per_worker, env=no_gpu, **_on_loopback())


def local_cuda_cluster(n_workers: int | None, threads_per_worker: int | None) -> LocalCluster:
    """Open a cluster of one worker per GPU.

    Parameters
    ----------
    n_workers
        The first so many GPUs; None is all of them.
    threads_per_worker
        Task slots of each; None is its share of the cores, and some for tasks that wait for the GPU: dask-cuda's own
        default of one starves it.

    Raises
    ------
    ValueError
        If there is no GPU, or fewer than asked for.
    """
    n_gpus = count_gpus()
    if not n_gpus:
        raise ValueError("--cluster cuda: no CUDA device found here; use --cluster cpu, or a scheduler's address")
    if n_workers is not None and n_workers > n_gpus:
        raise ValueError(f"--workers {n_workers}: this machine has {n_gpus} GPUs, and a worker needs one of its own")
    from dask_cuda import LocalCUDACluster  # noqa: PLC0415  imports CUDA's libraries: only where there is a device

    n_workers = n_workers or n_gpus
    threads_per_worker = threads_per_worker or usable_cores() // n_workers + WAITING_SLOTS
    return LocalCUDACluster(n_workers=n_workers, threads_per_worker=threads_per_worker, **_on_loopback())


def count_gpus() -> int:
    """Return the number of CUDA devices that this process may use, without starting CUDA."""
    try:
        import pynvml  # noqa: PLC0415  comes with dask-cuda, so on Linux only

        pynvml.nvmlInit()
        n_devices = int(pynvml.nvmlDeviceGetCount())
    except Exception:  # noqa: BLE001  no package, no driver or no permission: all mean no GPU for us
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return n_devices
    return min(n_devices, len([device for device in visible.split(",") if device.strip() not in ("", "-1")]))


def usable_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_loopback() -> dict[str, Any]:
    return {
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:{_free_port(DASHBOARD_PORT)}",
        "worker_dashboard_address": None,  # the scheduler's shows them too, and each takes a second to start
        "preload": ["cluster.preload"],
    }


def _free_port(preferred: int) -> int:
    """Return the preferred port, or 0 (any) where somebody has it already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, preferred))
        except OSError:
            return 0
    return preferred
