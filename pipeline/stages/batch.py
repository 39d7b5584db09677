"""From samples to one stack. Pure: no I/O, no Dask."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.records import ImageBatch, ImageFailure, Sample


def reformat(samples: Iterable[Sample | ImageFailure]) -> ImageBatch:
    """Stack what was decoded, once, and carry what was not beside it.

    Parameters
    ----------
    samples
        In planned order. Pixels are (3, H, W), all of one shape.

    Returns
    -------
    ImageBatch
        ``pixels`` (N, 3, H, W) with channels last in memory, as convolutions like them best. Without any sample N is 0.
    """
    samples = tuple(samples)
    good = [sample for sample in samples if isinstance(sample, Sample)]
    return ImageBatch(
        refs=tuple(sample.ref for sample in good),
        pixels=_stack(good),
        sizes=tuple((sample.width, sample.height) for sample in good),
        failures=tuple(sample for sample in samples if isinstance(sample, ImageFailure)),
    )


def _stack(samples: list[Sample]) -> NDArray[np.uint8]:
    if not samples:
        return np.empty((0, 3, 0, 0), np.uint8)
    channels, height, width = samples[0].pixels.shape
    stack = np.empty((len(samples), height, width, channels), np.uint8)
    np.stack([sample.pixels.transpose(1, 2, 0) for sample in samples], out=stack)
    return stack.transpose(0, 3, 1, 2)
