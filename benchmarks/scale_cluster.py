"""A scheduler and one worker as processes of their own, so that what each takes can be told apart."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

HERE = Path(__file__).parent
START_S = 60.0
N_SLOTS = 3
"""Task slots of the worker: what `pipeline.run` gives one worker on two cores."""

_LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """Seconds of a processor, user's and system's."""

    scheduler: float
    worker: float
    """Its nanny's too."""


class OwnCluster:
    """The processes of a cluster.

    Parameters
    ----------
    folder
        For the scheduler file, the worker's own files, and what they log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "scheduler.json"
        self._scheduler = self._start("scheduler", "--port", "0")
        preload = ("--preload", "benchmarks.scale_stand_ins")
        self._nanny = self._start("worker", "--nthreads", str(N_SLOTS), *preload, "--local-directory", str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._nanny, self._scheduler):
            process.terminate()
            process.wait()

    @property
    def address(self) -> str:
        """Of the scheduler, once it listens."""
        deadline = time.monotonic() + START_S
        while not self._file.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no scheduler within {START_S:g} s: {(self._folder / 'dask.log').read_text()}")
            time.sleep(0.1)
        return str(json.loads(self._file.read_text())["address"])

    def cpu_s(self) -> CpuSeconds:
        """Return what the processes have taken of the processors so far."""
        return CpuSeconds(
            cpu_s(psutil.Process(self._scheduler.pid)), sum(cpu_s(process) for process in self._worker_family())
        )

    def peak_mib(self) -> dict[str, int]:
        """Return the peak of each process's resident set so far."""
        return {
            "scheduler": peak_mib(self._scheduler.pid),
            "worker": max(peak_mib(process.pid) for process in self._worker_family()),
        }

    def _worker_family(self) -> list[psutil.Process]:
        nanny = psutil.Process(self._nanny.pid)
        return [nanny, *nanny.children(recursive=True)]

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self._folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command, *_LOOPBACK, "--scheduler-file", str(self._file)],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": paths},
            )


def cpu_s(process: psutil.Process) -> float:
    """Return what a process has taken of the processors so far, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def peak_mib(pid: int) -> int:
    """Return the peak of a process's resident set; getrusage would tell the peak of whoever started it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return round(int(re.findall(r"VmHWM:\s*(\d+) kB", status)[-1]) / 1024)


@contextmanager
def own_cluster(folder: Path) -> Iterator[OwnCluster]:
    """Yield a cluster that lives as long as the context."""
    folder.mkdir(parents=True)
    with OwnCluster(folder) as cluster:
        yield cluster
