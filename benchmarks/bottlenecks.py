"""Bottlenecks made by hand, for ``verdicts.py`` and ``mixed.py``. Importable, so that workers find what comes to them.

Listing, plan, window, graph, reading, decoding and commit are the project's own; what is slow is told per case.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from distributed import Worker
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from pipeline.records import ImageRef, Predict, Prediction
from pipeline.storage import local

BATCH_SIZE = 8

RESOURCE = "GPU"
"""Of the workers that have the model, where others help."""


@dataclass(frozen=True, slots=True)
class Case:
    """A run with one bottleneck, and the same with more of what the verdict should name."""

    bound_by: str
    lever: str
    images: str
    """``small`` (12 x 10 pixels) or ``large`` (6 megapixels)."""

    n_images: int
    workers: int = 1
    """That have a model."""

    helpers: int = 0
    """Workers beside those, without a model."""

    threads: int = 2
    """Task slots of every worker."""

    cores: int | None = None
    """Of its own, to which every worker is tied as far as there are enough; None is all that there are."""

    crop_size: int = 8
    """Pixels of the side of what the model sees."""

    batches_per_part: int = 2
    model_s: float = 0.0
    """That the model takes for an image, without using a core."""

    load_s: float = 0.0
    read_s: float = 0.0
    """Until a store answers."""

    commit_s: float = 0.0
    """Until a store has taken a part."""

    listing_s: float = 0.0
    """For an image."""


Lift = Callable[[Case], dict[str, Any]]

CASES: list[tuple[Case, Lift]] = [
    (
        Case("inference", "one more worker with a model", "small", 800, model_s=0.02),
        lambda case: {"workers": case.workers + 1},
    ),
    (Case("decode", "1 more thread", "large", 120, threads=1), lambda _: {"threads": 2}),
    (Case("decode", "1 more core", "large", 120, threads=3, cores=1), lambda _: {"cores": 2}),
    (
        Case("read", "one more worker", "small", 800, read_s=0.2),
        lambda case: {"workers": case.workers + 1},
    ),
    (
        Case("commit", "twice the --batches-per-part", "small", 480, threads=1, commit_s=0.5),
        lambda case: {"batches_per_part": 2 * case.batches_per_part},
    ),
    (
        Case("listing", "a listing twice as fast", "small", 800, listing_s=0.02),
        lambda case: {"listing_s": case.listing_s / 2},
    ),
    (
        Case("start-up", "twice the images", "small", 200, load_s=8.0, model_s=0.02),
        lambda case: {"n_images": 2 * case.n_images},
    ),
]
"""Each with what the verdict's lever means for it."""


def load_model(case: Case) -> Predict:
    """Return a model that takes its time and knows nothing."""
    time.sleep(case.load_s)
    return partial(_answer, case.model_s)


def slow_down(case: Case, dask_worker: Worker) -> None:
    """Make the stores of a worker process slow, and tie it to its cores."""
    if case.cores is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        first = int(dask_worker.name) * case.cores % len(cores)
        os.sched_setaffinity(0, cores[first : first + case.cores])
    LocalFileSystem.cat_file = _after(case.read_s, LocalFileSystem.cat_file)
    local.replace = _after(case.commit_s, local.replace)


def received_bytes(dask_worker: Worker) -> int:
    """Return what a worker had from other workers."""
    return sum(transfer["total"] for transfer in dask_worker.transfer_incoming_log)


def slowly(case: Case, refs: list[ImageRef]) -> Iterator[ImageRef]:
    """Yield what is listed, a page of the size of two parts at a time."""
    step = 2 * BATCH_SIZE * case.batches_per_part
    for begin in range(0, len(refs), step):
        time.sleep(case.listing_s * step)
        yield from refs[begin : begin + step]


def _after(seconds: float, call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return call(*args, **kwargs)

    return called


def _answer(model_s: float, pixels: NDArray[np.uint8]) -> Prediction:
    n = len(pixels)
    time.sleep(model_s * n)
    return Prediction(
        class_index=np.tile(np.arange(5, dtype=np.int32), (n, 1)),
        probability=np.full((n, 5), 0.2, np.float32),
        breed_class_index=np.full(n, 151, np.int32),
        breed_probability=np.ones(n, np.float32),
    )
