"""Where the seconds of a worker go, by activity: for the run's verdict, and as Dask's fine performance metrics.

The second is for people who look at Dask's own dashboard or Prometheus endpoint:
https://distributed.dask.org/en/stable/fine-performance-metrics.html
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from distributed.metrics import context_meter

Activity: TypeAlias = Literal["read", "decode", "wait", "transfer", "infer", "commit"]
"""``read``, ``decode``, ``wait`` and ``commit`` take up a task slot: a task that waits has handed its batch to the
inference thread. ``transfer`` (to the device and back) and ``infer`` are what keeps that thread busy meanwhile."""


class Spending:
    """Adds up what the threads of a worker process do for one run."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._cpu_s = time.process_time()
        self._lock = threading.Lock()

    @contextmanager
    def on(self, activity: Activity) -> Iterator[None]:
        """Count the time that the calling task spends within the context."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(activity, time.perf_counter() - began)

    def add(self, activity: Activity, seconds: float) -> None:
        """Count time of the calling thread; where that is a task, Dask is told too."""
        context_meter.digest_metric(activity, seconds, "seconds")
        with self._lock:
            self._seconds[activity] += seconds

    def since_last(self) -> dict[str, float]:
        """Return the seconds by activity since this was last asked, and the processor's as ``cpu``."""
        with self._lock:
            cpu_s = time.process_time()
            spent = dict(self._seconds) | {"cpu": cpu_s - self._cpu_s}
            self._seconds.clear()
            self._cpu_s = cpu_s
            return spent
