"""The driver: plans, fills the window, counts what comes back. It needs a `Client`, not a terminal."""

import logging
import math
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from distributed import Client

from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.plan import Planner, PlanTotals
from pipeline.engine.window import TICK_S, Window
from pipeline.engine.worker import Job
from pipeline.errors import ClusterError, FailureRateError, InterruptedRunError
from pipeline.records import ImageRef, Tally

logger = logging.getLogger("pipeline")

BATCHES_AHEAD = 2
"""Batches in flight for each task slot of the cluster."""

NO_WORKERS_S = 60.0
"""Seconds without any worker after which a run gives up."""

GRACE_S = 25.0
"""Seconds that parts in flight are given after the first Ctrl-C."""


class Progress(Protocol):
    """Whoever watches a run."""

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """The plan grew, or is complete."""

    def classified(self, n_images: int) -> None:
        """A batch was classified."""

    def committed(self, tally: Tally) -> None:
        """A part was committed; `tally` is the run's so far."""


class Driver:
    """Carries one run from its listing to its last committed part.

    Parameters
    ----------
    client
        Of a cluster whose workers are prepared for the job.
    job
        What the tasks need to know.
    batching
        How parts are cut into tasks.
    max_failure_rate
        Share of the closed plan, in [0, 1], above which failures end the run.
    progress
        Is told of everything.
    stop
        Set from outside to end the run early.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        batching: Batching,
        max_failure_rate: float,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._client, self._job, self._batching = client, job, batching
        self._max_failure_rate, self._progress, self._stop = max_failure_rate, progress, stop
        self._window = Window(client, progress.classified)
        self._tally = Tally()
        self._n_slots = 1
        self._checked_at = -math.inf
        self._has_workers_at = time.monotonic()

    def run(self, refs: Iterable[ImageRef], part_size: int) -> tuple[PlanTotals, Tally]:
        """Plan and compute every image; return the plan's totals and the outcomes' once they agree.

        Raises
        ------
        PipelineError
            Whatever ended the run early. What was committed stays.
        """
        try:
            with Planner(refs, self._job.destination, part_size, self._window.wake) as planner:
                self._work_off(planner)
            return planner.totals, self._tally
        finally:
            self._window.cancel()

    def _work_off(self, planner: Planner) -> None:
        while not self._stop.is_set():
            self._check_cluster()
            self._refill(planner)
            self._progress.planned(planner.totals, is_closed=planner.is_closed)
            if not len(self._window) and planner.is_exhausted:
                return
            self._collect()
            self._check_failures(planner)
        self._finish_in_flight()
        raise InterruptedRunError("stopped by a signal")

    def _refill(self, planner: Planner) -> None:
        while self._window.n_batches < BATCHES_AHEAD * self._n_slots:
            part = planner.next_part()
            if part is None:
                return
            self._window.submit(part_graph(part, self._job, self._batching))

    def _collect(self) -> None:
        tally = self._window.next_tally()
        if tally is not None:
            self._tally.add(tally)
            self._progress.committed(self._tally)
            logger.info("part committed: %d images, %d failed", tally.n_images, tally.n_failed)

    def _check_cluster(self) -> None:
        """Follow the workers as they join and leave; raise `ClusterError` where nobody is left."""
        now = time.monotonic()
        if now - self._checked_at < TICK_S:
            return
        self._checked_at = now
        try:
            n_slots = sum(self._client.nthreads().values())
        except (OSError, RuntimeError, TimeoutError) as error:
            raise ClusterError("the connection to the scheduler was lost") from error
        if n_slots:
            self._n_slots, self._has_workers_at = n_slots, now
        elif now - self._has_workers_at > NO_WORKERS_S:
            raise ClusterError(f"the cluster has had no worker for {NO_WORKERS_S:g} s")

    def _check_failures(self, planner: Planner) -> None:
        if not planner.is_closed:
            return
        n_failed, n_images = self._tally.n_failed, planner.totals.n_images
        if n_failed > self._max_failure_rate * n_images and len(self._window):
            raise FailureRateError(failure_sentence(n_failed, n_images, self._max_failure_rate))

    def _finish_in_flight(self) -> None:
        deadline = time.monotonic() + GRACE_S
        while len(self._window) and time.monotonic() < deadline:
            self._check_cluster()
            self._collect()


def failure_sentence(n_failed: int, n_images: int, max_failure_rate: float) -> str:
    """Say how many images failed against how many may."""
    return (
        f"{n_failed:,} of {n_images:,} images failed ({n_failed / n_images:.1%}), more than "
        f"--max-failure-rate {max_failure_rate:.1%} allows"
    )
