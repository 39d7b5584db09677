"""What decides a model's predictions, what decides its speed, and how it is asked. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.records.images import Prediction


@dataclass(frozen=True, slots=True)
class Transform:
    """The geometry and normalisation that a model's weights were trained for."""

    resize_size: int
    """Pixels of the shorter side after resizing, with antialiasing."""

    crop_size: int
    """Pixels of the side of the square that is cropped from the centre."""

    mean: tuple[float, float, float]
    """Of each channel, for values in [0, 1]."""

    std: tuple[float, float, float]
    """Of each channel, for values in [0, 1]."""

    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How the image is resized."""


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

    categories: tuple[str, ...] | None = None
    """Names of the classes, by index; None is ImageNet's 1,000."""

    @property
    def n_classes(self) -> int:
        """How many classes the model tells apart."""
        return 1000 if self.categories is None else len(self.categories)


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
