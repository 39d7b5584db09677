"""The driver: plans, fills the window, enters what comes back, until plan and outcomes agree.

It needs a `Client`, not a terminal. Nothing that it knows has to survive it: another driver begins with what is stored.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from distributed import Client, KilledWorker

from pipeline.destination import SUCCESS
from pipeline.engine.account import Account
from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.ledger import Ledger
from pipeline.engine.plan import Planner, PlanTotals
from pipeline.engine.progress import Progress
from pipeline.engine.watch import ClusterWatch
from pipeline.engine.window import PartFault, Window
from pipeline.engine.worker import Job
from pipeline.errors import ClusterError, FailureRateError, InterruptedRunError, WorkerUnfitError
from pipeline.records import ImageRef, PartWork, Receipt, Tally
from pipeline.stages.classes import Classes, LabelOf

logger = logging.getLogger("pipeline")

BATCHES_AHEAD = 2
"""Batches in flight for each task slot of the cluster."""

GRACE_S = 25.0
"""Seconds that parts in flight are given after the first Ctrl-C."""

MAX_ATTEMPTS = 8
"""How often a part is begun again before the run gives up on it."""

MAX_ROUNDS = 4
"""How often plan and outcomes are brought to agree while somebody else changes them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run puts up with."""

    max_failure_rate: float = 0.05
    """Share of the closed plan, in [0, 1], above which failures end the run."""

    stall_timeout_s: float = 600.0
    """Seconds without any batch or part done after which the run ends."""


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
    limits
        What ends the run early.
    progress
        Is told of everything.
    stop
        Set from outside to end the run early.
    label_of
        Labels the images; None is by their paths.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        batching: Batching,
        limits: Limits,
        progress: Progress,
        stop: threading.Event,
        label_of: LabelOf | None = None,
    ) -> None:
        self._job, self._batching, self._limits = job, batching, limits
        self._label_of = label_of or Classes(job.categories).label_by_path()
        self._progress, self._stop = progress, stop
        self._window = Window(client, self._classified)
        self._watch = ClusterWatch(client, job, limits.stall_timeout_s)
        self._ledger = Ledger(job.destination, job.fingerprint)
        self._works: Iterator[PartWork] = iter(())
        self._is_unmarked = False
        self.account = Account()
        """What this driver's session had, and where its time went."""

    def run(
        self,
        listed: Callable[[], Iterable[ImageRef]],
        part_size: int,
        conclude: Callable[[PlanTotals, Tally], None],
        *,
        retry_failed: bool = False,
    ) -> tuple[PlanTotals, Tally]:
        """Bring plan and outcomes to what is listed; return their totals once they agree.

        Parameters
        ----------
        listed
            Lists the images, as often as it is called.
        part_size
            Images in one new part.
        conclude
            Marks the run as complete.
        retry_failed
            Whether images that failed before are tried again.

        Raises
        ------
        PipelineError
            Whatever ended the run early. What was committed stays.
        """
        try:
            for round_ in range(MAX_ROUNDS):
                self._ledger.look()
                with Planner(listed(), self._job.destination, part_size, self._window.wake, self._label_of) as planner:
                    self._work_off(planner, retry_failed=retry_failed and round_ == 0)
                    if self._still_stands(planner):
                        conclude(planner.totals, self._ledger.tally)
                        if self._still_stands(planner):
                            return planner.totals, self._ledger.tally
                self._job.destination.unmark()
        finally:
            self._window.cancel()
        raise ClusterError(f"{self._job.destination.url} is being changed by another run; resume when that has ended")

    @property
    def tally(self) -> Tally:
        """The counts of all rows that are known to be stored."""
        return self._ledger.tally

    def _work_off(self, planner: Planner, *, retry_failed: bool) -> None:
        while not self._stop.is_set():
            self._look_after_cluster()
            self._refill(planner, retry_failed=retry_failed)
            self._progress.planned(planner.totals, is_closed=planner.is_closed)
            if not len(self._window):
                if planner.is_exhausted:
                    self._ledger.remove_orphans()
                    return
                self._watch.moved()  # it waits for the listing, not for the cluster
            self._collect(is_starving=not planner.is_exhausted and self._window.n_batches < self._watch.n_slots)
            self._check_failures(planner)
        self._finish_in_flight()
        raise InterruptedRunError("stopped on request")

    def _still_stands(self, planner: Planner) -> bool:
        return self._ledger.still_stands() and planner.still_stands()

    def _refill(self, planner: Planner, *, retry_failed: bool) -> None:
        while self._window.n_batches < BATCHES_AHEAD * self._watch.n_slots and not self._stop.is_set():
            work = next(self._works, None)
            if work is not None:
                self._submit(work)
                continue
            parts = planner.next_page()
            if parts is None:
                return
            n_found = self._ledger.tally.n_images
            self._works = iter(list(self._ledger.unfinished(parts, retry_failed=retry_failed)))
            self._progress.found(self._ledger.tally.n_images - n_found)

    def _submit(self, work: PartWork) -> None:
        if not self._is_unmarked:
            self._job.destination.delete([SUCCESS])
            self._is_unmarked = True
        self._window.submit(part_graph(work, self._job, self._batching, self._watch.placement()))

    def _collect(self, *, is_starving: bool = False) -> None:
        began = time.monotonic()
        event = self._window.next_event()
        if is_starving:
            self.account.starved(time.monotonic() - began)
        if isinstance(event, Receipt):
            self._ledger.enter(event)
            self.account.committed(event)
            self._watch.moved()
            self._progress.committed(self._ledger.tally)
            logger.info("part %d committed: %d images", event.part, event.tally.n_images)
        elif event is not None:
            self._begin_again(event)

    def _classified(self, n_images: int) -> None:
        self.account.classified(n_images)
        self._watch.moved()
        self._progress.classified(n_images)

    def _look_after_cluster(self) -> None:
        """Have the parts that keep losing their workers decoded apart, before Dask gives them up."""
        for work in self._window.withdraw(self._watch.look()):
            self._submit_again(work, is_suspect=True)

    def _begin_again(self, fault: PartFault) -> None:
        """Do a part elsewhere if its worker was to blame, with caution if it kills workers, or raise its error."""
        error = fault.error
        if isinstance(error, WorkerUnfitError):
            self._watch.send_away(error.worker, str(error), is_restartable=error.is_restartable)
        elif not isinstance(error, KilledWorker):
            raise error
        if fault.work.attempt >= MAX_ATTEMPTS:
            raise ClusterError(f"part {fault.work.index} was given up after {MAX_ATTEMPTS} attempts: {error}")
        self._submit_again(fault.work, is_suspect=isinstance(error, KilledWorker) or fault.work.is_suspect)

    def _submit_again(self, work: PartWork, *, is_suspect: bool) -> None:
        logger.warning("part %d begins again%s", work.index, ", its images decoded apart" if is_suspect else "")
        self._submit(replace(work, attempt=work.attempt + 1, is_suspect=is_suspect))

    def _check_failures(self, planner: Planner) -> None:
        if not planner.is_closed:
            return
        tally, n_images = self._ledger.tally, planner.totals.n_images
        if tally.n_failed > self._limits.max_failure_rate * n_images and len(self._window):
            raise FailureRateError(failure_sentence(tally.n_failed, n_images, self._limits.max_failure_rate))

    def _finish_in_flight(self) -> None:
        deadline = time.monotonic() + GRACE_S
        while len(self._window) and time.monotonic() < deadline:
            self._watch.look()
            self._collect()


def failure_sentence(n_failed: int, n_images: int, max_failure_rate: float) -> str:
    """Say how many images failed against how many may."""
    return (
        f"{n_failed:,} of {n_images:,} images failed ({n_failed / n_images:.1%}), more than "
        f"--max-failure-rate {max_failure_rate:.1%} allows"
    )
