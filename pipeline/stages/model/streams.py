"""CUDA's streams, events and pinned memory: what lets a copy to the device go on beside the computing there."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

StreamName: TypeAlias = Literal["copy", "compute"]


class Step(Protocol):
    """Work that was queued on a stream."""

    def is_done(self) -> bool:
        """Return whether the device has done it, without waiting."""

    def wait(self) -> None:
        """Block this thread until the device has done it; its faults surface here."""

    def seconds(self) -> float:
        """Return how long the device was at it, once it is done."""


class Streams(Protocol):
    """Two queues of work on a device, each of which does its work in order."""

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return memory of the host that the device copies from and to on its own; images channels last."""

    def queue(self, stream: StreamName, work: Callable[[], object], after: Sequence[Any] = ()) -> Step:
        """Have the device do what `work` asks of it, after the steps of the other stream; return at once."""


class CudaStep:
    """Two events around some work."""

    def __init__(self) -> None:
        self.began = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # A thread that waits for an event that does not block takes a whole core, which decoding could use.
        self.ended = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]

    def is_done(self) -> bool:
        """Return whether the device has done it."""
        return bool(self.ended.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        """Block this thread, without Python's lock, until the device has done it."""
        self.ended.synchronize()

    def seconds(self) -> float:
        """Return how long the device was at it."""
        return float(self.began.elapsed_time(self.ended)) / 1000


class CudaStreams:
    """Two streams of the current CUDA device; neither is the default one, which everything would wait for."""

    def __init__(self) -> None:
        self._streams: dict[StreamName, torch.cuda.Stream] = {
            "copy": torch.cuda.Stream(),  # type: ignore[no-untyped-call]
            "compute": torch.cuda.Stream(),  # type: ignore[no-untyped-call]
        }
        torch.cuda.synchronize()  # the model's weights were put there by the default stream

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return pinned memory."""
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        return torch.empty(tuple(shape), dtype=dtype, memory_format=layout, pin_memory=True)

    def queue(self, stream: StreamName, work: Callable[[], object], after: Sequence[Any] = ()) -> CudaStep:
        """Launch `work` on a stream that waits for `after`; the host does not wait."""
        step, queue = CudaStep(), self._streams[stream]
        with torch.cuda.stream(queue):
            for earlier in after:
                queue.wait_event(earlier.ended)
            step.began.record(queue)
            work()
            step.ended.record(queue)
        return step
