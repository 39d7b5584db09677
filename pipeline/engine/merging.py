"""What waits for the model: merged or sliced into device batches, and each answer given back to who asked. Pure.

The engine's batches are one size, what a device computes best is another. Rows are taken in the order of their coming
and given back in the same order, so that a request's answer is put together as it comes.
"""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Prediction


class Request:
    """A batch of the engine's, and the future of its answer."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.answer: Future[Prediction] = Future()
        self.n_taken = 0
        """Rows that are on their way through the model, or back."""
        self._parts: list[Prediction] = []

    @property
    def n_left(self) -> int:
        """Rows that still wait."""
        return len(self.pixels) - self.n_taken

    def give(self, part: Prediction) -> None:
        """Take the answer to the next rows; the future is done with the last."""
        self._parts.append(part)
        if sum(len(part.class_index) for part in self._parts) == len(self.pixels):
            self.answer.set_result(self._parts[0] if len(self._parts) == 1 else joined(self._parts))

    def fail(self, error: BaseException) -> None:
        """Answer with an error, once."""
        self.n_taken = len(self.pixels)
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(frozen=True, slots=True, eq=False)
class DeviceBatch:
    """Rows of one or more requests that go through the model together."""

    pieces: tuple[tuple[Request, slice], ...]

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """(n, 3, H, W) of each piece, without a copy."""
        return [request.pixels[rows] for request, rows in self.pieces]

    def give(self, answer: Prediction) -> None:
        """Give each request the answer to its own rows."""
        start = 0
        for request, rows in self.pieces:
            stop = start + rows.stop - rows.start
            if not request.answer.done():
                request.give(rows_of(answer, slice(start, stop)))
            start = stop

    def fail(self, error: BaseException) -> None:
        """Give each request the error; what is left of it does not wait any longer."""
        for request, _ in self.pieces:
            request.fail(error)


class Waiting:
    """The requests that wait, first come, first served. Any thread may put, one takes."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()
        self._lock = threading.Lock()
        self._has_come = threading.Event()

    def put(self, request: Request) -> None:
        """Let a request wait."""
        with self._lock:
            self._requests.append(request)
            self._has_come.set()

    def take(self, shapes: Sequence[int]) -> DeviceBatch | None:
        """Return the rows that should go next, None where none wait.

        Parameters
        ----------
        shapes
            See `rows_at_once`.
        """
        with self._lock:
            self._has_come.clear()
            while self._requests and not self._requests[0].n_left:
                self._requests.popleft()
            alike = self._alike()
            if not alike:
                return None
            n_rows = rows_at_once([request.n_left for request in alike], shapes)
            return DeviceBatch(tuple(_pieces(alike, n_rows)))

    def wait(self, timeout_s: float) -> None:
        """Return when a request has come since the last was taken, or in so many seconds."""
        self._has_come.wait(timeout_s)

    def drop(self) -> None:
        """Cancel every request of which no row was taken yet."""
        with self._lock:
            for request in self._requests:
                if not request.n_taken and request.answer.cancel():
                    request.n_taken = len(request.pixels)

    def _alike(self) -> list[Request]:
        """Return the requests from the first on whose images have its size."""
        alike: list[Request] = []
        for request in self._requests:
            if alike and request.pixels.shape[1:] != alike[0].pixels.shape[1:]:
                break
            alike.append(request)
        return alike


def rows_at_once(waiting: Sequence[int], shapes: Sequence[int]) -> int:
    """Return how many of the rows that wait should go through the model together.

    Parameters
    ----------
    waiting
        Rows of each request.
    shapes
        The device batches that the model takes as they are, ascending; smaller ones it pads. None: each request goes
        alone, and the model slices it as it likes.

    Examples
    --------
    Three batches of 80 are not padded to 320: two go, and then the third.

    >>> rows_at_once([80, 80, 80], [80, 160, 320])
    160
    >>> rows_at_once([30], [80, 160, 320])
    30
    >>> rows_at_once([80, 80, 80], [])
    80
    """
    if not shapes:
        return waiting[0]
    n_waiting = sum(waiting)
    return max((shape for shape in shapes if shape <= n_waiting), default=n_waiting)


def rows_of(answer: Prediction, rows: slice) -> Prediction:
    """Return some rows of an answer."""
    return Prediction(
        answer.class_index[rows],
        answer.probability[rows],
        answer.breed_class_index[rows],
        answer.breed_probability[rows],
    )


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Return one answer of several, in their order."""
    return Prediction(
        np.concatenate([part.class_index for part in parts]),
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.breed_class_index for part in parts]),
        np.concatenate([part.breed_probability for part in parts]),
    )


def _pieces(requests: Sequence[Request], n_rows: int) -> list[tuple[Request, slice]]:
    pieces = []
    for request in requests:
        start = request.n_taken
        stop = min(start + n_rows, len(request.pixels))
        if stop > start:
            request.n_taken = stop
            n_rows -= stop - start
            pieces.append((request, slice(start, stop)))
    return pieces
