"""A classifier on a GPU that takes in the next device batch while it computes the last.

Pixels go from the tasks' memory into pinned memory, and from there to the device on a stream of their own, without
anybody waiting; the compute stream begins a batch once its pixels are there. Only the top fives return, in one copy.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.records import Busy, Prediction
from pipeline.stages.model.answers import unpacked
from pipeline.stages.model.classifier import Classifier
from pipeline.stages.model.device import device_faults
from pipeline.stages.model.fixed_shapes import doubled
from pipeline.stages.model.streams import Step, Streams

DEPTH = 2
"""Device batches on their way: one is computed, the next is copied."""


class Lane:
    """The memory that one device batch goes through: pinned, on the device, and pinned again for its answers.

    Parameters
    ----------
    streams
        Of the device.
    shape
        (n, 3, H, W) of the largest device batch.
    device
        The classifier's.
    """

    def __init__(self, streams: Streams, shape: tuple[int, ...], device: torch.device) -> None:
        self.shape = shape
        self.staged = streams.host_memory(shape, torch.uint8)
        self.answers = torch.empty(0, 0)
        self._streams = streams
        self.images = torch.empty(shape, dtype=torch.uint8, device=device, memory_format=torch.channels_last)

    def receive(self, packed: Tensor) -> None:
        """Queue the copy of packed answers to the host."""
        if self.answers.shape[1:] != packed.shape[1:]:
            self.answers = self._streams.host_memory((self.shape[0], packed.shape[1]), packed.dtype)
        self.answers[: len(packed)].copy_(packed, non_blocking=True)

    def stage(self, pixels: Sequence[NDArray[np.uint8]]) -> int:
        """Copy pieces into pinned memory, one after another; return the number of their images."""
        staged, n_images = self.staged.numpy(), 0
        for piece in pixels:
            staged[n_images : n_images + len(piece)] = piece
            n_images += len(piece)
        return n_images


class OnItsWay:
    """A device batch that was begun; a `pipeline.records.Running`."""

    def __init__(
        self, lane: Lane, n_images: int, steps: tuple[Step, Step], staging_s: float, free: deque[Lane]
    ) -> None:
        self._lane, self._n_images, self._free = lane, n_images, free
        self._copied, self._computed = steps
        self._staging_s = staging_s

    def is_done(self) -> bool:
        """Return whether the device has computed it."""
        return self._computed.is_done()

    def answer(self) -> Prediction:
        """Wait for the device, and free the lane.

        Raises
        ------
        DeviceError
            If the device has failed: what was launched without waiting tells its faults only here.
        """
        with device_faults():
            self._computed.wait()
        prediction = unpacked(self._lane.answers[: self._n_images].numpy())
        self._free.append(self._lane)
        return prediction

    def spent_s(self) -> Mapping[Busy, float]:
        """Return the device's seconds by its own clock, and the host's for the copy into pinned memory."""
        return {"transfer": self._staging_s + self._copied.seconds(), "infer": self._computed.seconds()}


class Overlapped:
    """A `pipeline.records.Pipelined` made of a classifier.

    Parameters
    ----------
    classifier
        On the device, its `slice_size` the largest device batch that fits.
    streams
        Of the device.
    batch_size
        The engine's: device batches are this, or it doubled.
    """

    depth = DEPTH

    def __init__(self, classifier: Classifier, streams: Streams, batch_size: int) -> None:
        self._classifier, self._streams, self._batch_size = classifier, streams, batch_size
        self._free: deque[Lane] = deque()

    @property
    def shapes(self) -> Sequence[int]:
        """The device batches that need no padding, in images; smaller ones since memory ran out."""
        return doubled(self._batch_size, self._classifier.slice_size)

    @torch.inference_mode()
    def begin(self, pixels: Sequence[NDArray[np.uint8]]) -> OnItsWay:
        """Stage a device batch, queue its copy and its computation; never wait for the device.

        Raises
        ------
        DeviceError
            If the device has failed, or a single image does not fit into its memory.
        """
        with device_faults():
            lane = self._lane((sum(map(len, pixels)), *pixels[0].shape[1:]))
            began = time.perf_counter()
            n_images = lane.stage(pixels)
            staging_s = time.perf_counter() - began
            images, staged = lane.images[:n_images], lane.staged[:n_images]
            copied = self._streams.queue("copy", lambda: images.copy_(staged, non_blocking=True))
            computed = self._streams.queue(
                "compute", lambda: lane.receive(self._classifier.in_slices(images)), (copied,)
            )
        return OnItsWay(lane, n_images, (copied, computed), staging_s, self._free)

    def _lane(self, shape: tuple[int, ...]) -> Lane:
        """Return memory that nothing is on its way through; what is too small, or of other images, is let go."""
        while self._free:
            lane = self._free.popleft()
            if lane.shape[0] >= shape[0] and lane.shape[1:] == shape[1:]:
                return lane
        return Lane(self._streams, (max(shape[0], self.shapes[-1]), *shape[1:]), self._classifier.device)
