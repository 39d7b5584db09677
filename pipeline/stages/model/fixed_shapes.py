"""A forward pass that sees a few batch sizes only: what is smaller is padded. What is made for a shape is made once.

Compilers and CUDA graphs work for one shape, and cuDNN's benchmark helps only while shapes stay the same. The rows of a
batch do not depend on each other, so that it does not matter what the padding holds.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""(N, 3, H, W) uint8 images to (N, 12) packed answers, on one device."""

Prepare: TypeAlias = Callable[[Forward, Tensor], Callable[[], Tensor]]
"""Returns what computes the forward pass of just this buffer, as often as it is called, with what it holds then."""


class FixedShapes:
    """A `Forward` of its own, made of another.

    Parameters
    ----------
    forward
        What is to be computed.
    shapes
        Tells the batch sizes to pad to, ascending. A larger batch goes through as it is.
    prepare
        Makes the faster form for one shape; called once for each, before its first use.
    """

    def __init__(self, forward: Forward, shapes: Callable[[], Sequence[int]], prepare: Prepare) -> None:
        self._forward, self._shapes, self._prepare = forward, shapes, prepare
        self._ready: dict[tuple[int, ...], tuple[Tensor, Callable[[], Tensor]]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Return the answers to images; the caller may keep them."""
        n_images = len(images)
        size = shape_for(n_images, self._shapes())
        key = (size, *images.shape[1:])
        buffer, compute = self._ready.get(key) or self._get_ready(images, size, key)
        buffer[:n_images].copy_(images, non_blocking=True)
        return compute()[:n_images].clone()

    def forget(self) -> None:
        """Let go of everything that was made, buffers included."""
        self._ready.clear()

    def _get_ready(self, images: Tensor, size: int, key: tuple[int, ...]) -> tuple[Tensor, Callable[[], Tensor]]:
        shape = (size, *images.shape[1:])
        buffer = torch.zeros(shape, dtype=images.dtype, device=images.device).to(memory_format=torch.channels_last)
        buffer[: len(images)].copy_(images)
        self._ready[key] = buffer, self._prepare(self._forward, buffer)
        return self._ready[key]


def shape_for(n_images: int, shapes: Sequence[int]) -> int:
    """Return the smallest shape that holds so many images, their number where none does.

    >>> shape_for(81, (80, 160, 320))
    160
    """
    return min((shape for shape in shapes if shape >= n_images), default=n_images)


def doubled(smallest: int, limit: int) -> tuple[int, ...]:
    """Return `smallest` and its doubles up to `limit`; the limit alone where even the smallest is above it.

    >>> doubled(80, 700)
    (80, 160, 320, 640)
    >>> doubled(80, 40)
    (40,)
    """
    shapes = [smallest << power for power in range(limit.bit_length()) if smallest << power <= limit]
    return tuple(shapes) or (limit,)


def once_prepared(forward: Forward, buffer: Tensor) -> Callable[[], Tensor]:
    """Return the forward pass of a buffer as it is: what is left to do is padding."""
    return lambda: forward(buffer)
