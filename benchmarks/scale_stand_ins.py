"""What stands in for a bucket and for a model in ``benchmarks.scale``: a listing out of nothing, pixels, an answer.

Loaded into each worker by ``--preload``: it puts two names of the engine's aside there, the opening of a storage and
the decoding of an image. All else that runs is the engine's own. What the stand-ins take of a processor is added up,
but for the decoder's, a microsecond, which is left with the engine.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.engine import isolation, tasks
from pipeline.records import ImageRef, Prediction, Sample, Transform
from pipeline.stages.labels import breeds
from pipeline.storage import StoredObject

SOURCE = "generated://my-training-data/photos/Images"
TRANSFORM = Transform(resize_size=232, crop_size=224, mean=(0.5,) * 3, std=(0.2,) * 3)

_KEYS_PER_PAGE = 1000
"""As S3 has it."""

_PIXELS = np.zeros((TRANSFORM.crop_size, TRANSFORM.crop_size, 3), np.uint8).transpose(2, 0, 1)
_spent_s = [0.0]
_lock = threading.Lock()


def spent_s() -> float:
    """Return the seconds of a processor that the stand-ins of this process have taken so far."""
    return _spent_s[0]


def list_pages(n_images: int) -> Iterator[list[StoredObject]]:
    """Yield a listing of images in sorted order, spread over the folders of the 120 breeds."""
    folders = sorted(breed.folder for breed in breeds())
    per_folder = -(-n_images // len(folders))
    for begin in range(0, n_images, _KEYS_PER_PAGE):
        with _metered():
            page = _page(range(begin, min(n_images, begin + _KEYS_PER_PAGE)), folders, per_folder)
        yield page


def load_model() -> Any:
    """Return the model's stand-in, which answers constants."""
    return _answer


def dask_setup(worker: Any) -> None:  # noqa: ARG001  the signature is Dask's
    """Put the stand-ins in their places; Dask calls this by its name."""
    for module, name, stand_in in ((tasks, "open_storage", _open), (isolation, "decode", _decode)):
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name} any more: the stand-in needs another place")
        setattr(module, name, stand_in)


class _Storage:
    """Answers every read with no bytes."""

    def read_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes]:
        with _metered():
            return [b""] * len(objects)


def _open(url: str, options: object) -> _Storage:  # noqa: ARG001  in the place of `pipeline.storage.open_storage`
    return _Storage()


def _decode(ref: ImageRef, data: bytes, transform: Transform) -> Sample:  # noqa: ARG001  likewise `decode`
    return Sample(ref, _PIXELS, 500, 375)


def _answer(pixels: NDArray[np.uint8]) -> Prediction:
    with _metered():
        n = len(pixels)
        return Prediction(
            class_index=np.tile(np.arange(151, 156, dtype=np.int32), (n, 1)),
            probability=np.tile(np.array([0.5, 0.2, 0.1, 0.1, 0.1], np.float32), (n, 1)),
            breed_class_index=np.full(n, 151, np.int32),
            breed_probability=np.full(n, 0.5, np.float32),
        )


def _page(numbers: range, folders: list[str], per_folder: int) -> list[StoredObject]:
    hexes = np.random.default_rng(numbers.start).bytes(16 * len(numbers)).hex()  # no etag is like another
    return [
        StoredObject(
            f"{SOURCE}/{(folder := folders[number // per_folder])}/{folder[:9]}_{number:010d}.jpg",
            hexes[32 * i : 32 * i + 32],
            60_000 + number % 70_000,
        )
        for i, number in enumerate(numbers)
    ]


@contextmanager
def _metered() -> Iterator[None]:
    began = time.thread_time()
    try:
        yield
    finally:
        with _lock:
            _spent_s[0] += time.thread_time() - began
