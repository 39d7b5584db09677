"""The model itself: an architecture with the weights of a state dict, made ready for inference."""

import io
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from pipeline.errors import UsageError
from pipeline.records import Transform
from pipeline.stages.labels import breed_class_indices
from pipeline.stages.model.answers import packed
from pipeline.stages.model.resnet50 import ResNet50
from pipeline.stages.tensor_names import taken

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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


class Program(nn.Module):
    """Everything between pixels and packed answers: normalising, the model, softmax and the choice of the top five.

    Parameters
    ----------
    model
        Gives logits.
    transform
        Whose mean and deviation normalise.
    dtype
        Of the model's arithmetic; all that is around it is float32.
    has_breeds
        Whether its classes are ImageNet's, so that the best of the 120 breeds can be told.
    """

    def __init__(self, model: nn.Module, transform: Transform, dtype: torch.dtype, *, has_breeds: bool = True) -> None:
        super().__init__()
        self.model, self._dtype = model.to(dtype), dtype
        self.mean, self.std = (nn.Buffer(_per_channel(values)) for values in (transform.mean, transform.std))
        self.breeds = nn.Buffer(torch.tensor(breed_class_indices() if has_breeds else (), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Return packed answers to (N, 3, H, W) uint8 images."""
        normal = images.float().div_(255).sub_(self.mean).div_(self.std)
        logits = self.model(normal.to(self._dtype, memory_format=torch.channels_last))
        return packed(logits.float(), self.breeds)


def network(name: str, state: Mapping[str, Tensor], n_classes: int, crop_size: int) -> nn.Module:
    """Build the model with its weights, each batch norm folded into the convolution before it."""
    model = _empty(name, n_classes, crop_size)
    tensors = OrderedDict(taken(state))
    # Without more metadata files load that lack batch counters; MNASNet asks for its own version, always the second.
    tensors._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]  # noqa: SLF001
    model.load_state_dict(tensors, assign=True)
    return _folded(model.eval().requires_grad_(False)).to(memory_format=torch.channels_last)


def tensor_shapes(name: str, n_classes: int, crop_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a model takes of a state dict, by its name."""
    return {key: tuple(value.shape) for key, value in _empty(name, n_classes, crop_size).state_dict().items()}


class WithoutRoom(TorchFunctionMode):
    """Has no memory taken for tensors that are filled later: they are on the meta device.

    ``torch.device("meta")`` would do so for all tensors, and RegNet computes its widths with some.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


def _empty(name: str, n_classes: int, crop_size: int) -> nn.Module:
    with WithoutRoom(), warnings.catch_warnings():
        if name == "resnet50":
            return ResNet50(n_classes)
        from torchvision.models import get_model  # noqa: PLC0415  see pipeline.stages.model.resnet50

        warnings.simplefilter("ignore")  # of weights that would be initialised, which nobody wants here
        settings = _settings_with_weights(name, crop_size)
        return get_model(name, weights=None, num_classes=n_classes, **settings)  # type: ignore[no-any-return]


def _settings_with_weights(name: str, crop_size: int) -> dict[str, Any]:
    """Return what torchvision's builder sets by itself where it is given weights of its own, for inference."""
    if name.startswith("vit_"):
        return {"image_size": crop_size}
    if name.startswith("maxvit_"):
        return {"input_size": (crop_size, crop_size)}
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "aux_logits": False, "init_weights": False}
    return {}


def _folded(model: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution that is registered just before it, as in all of torchvision's models.

    torch.fx would find the pairs by tracing, but it patches ``nn.Module`` for the whole process meanwhile: a model that
    another run has on another thread fails then.
    """
    for parent in model.modules():
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return model


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
