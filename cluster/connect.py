"""From what ``--cluster`` was given to a connected client with workers."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from uuid import uuid4

from distributed import Client

from cluster.forkserver import forked_workers
from cluster.local import count_gpus, frugal_processes, local_cpu_cluster, local_cuda_cluster
from cluster.remote import join_cluster, scheduler_address
from cluster.security import TlsFiles

FIRST_WORKERS_S = 60.0
"""Seconds that the first workers are waited for."""

ON_DEMAND_S = 600.0
"""Seconds that a cluster of no workers has for its first, where it begins them when there is work."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which workers to use."""

    cluster: str = "auto"
    """``auto``, ``cuda``, ``cpu``, a scheduler's address or the path of a scheduler file."""

    workers: int | None = None
    """Worker processes of a local cluster; None is one for each GPU, or one for every 8 cores."""

    min_workers: int = 1
    """Work begins with the first so many; 0 asks a cluster that scales on demand for its first."""

    threads_per_worker: int | None = None
    """Task slots of each local worker; None is the cores that it can count on, and one to spare."""

    tls: TlsFiles = field(default_factory=TlsFiles)
    """Certificates, for a cluster that somebody else started."""

    awaits_workers: bool = True
    """Whether a cluster that is there already is given time for its workers."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.min_workers > self.workers:
            raise ValueError(f"--min-workers {self.min_workers}: only {self.workers} were asked for by --workers")
        if self.tls.is_given and is_local(self.cluster):
            raise ValueError(
                f"{self.tls}: --cluster {self.cluster} is opened on this machine's loopback and takes no certificates; "
                "leave them out, or give --cluster tls://..."
            )
        if not is_local(self.cluster):
            scheduler_address(self.cluster, self.tls)


@contextmanager
def connect(options: ClusterOptions) -> Iterator[Client]:
    """Yield a client of the cluster with at least `min_workers` workers.

    Raises
    ------
    ValueError
        If the options cannot be used.
    ConnectionError
        If no scheduler answers there.
    TimeoutError
        If too few workers come.
    """
    with _open(options) as client:
        if options.awaits_workers:
            _await_workers(client, options)
        yield client


def is_local(cluster: str) -> bool:
    """Return whether a cluster is opened on this machine for one run."""
    return cluster in ("auto", "cpu", "cuda")


def local_kind(cluster: str) -> str:
    """Return which workers a local cluster has, ``cuda`` or ``cpu``; of others what was given."""
    return cluster if cluster != "auto" else "cuda" if count_gpus() else "cpu"


@contextmanager
def _open(options: ClusterOptions) -> Iterator[Client]:
    if not is_local(options.cluster):
        with join_cluster(options.cluster, options.tls) as client:
            yield client
        return
    is_cuda = local_kind(options.cluster) == "cuda"  # whether a fork suits CUDA's libraries was not tried
    open_local = local_cuda_cluster if is_cuda else local_cpu_cluster
    with (
        frugal_processes(),
        nullcontext() if is_cuda else forked_workers(),
        open_local(options.workers, options.threads_per_worker) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def _demand_worker(client: Client) -> None:
    """Have a cluster that scales on demand begin a worker, and wait for it: it does so when there is a task."""
    task = client.submit(int, key=f"first-worker-{uuid4().hex}")
    try:
        task.result(timeout=ON_DEMAND_S)
    except TimeoutError as error:
        raise TimeoutError(
            f"no worker came to {client.scheduler.address} within {ON_DEMAND_S:g} s, though there was a task for it "
            "(--min-workers 0); start workers there, or look at what should"
        ) from error


def _await_workers(client: Client, options: ClusterOptions) -> None:
    if not options.min_workers and not is_local(options.cluster):
        _demand_worker(client)
    min_workers = max(1, options.min_workers)
    try:
        client.wait_for_workers(min_workers, timeout=FIRST_WORKERS_S)
    except TimeoutError as error:
        n_workers = len(client.nthreads())
        raise TimeoutError(
            f"{n_workers} of the {min_workers} workers of --min-workers came to {client.scheduler.address} "
            f"within {FIRST_WORKERS_S:g} s; start workers there, or ask for fewer"
        ) from error
