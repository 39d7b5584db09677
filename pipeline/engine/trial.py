"""How fast a cluster classifies images in steady state, without anything being kept.

The same tasks as in a run, up to `infer`; nothing is committed. As many batches as there are task slots go by before
the clock starts: in a cluster that waits for its store all slots are done at about the same time, and whoever counted
from the first batch would find it the faster the more slots there are.
"""

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import cycle, islice

from distributed import Client, Future, KilledWorker

from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.watch import ClusterWatch
from pipeline.engine.window import FETCH_S, TICK_S, cause_of
from pipeline.engine.worker import Job, await_models, worker_facts
from pipeline.errors import ClusterError, InterruptedRunError, WorkerUnfitError
from pipeline.records import ImageRef, Outcome, PartWork, WorkerFacts

LEAST_S = 3.0
"""Seconds that are counted at least, as far as the first round lets foresee."""

MOST_ROUNDS = 20
"""Rounds that are counted at most."""


class TrialError(Exception):
    """A trial came to nothing, but a run might get through: it begins again what this gives up."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is counted at least, in whole rounds of the task slots."""

    n_batches: int = 3
    n_rounds: int = 1
    n_workers: int | None = None
    """Workers that take part at most, where all have the model; None is all of them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a trial found."""

    n_images: int
    """Images that were counted."""

    ends_s: tuple[float, ...]
    """Seconds from the beginning of the count to the end of each of their batches, ascending."""

    n_all: int
    """Images that went through, those before the count included."""

    loaded_s: float
    """Seconds until every worker had its model."""

    loading: Counter[str]
    """What the workers had asked of their stores by then."""

    workers: tuple[WorkerFacts, ...]
    """What those have that took part, and what they asked and spent from then on, for all images that went through."""

    others: tuple[WorkerFacts, ...] = ()
    """What those have that did not."""

    @property
    def steady_s(self) -> float:
        """Seconds that the images took that were counted."""
        return self.ends_s[-1]

    @property
    def requests(self) -> Counter[str]:
        """What the workers asked of their stores for all of it."""
        return sum((worker.requests for worker in self.workers), self.loading.copy())


class PaceTrial:
    """Measures a cluster's pace once.

    Parameters
    ----------
    client
        Of a cluster whose workers are prepared for the job.
    job
        What the tasks need to know, under a run id that nobody else uses.
    batching
        How images are cut into tasks.
    refs
        The images, taken over and over where more are needed; at least one.
    stall_timeout_s
        Seconds without any batch done after which it gives up.
    stop
        Set from outside to end it early.
    extent
        How much is counted at least.
    told
        Is given the outcomes of each batch of the first time that the images are taken; None where nobody wants them.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        batching: Batching,
        refs: Sequence[ImageRef],
        stall_timeout_s: float,
        stop: threading.Event,
        extent: Extent = Extent(),
        told: Callable[[Sequence[Outcome]], None] | None = None,
    ) -> None:
        self._client, self._job, self._batching, self._stop = client, job, batching, stop
        self._stall_timeout_s = stall_timeout_s
        self._watch = ClusterWatch(client, job, stall_timeout_s)
        self._refs = cycle(refs)
        self._batch_size = min(batching.batch_size, len(refs))
        self._extent, self._told = extent, told
        self._n_wanted = math.ceil(len(refs) / self._batch_size) if told else 0
        self._wanted: set[str] = set()
        self._taking_part: list[str] | None = None
        self._events: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._futures: list[Future] = []
        self._ends: list[float] = []

    def run(self) -> Pace:
        """Return the pace, with every task done and forgotten.

        Raises
        ------
        TrialError
            If workers die of it, or cannot infer.
        PipelineError
            What would end a run too: the store refuses, the cluster is lost, a signal.
        """
        began = time.monotonic()
        await_models(self._client, self._job, self._stall_timeout_s)
        loaded_s = time.monotonic() - began
        loading = sum((worker.requests for worker in worker_facts(self._client, self._job)), Counter[str]())
        try:
            ends_s = self._timed()
        finally:
            if self._client.status == "running":
                self._client.cancel(self._futures, force=True)
        workers = tuple(worker_facts(self._client, self._job, self._taking_part))
        others = tuple(worker_facts(self._client, self._job, self._left_out)) if self._left_out else ()
        n_images, n_all = (n * self._batch_size for n in (len(ends_s), len(self._ends)))
        return Pace(n_images, ends_s, n_all, loaded_s, loading, workers, others)

    @property
    def _left_out(self) -> list[str]:
        return [] if self._taking_part is None else sorted({*self._client.nthreads()} - {*self._taking_part})

    def _choose(self) -> int:
        """Choose who takes part, spread over all that there are; return their task slots."""
        n_slots, n_most = dict(self._client.nthreads()), self._extent.n_workers
        if n_most is None or n_most >= len(n_slots) or self._job.model_resource is not None:
            return self._watch.n_slots
        self._taking_part = sorted(n_slots)[:: len(n_slots) // n_most][:n_most]
        return sum(n_slots[worker] for worker in self._taking_part)

    def _timed(self) -> tuple[float, ...]:
        """Return when each batch was done that was counted, in seconds since the count began."""
        self._watch.look()
        n_slots = self._choose()
        n_rounds = max(self._extent.n_rounds, math.ceil(self._extent.n_batches / n_slots))
        began = time.monotonic()
        self._submit((1 + n_rounds) * n_slots)
        self._await(n_slots)
        started = time.monotonic()
        n_foreseen = min(MOST_ROUNDS, math.ceil(LEAST_S / (started - began)))  # as if each took as long as the first
        self._submit(max(0, n_foreseen - n_rounds) * n_slots)
        self._await(len(self._futures))
        return tuple(end - started for end in self._ends[n_slots:])

    def _submit(self, n_batches: int) -> None:
        """Send batches to the scheduler, each as a part of its own."""
        placement, first = self._watch.placement(), len(self._futures)
        works = [PartWork(first + i, tuple(islice(self._refs, self._batch_size))) for i in range(n_batches)]
        graphs = [part_graph(work, self._job, self._batching, placement) for work in works]
        infers = [infer for graph in graphs for infer in graph.infers]
        futures: list[Future] = self._client.compute(infers, workers=self._taking_part)
        self._futures += futures
        self._wanted = {future.key for future in self._futures[: self._n_wanted]}
        for future in futures:
            future.add_done_callback(self._events.put)

    def _await(self, n_batches: int) -> None:
        """Return when so many batches are done since the beginning."""
        while len(self._ends) < n_batches:
            if self._stop.is_set():
                raise InterruptedRunError("stopped on request")
            if self._watch.look():
                raise TrialError("workers died of it")
            if self._watch.lacks(self._taking_part or ()):
                raise TrialError("a worker left that took part")
            try:
                self._take(self._events.get(timeout=TICK_S))
            except queue.Empty:
                continue

    def _take(self, future: Future) -> None:
        if future.status in ("pending", "lost"):  # its worker is gone with it: it is computed again
            future.add_done_callback(self._events.put)
            return
        if future.status != "finished":
            error = cause_of(future)
            if isinstance(error, (KilledWorker, WorkerUnfitError)):
                raise TrialError(" ".join(str(error).split())) from error
            raise error
        self._ends.append(time.monotonic())
        self._watch.moved()
        if self._told is not None and future.key in self._wanted:
            self._told(self._outcomes(future))

    def _outcomes(self, future: Future) -> Sequence[Outcome]:
        try:
            outcomes: Sequence[Outcome] = future.result(timeout=FETCH_S)
        except (CancelledError, OSError) as error:  # a timeout is an OSError, too
            raise ClusterError("the scheduler was lost, or does not answer") from error
        return outcomes
