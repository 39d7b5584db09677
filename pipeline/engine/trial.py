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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from distributed import Client, Future, KilledWorker

from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.watch import ClusterWatch
from pipeline.engine.window import TICK_S, cause_of
from pipeline.engine.worker import Job, await_models, told_by_workers
from pipeline.errors import InterruptedRunError, WorkerUnfitError
from pipeline.records import ImageRef, PartWork
from pipeline.storage import requests_since_last

LEAST_BATCHES = 3
"""Batches that are counted at least, in whole rounds of the task slots."""

LEAST_S = 3.0
"""Seconds that are counted at least, as far as the first round lets foresee."""

MOST_ROUNDS = 20
"""Rounds that are counted at most."""


class TrialError(Exception):
    """A trial came to nothing, but a run might get through: it begins again what this gives up."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a trial found."""

    n_images: int
    """Images that were counted."""

    steady_s: float
    """Seconds that they took."""

    requests: Counter[str]
    """What the workers asked of their stores for it, the images before those that were counted included."""


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
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        batching: Batching,
        refs: Sequence[ImageRef],
        stall_timeout_s: float,
        stop: threading.Event,
    ) -> None:
        self._client, self._job, self._batching, self._stop = client, job, batching, stop
        self._stall_timeout_s = stall_timeout_s
        self._watch = ClusterWatch(client, job, stall_timeout_s)
        self._refs = cycle(refs)
        self._batch_size = min(batching.batch_size, len(refs))
        self._events: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._futures: list[Future] = []
        self._n_done = 0

    def run(self) -> Pace:
        """Return the pace, with every task done and forgotten.

        Raises
        ------
        TrialError
            If workers die of it, or cannot infer.
        PipelineError
            What would end a run too: the store refuses, the cluster is lost, a signal.
        """
        await_models(self._client, self._job, self._stall_timeout_s)
        try:
            n_images, steady_s = self._timed()
        finally:
            if self._client.status == "running":
                self._client.cancel(self._futures, force=True)
        requests = sum(told_by_workers(self._client, requests_since_last), Counter[str]())
        return Pace(n_images, steady_s, requests)

    def _timed(self) -> tuple[int, float]:
        """Return the images that were counted, and the seconds that they took."""
        self._watch.look()
        n_slots, n_rounds = self._watch.n_slots, math.ceil(LEAST_BATCHES / self._watch.n_slots)
        began = time.monotonic()
        self._submit((1 + n_rounds) * n_slots)
        self._await(n_slots)
        started = time.monotonic()
        n_foreseen = min(MOST_ROUNDS, math.ceil(LEAST_S / (started - began)))  # as if each took as long as the first
        self._submit(max(0, n_foreseen - n_rounds) * n_slots)
        self._await(len(self._futures))
        return (len(self._futures) - n_slots) * self._batch_size, time.monotonic() - started

    def _submit(self, n_batches: int) -> None:
        """Send batches to the scheduler, each as a part of its own."""
        placement, first = self._watch.placement(), len(self._futures)
        works = [PartWork(first + i, tuple(islice(self._refs, self._batch_size))) for i in range(n_batches)]
        graphs = [part_graph(work, self._job, self._batching, placement) for work in works]
        futures: list[Future] = self._client.compute([infer for graph in graphs for infer in graph.infers])
        self._futures += futures
        for future in futures:
            future.add_done_callback(self._events.put)

    def _await(self, n_batches: int) -> None:
        """Return when so many batches are done since the beginning."""
        while self._n_done < n_batches:
            if self._stop.is_set():
                raise InterruptedRunError("stopped by a signal")
            if self._watch.look():
                raise TrialError("workers died of it")
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
        self._n_done += 1
        self._watch.moved()
