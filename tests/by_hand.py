"""A Dask cluster started by hand: a scheduler and workers, each a process of its own, as on a shared cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LOOPBACK = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
START_S = 60


class DaskByHand:
    """The processes of a cluster, to be harmed by tests.

    Parameters
    ----------
    folder
        For the scheduler file, the workers' own files, and what they log.
    environment
        Of every process, beside this one's.
    python
        That runs them; any but this one's runs them in `folder`, where nothing of ours is found.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], python: str = sys.executable) -> None:
        self._folder, self._python = folder, python
        self._environment = os.environ | {"DASK_LOGGING__PIPELINE": "info"} | dict(environment)
        self.file = folder / "scheduler.json"
        self.log = folder / "dask.log"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(self.file))
        self.workers: list[subprocess.Popen[bytes]] = []
        """The processes that were started: nannies, whose children are the workers."""

    @property
    def address(self) -> str:
        """Of the scheduler."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError, ValueError):  # it is not there yet, or being written
                return str(json.loads(self.file.read_text())["address"])
            time.sleep(0.1)
        raise TimeoutError(f"no scheduler has written {self.file} within {START_S} s")

    def add_worker(self, *options: str, python: str | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of two threads under a nanny, by another Python or with more environment than the others."""
        own = ["--nthreads", "2", "--local-directory", str(self._folder), "--death-timeout", str(START_S)]
        command = ["worker", "--scheduler-file", str(self.file), *own, *options]
        worker = self._start(*command, python=python, **environment)
        _tie_to_a_core(worker, len(self.workers))
        self.workers.append(worker)
        return worker

    def n_loads(self) -> int:
        """Return how often a model was loaded so far."""
        return self.log.read_text().count("model loaded")

    def worker_processes(self) -> list[psutil.Process]:
        """Return the processes that compute: each the child of its nanny."""
        nannies = [psutil.Process(worker.pid) for worker in self.workers if worker.poll() is None]
        return [child for nanny in nannies for child in nanny.children() if _computes(child)]

    def close(self) -> None:
        """End every process."""
        processes = [*self.workers, self.scheduler]
        family = [child for process in processes for child in _family(process)]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in psutil.wait_procs(family, timeout=15)[1]:
            process.kill()
        for process in processes:
            process.wait()

    def _start(self, *command: str, python: str | None = None, **environment: str) -> subprocess.Popen[bytes]:
        python = python or self._python
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [python, "-m", "dask", *command, *LOOPBACK],
                stderr=log,
                stdout=log,
                env=self._environment | environment,
                cwd=None if python == sys.executable else self._folder,
            )


def _tie_to_a_core(worker: subprocess.Popen[bytes], number: int) -> None:
    """Give each worker one core: threads of several models that wait for each other actively are slow for all."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(worker.pid, {cores[number % len(cores)]})


def _computes(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except psutil.Error:  # it was killed a moment ago
        return False


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    if process.poll() is not None:
        return []
    root = psutil.Process(process.pid)
    return [root, *root.children(recursive=True)]


@contextmanager
def dask_by_hand(
    folder: Path,
    n_workers: int,
    environment: Mapping[str, str] | None = None,
    worker_options: tuple[str, ...] = (),
    python: str = sys.executable,
) -> Iterator[DaskByHand]:
    """Yield a cluster that lives as long as the context."""
    cluster = DaskByHand(folder, environment or {}, python)
    try:
        for _ in range(n_workers):
            cluster.add_worker(*worker_options)
        yield cluster
    finally:
        cluster.close()
