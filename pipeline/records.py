"""The records that travel between the stages. Pure: no I/O, no Dask, no torch.

Arrays are uint8 numpy arrays in host memory: a batch of 80 is 12 MB, pickles without a copy, and numpy tells Dask its
true size. A tensor exists only on the inference thread.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

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

    wnid: str | None = None
    """WordNet id of the true class; None where the truth is unknown."""


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
    """(N, 5), the most probable of all classes first."""

    probability: NDArray[np.float32]
    """(N, 5) softmax values in [0, 1] over all classes."""

    breed_class_index: NDArray[np.int32]
    """(N,), the most probable of the 120 breeds, as a class index."""

    breed_probability: NDArray[np.float32]
    """(N,) softmax value in [0, 1] over the 120 breeds alone."""


Predict: TypeAlias = Callable[[NDArray[np.uint8]], Prediction]
"""A model: (N, 3, H, W) pixels in host memory in, the answer to each image out."""

Busy: TypeAlias = Literal["transfer", "infer"]
"""What keeps a device busy: copies to it and back, and the model. On a GPU the one overlaps the other."""


class Running(Protocol):
    """A device batch on its way through a model."""

    def is_done(self) -> bool:
        """Return whether the answer is there, without waiting."""

    def answer(self) -> Prediction:
        """Wait for the answer to all its images, in their order; call it once."""

    def spent_s(self) -> Mapping[Busy, float]:
        """Return the seconds that it kept the device busy, once it is answered."""


@runtime_checkable
class Pipelined(Protocol):
    """A model that computes one device batch while it takes in the next. It belongs to one thread."""

    @property
    def depth(self) -> int:
        """Device batches that may be on their way at a time."""

    @property
    def shapes(self) -> Sequence[int]:
        """The device batches that it takes without padding, in images, ascending; none: each batch as it comes."""

    def begin(self, pixels: Sequence[NDArray[np.uint8]]) -> Running:
        """Begin a device batch of (n, 3, H, W) pieces, which may be changed again once it is answered."""


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


@dataclass(frozen=True, slots=True)
class Transform:
    """The geometry and normalisation that a model's weights were trained for."""

    resize_size: int
    """Pixels of the shorter side after resizing, bilinear with antialiasing."""

    crop_size: int
    """Pixels of the side of the square that is cropped from the centre."""

    mean: tuple[float, float, float]
    """Of each channel, for values in [0, 1]."""

    std: tuple[float, float, float]
    """Of each channel, for values in [0, 1]."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything about a model that decides its predictions."""

    name: str
    """A torchvision classification model."""

    weights: str
    """A torchvision weights name, or the path or URL of a state dict."""

    weights_sha256: str

    transform: Transform

    precision: str
    """``fp32``, ``bf16`` or ``fp16``, as resolved for the devices at hand."""


@dataclass(frozen=True, slots=True)
class ModelForm:
    """How a model is computed: it decides the speed, never which prediction is right."""

    batch_size: int = 80
    """Images in one batch of the engine's; device batches on a GPU are this, or it doubled."""

    is_compiled: bool = False
    """Whether torch.compile makes one program of it."""

    must_compile: bool = False
    """Whether a model that cannot be compiled is an error; else it runs as it is."""

    device_batch: int | None = None
    """Images per forward pass on a CPU where it is not compiled; None is what suits most."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of batches: the unit of commit and of resume."""

    index: int

    refs: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True)
class PartWork:
    """What is left to do for a part."""

    index: int

    refs: tuple[ImageRef, ...]
    """The images to score."""

    kept: bytes = b""
    """The rows that are to stay, as a Parquet object; empty where the part was never written."""

    is_suspect: bool = False
    """Whether its images are decoded in a child process, since workers died with them."""

    attempt: int = 0
    """How often this part was given up and begun again."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker process has for a run."""

    host: str
    """Workers on one host share its cores."""

    n_slots: int
    """Tasks that it runs at a time."""

    n_cores: int
    """Cores that it may use."""

    has_model: bool


@dataclass(slots=True)
class Tally:
    """Counts of outcomes. Tallies of parts add up to the run's."""

    n_images: int = 0
    n_ok: int = 0
    n_truth: int = 0
    """Classified images whose truth is known."""

    n_correct: int = 0
    n_correct_top5: int = 0
    n_breed_truth: int = 0
    """Classified images whose truth is one of the 120 breeds."""

    n_correct_breed: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failed images by stage and reason."""

    @property
    def n_failed(self) -> int:
        """Images that have a row but no answer."""
        return self.n_images - self.n_ok

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self._change_by(other, 1)
        self.failures.update(other.failures)

    def remove(self, other: "Tally") -> None:
        """Take a tally that was added back out."""
        self._change_by(other, -1)
        self.failures -= other.failures

    def _change_by(self, other: "Tally", sign: int) -> None:
        for name in ("n_images", "n_ok", "n_truth", "n_correct", "n_correct_top5", "n_breed_truth", "n_correct_breed"):
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker tells of a part that it committed."""

    part: int

    etag: str
    """The version of the stored object."""

    tally: Tally
    """Of all its rows, those included that were kept."""

    requests: Counter[str] = field(default_factory=Counter)
    """What this worker process asked of its stores since its last receipt, by kind."""

    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that this worker process spent since its last receipt, by `pipeline.engine.spending.Activity`."""
