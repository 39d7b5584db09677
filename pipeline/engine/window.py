"""A bounded window of parts in flight: refilled as parts complete, so that no memory grows with the bucket."""

import queue
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from dask.delayed import Delayed
from distributed import Client, Future, KilledWorker

from pipeline.engine.graph import PartGraph
from pipeline.errors import ClusterError, PipelineError
from pipeline.records import Tally

TICK_S = 0.5
"""How often a waiting driver looks up: for a signal, a lost cluster, its progress display."""

FETCH_S = 5.0
"""Seconds in which a finished part's counts should arrive; a signal waits as long."""


class Window:
    """The parts that a scheduler knows of.

    Parameters
    ----------
    client
        Of the cluster that computes them.
    on_batch
        Called with a number of images whenever a batch has been classified.
    """

    def __init__(self, client: Client, on_batch: Callable[[int], None]) -> None:
        self._client = client
        self._on_batch = on_batch
        self._events: queue.SimpleQueue[Future | None] = queue.SimpleQueue()
        self._parts: dict[str, list[Future]] = {}
        self._batches: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def n_batches(self) -> int:
        """Batches in flight that have not been classified yet."""
        return len(self._batches)

    def wake(self) -> None:
        """Make `next_tally` return early, from any thread."""
        self._events.put(None)

    def submit(self, graph: PartGraph) -> None:
        """Send one part to the scheduler."""
        wanted: list[Delayed] = [graph.commit, *graph.infers]
        futures: list[Future] = self._client.compute(wanted)
        self._parts[graph.commit.key] = futures
        self._batches |= graph.batches
        for future in futures:
            future.add_done_callback(self._events.put)

    def next_tally(self) -> Tally | None:
        """Wait a moment for something to happen; return the counts of a part that was committed, if that was it.

        Raises
        ------
        PipelineError
            What made a part fail; `ClusterError` where the cluster was lost.
        """
        try:
            future = self._events.get(timeout=TICK_S)
        except queue.Empty:
            return None
        if future is None:
            return None
        if future.status != "finished":
            if any(future in futures for futures in self._parts.values()):
                raise _cause(future)
            return None
        if future.key in self._batches:
            self._on_batch(self._batches.pop(future.key))
        return self._fetch(future) if future.key in self._parts else None

    def _fetch(self, future: Future) -> Tally | None:
        """Return a committed part's counts; None where its worker is gone with them, so that it is computed again."""
        try:
            tally: Tally = future.result(timeout=FETCH_S)
        except TimeoutError:
            self._events.put(future)
            return None
        except (CancelledError, OSError) as error:
            raise ClusterError("the scheduler was lost") from error
        del self._parts[future.key]
        return tally

    def cancel(self) -> None:
        """Take everything in flight back from the scheduler."""
        futures = [future for futures in self._parts.values() for future in futures]
        self._parts.clear()
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)


def _cause(future: Future) -> Exception:
    """Return what the run should end with: a task's own error, or that the cluster is gone."""
    try:
        error: Any = future.exception(timeout=10)
    except (CancelledError, TimeoutError, OSError):
        error = None
    if isinstance(error, KilledWorker):
        return ClusterError(f"workers kept dying on {error.task}: see the logs of {error.last_worker}")
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, RuntimeError) and "deserialization of the task graph" in str(error):
        return ClusterError("the scheduler cannot import the pipeline: install it there as on the workers")
    if error is None:
        return ClusterError("the scheduler was lost, or another client cancelled the run's tasks")
    return error  # type: ignore[no-any-return]
