"""A bounded window of parts in flight: refilled as parts complete, so that no memory grows with the bucket."""

import queue
from collections.abc import Callable, Container
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from dask.delayed import Delayed
from distributed import Client, Future

from pipeline.engine.graph import PartGraph
from pipeline.errors import ClusterError
from pipeline.records import PartWork, Receipt

TICK_S = 0.5
"""How often a waiting driver looks up: for a signal, a lost cluster, its progress display."""

FETCH_S = 5.0
"""Seconds in which a finished part's counts should arrive; a signal waits as long."""


@dataclass(frozen=True, slots=True)
class PartFault:
    """A part that could not be computed."""

    work: PartWork

    error: Exception
    """What a task raised, or what Dask says of its end."""


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
        self._parts: dict[str, _InFlight] = {}
        self._batches: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def n_batches(self) -> int:
        """Batches in flight that have not been classified yet."""
        return len(self._batches)

    def wake(self) -> None:
        """Make `next_event` return early, from any thread."""
        self._events.put(None)

    def submit(self, graph: PartGraph) -> None:
        """Send one part to the scheduler."""
        wanted: list[Delayed] = [graph.commit, *graph.infers]
        futures: list[Future] = self._client.compute(wanted)
        self._parts[graph.commit.key] = _InFlight(graph.work, futures)
        self._batches |= graph.batches
        for future in futures:
            future.add_done_callback(self._events.put)

    def next_event(self) -> Receipt | PartFault | None:
        """Wait a moment for something to happen; return what became of a part, if that was it.

        Raises
        ------
        ClusterError
            If the cluster was lost.
        """
        try:
            future = self._events.get(timeout=TICK_S)
        except queue.Empty:
            return None
        if future is None:
            return None
        if future.status in ("pending", "lost"):  # its worker is gone with it: it is computed again
            future.add_done_callback(self._events.put)
            return None
        if future.status != "finished":
            return self._failed(future)
        if future.key in self._batches:
            self._on_batch(self._batches.pop(future.key))
        return self._fetch(future) if future.key in self._parts else None

    def withdraw(self, parts: Container[int]) -> list[PartWork]:
        """Take parts in flight back from the scheduler, by their numbers, and return them."""
        keys = [key for key, in_flight in self._parts.items() if in_flight.work.index in parts]
        return [self._drop(key) for key in keys]

    def cancel(self) -> None:
        """Take everything in flight back from the scheduler."""
        for key in list(self._parts):
            self._drop(key)

    def _failed(self, future: Future) -> PartFault | None:
        key = next((key for key, in_flight in self._parts.items() if future in in_flight.futures), None)
        if key is None:
            return None
        error = cause_of(future)
        return PartFault(self._drop(key), error)

    def _drop(self, key: str) -> PartWork:
        in_flight = self._parts.pop(key)
        for future in in_flight.futures:
            self._batches.pop(future.key, None)
        if self._client.status == "running":
            self._client.cancel(in_flight.futures, force=True)
        return in_flight.work

    def _fetch(self, future: Future) -> Receipt | None:
        """Return what a commit told; None where its worker is gone with it, so that it is computed again."""
        try:
            receipt: Receipt = future.result(timeout=FETCH_S)
        except TimeoutError:
            self._events.put(future)
            return None
        except (CancelledError, OSError) as error:
            raise ClusterError("the scheduler was lost") from error
        del self._parts[future.key]
        return receipt


@dataclass(frozen=True, slots=True)
class _InFlight:
    work: PartWork
    futures: list[Future]


def cause_of(future: Future) -> Exception:
    """Return why a task has no result; raise `ClusterError` where the cluster is to blame."""
    try:
        error: Any = future.exception(timeout=10)
    except (CancelledError, TimeoutError, OSError):
        error = None
    if error is None:
        raise ClusterError("the scheduler was lost, or another client cancelled the run's tasks")
    if isinstance(error, RuntimeError) and "deserialization of the task graph" in str(error):
        raise ClusterError("the scheduler cannot import the pipeline: install it there as on the workers")
    return error  # type: ignore[no-any-return]
