"""Images on their way from an address to a row. Pure.

Arrays are uint8 numpy arrays in host memory: a batch of 80 is 12 MB, pickles without a copy, and numpy tells Dask its
true size. A tensor exists only on the inference thread.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Stage = Literal["read", "decode", "infer"]
"""Where an image can fail."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image's address, version and label."""

    url: str

    etag: str
    """The version that was listed: S3's ETag without quotes, for other stores what changes with the bytes."""

    size_bytes: int

    label: str | None = None
    """Names the true class, see `pipeline.stages.classes`; None where the truth is unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One decoded image, ready for the model."""

    ref: ImageRef

    pixels: NDArray[np.uint8]
    """(3, H, W), RGB, resized and cropped, not normalised."""

    width: int
    """Of the image as stored, in pixels."""

    height: int
    """Of the image as stored, in pixels."""


@dataclass(frozen=True, slots=True)
class ImageFailure:
    """An image that could not be used. A permanent fault is this record, never an exception."""

    ref: ImageRef

    stage: Stage

    reason: str
    """One line for people; the same fault has the same words, so that reasons can be counted."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """Decoded images stacked for one forward pass."""

    refs: tuple[ImageRef, ...]

    pixels: NDArray[np.uint8]
    """(N, 3, H, W) in host memory, with ``N == len(refs)``; channels last in memory."""

    sizes: tuple[tuple[int, int], ...]
    """Width and height of each image as stored, in pixels."""

    failures: tuple[ImageFailure, ...] = ()
    """The planned images that are missing from `pixels`."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The model's answer to a batch: row *i* is image *i*'s own."""

    class_index: NDArray[np.int32]
    """(N, 5), the most probable of all classes first; fewer where there are fewer classes."""

    probability: NDArray[np.float32]
    """Softmax values in [0, 1] over all classes, of the same shape."""

    breed_class_index: NDArray[np.int32]
    """(N,), the most probable of the 120 breeds, as a class index; -1 where the classes are not ImageNet's."""

    breed_probability: NDArray[np.float32]
    """(N,) softmax value in [0, 1] over the 120 breeds alone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image's row in the outcomes table: what the model answered, held against the truth.

    A failed image has `stage` and `reason` and no answer. Without a known truth `correct` and its kin are None.
    """

    image: str
    etag: str
    size_bytes: int
    wnid: str | None
    breed: str | None
    truth_index: int | None
    status: Literal["ok", "failed"]
    batch_id: str
    stage: str | None = None
    reason: str | None = None
    class_index: int | None = None
    category: str | None = None
    probability: float | None = None
    top5_index: tuple[int, ...] | None = None
    top5_probability: tuple[float, ...] | None = None
    correct: bool | None = None
    correct_top5: bool | None = None
    breed_class_index: int | None = None
    breed_probability: float | None = None
    correct_breed: bool | None = None
    width: int | None = None
    height: int | None = None
