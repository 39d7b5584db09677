"""ResNet50 on one device: uint8 pixels in, top fives out. The one owner of torch's forward pass.

A `Classifier` belongs to one thread. Normalising, the model, softmax and the choice of the top five run on its device;
only the top fives come back.
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import get_model

from pipeline.errors import DeviceError, UsageError
from pipeline.records import ModelSpec, Prediction, Transform
from pipeline.stages.labels import breed_class_indices

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

CPU_MICRO_BATCH = 16
"""Images per forward pass on a CPU: their activations stay in its cache."""

_NO_MEMORY_WORDS = ("ALLOC_FAILED", "CUDA error: out of memory")
"""What CUDA and its libraries say where torch's allocator raises `torch.OutOfMemoryError`."""

_DEVICE_FAULT_WORDS = ("CUDA error", "device-side assert", "cuDNN error")
"""What a `RuntimeError` says after which every call to the device fails."""


def load_state_dict(data: bytes, weights: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict; with ``weights_only=True`` a pickle cannot run code.

    Raises
    ------
    UsageError
        If the bytes are no state dict, or hold anything but tensors.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        brief = " ".join(str(error).split())[:200]
        raise UsageError(f"--weights {weights}: not a state dict that torch can load safely ({brief})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"--weights {weights}: expected a state dict of tensors (save model.state_dict())")
    return state


class Classifier:
    """A model on its device.

    Where a batch does not fit into the device's memory it goes through in halves, and later ones do so at once.

    Parameters
    ----------
    spec
        Which model, with which transform and precision.
    state
        Its state dict.
    device
        ``cpu`` or ``cuda``.
    """

    def __init__(self, spec: ModelSpec, state: dict[str, Tensor], device: str) -> None:
        self._device = torch.device(device)
        self.slice_size = CPU_MICRO_BATCH if self._device.type == "cpu" else sys.maxsize
        """Images per forward pass, at most."""
        self._dtype = PRECISIONS[spec.precision]
        self._model = _prepare(spec.name, state).to(self._device, self._dtype)
        self._mean, self._std = (_per_channel(values, self._device) for values in _moments(spec.transform))
        self._breeds = torch.tensor(breed_class_indices(), device=self._device)
        if spec.precision == "fp32":
            # TensorFloat-32 keeps 10 bits of mantissa: not what a caller of fp32 asked for.
            torch.backends.cudnn.allow_tf32 = False

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Classify images.

        Parameters
        ----------
        pixels
            (N, 3, H, W), N > 0.

        Raises
        ------
        DeviceError
            If the device fails for good, or a single image does not fit into its memory.
        """
        batch = torch.from_numpy(pixels)
        logits: list[Tensor] = []
        with _device_faults():
            while len(batch):
                images = batch[: self.slice_size]
                answer = self._forward_if_it_fits(images)
                if answer is None:
                    self._halve(len(images))
                    continue
                logits.append(answer)
                batch = batch[len(images) :]
            return top5(torch.cat(logits), self._breeds)

    def _forward_if_it_fits(self, images: Tensor) -> Tensor | None:
        # The mend must wait until the except block is left: in it the error holds the tensors that fill the memory.
        try:
            return self._forward(images)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        return None

    def _halve(self, n_images: int) -> None:
        if n_images == 1:
            raise DeviceError(f"not even one image fits into the memory of {self._device}")
        torch.cuda.empty_cache()
        self.slice_size = n_images // 2

    def _forward(self, images: Tensor) -> Tensor:
        images = images.to(self._device).float().div_(255).sub_(self._mean).div_(self._std)
        logits: Tensor = self._model(images.to(self._dtype, memory_format=torch.channels_last))
        return logits.float()


@contextmanager
def _device_faults() -> Iterator[None]:
    """Raise a `DeviceError` for what makes a device unusable; a kernel's fault can surface in any later call."""
    try:
        yield
    except RuntimeError as error:
        is_named = any(words in str(error) for words in _DEVICE_FAULT_WORDS)
        if is_named or isinstance(error, torch.AcceleratorError) or _is_out_of_memory(error):
            brief, *_ = str(error).split("\n", 1)
            raise DeviceError(f"{type(error).__name__}: {brief}") from error
        raise


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY_WORDS)


def top5(logits: Tensor, breeds: Tensor) -> Prediction:
    """Return the five most probable classes of every row, and the most probable breed.

    Parameters
    ----------
    logits
        (N, C) float, unnormalised; row *i* belongs to image *i*.
    breeds
        (B,) int64, the class indices among which the breed is chosen.

    Returns
    -------
    Prediction
        Softmax values in [0, 1], each from that image's own row.
    """
    probability, class_index = logits.softmax(dim=1).topk(5, dim=1)
    breed_probability, position = logits[:, breeds].softmax(dim=1).max(dim=1)
    return Prediction(
        class_index=class_index.to(torch.int32).cpu().numpy(),
        probability=probability.cpu().numpy(),
        breed_class_index=breeds[position].to(torch.int32).cpu().numpy(),
        breed_probability=breed_probability.cpu().numpy(),
    )


def best_device() -> str:
    """Return the device that this process should infer on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _prepare(name: str, state: dict[str, Tensor]) -> nn.Module:
    """Build the model with its weights, each batch norm folded into the convolution before it."""
    with torch.device("meta"):
        model = get_model(name)
    model.load_state_dict(dict(state), assign=True)  # a plain dict: files without batch counters load too
    return _folded(model.eval().requires_grad_(False)).to(memory_format=torch.channels_last)


def _folded(model: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution that is registered just before it, as in torchvision's ResNets.

    torch.fx would find the pairs by tracing, but it patches ``nn.Module`` for the whole process meanwhile: a model that
    another run has on another thread fails then.
    """
    for parent in model.modules():
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return model


def _moments(transform: Transform) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return transform.mean, transform.std


def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)
