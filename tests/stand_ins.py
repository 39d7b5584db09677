"""Plain functions that stand in for a model where a test is about something else. Importable, so they can travel."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Prediction
from pipeline.stages.labels import breed_class_indices


def brightest(pixels: NDArray[np.uint8]) -> Prediction:
    """Answer every image by its own mean colour, so that a swapped row shows."""
    first = pixels.mean(axis=(1, 2, 3)).astype(np.int32) % 1000
    breeds = np.array(breed_class_indices(), np.int32)
    return Prediction(
        class_index=(first[:, None] + np.arange(5)) % 1000,
        probability=np.tile(np.array([0.5, 0.2, 0.1, 0.1, 0.1], np.float32), (len(first), 1)),
        breed_class_index=breeds[first % 120],
        breed_probability=np.full(len(first), 0.5, np.float32),
    )


def load_brightest():
    return brightest


def darkest(pixels: NDArray[np.uint8]) -> Prediction:
    """Answer as `brightest` does, by other classes: what weights of somebody else's would say."""
    answer = brightest(pixels)
    return replace(answer, class_index=999 - answer.class_index)


def load_darkest():
    return darkest


LOADS: list[int] = []


def load_counted():
    LOADS.append(1)
    return brightest


N_THREADS: list[int] = []


def load_and_count_threads():
    import torch

    N_THREADS.append(torch.get_num_threads())
    return brightest


def not_a_number(pixels: NDArray[np.uint8]) -> Prediction:
    """Answer as a model whose arithmetic overflowed."""
    answer = brightest(pixels)
    answer.probability[:] = np.nan
    return answer


def load_not_a_number():
    return not_a_number


def load_never():
    raise RuntimeError("this model cannot be loaded")
