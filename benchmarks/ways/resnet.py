"""torchvision's ResNet50 as its users run it, plain and tuned by hand: for the ways that are not this project's."""

from collections.abc import Callable
from functools import cache
from threading import Lock

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from pipeline.stages.precision import fastest_precision

Forward = Callable[[Tensor], Tensor]
"""(N, 3, H, W) float32 on the host in, (N, 1000) logits on the device out."""

_lock = Lock()


def device() -> torch.device:
    """Return where the model runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def loaded(weights: str) -> nn.Module:
    """Return the model on its device, ready for inference."""
    model = resnet50()
    model.load_state_dict(torch.load(weights, weights_only=True))
    ready: nn.Module = model.to(device()).eval()
    return ready


def plain(weights: str) -> Forward:
    """Return the forward pass as everybody begins with it: fp32, ``torch.no_grad``."""
    model = loaded(weights)

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        logits: Tensor = model(images.to(device()))
        return logits

    return forward


def tuned(weights: str) -> Forward:
    """Return the forward pass as PyTorch's tuning guide has it.

    channels_last, ``inference_mode``, and autocast to bf16 where the device has it in hardware. See
    https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html.
    """
    model = loaded(weights).to(memory_format=torch.channels_last)
    has_bf16 = fastest_precision() == "bf16"

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        """Return logits in float32."""
        images = images.to(device(), memory_format=torch.channels_last, non_blocking=True)
        with torch.autocast(device().type, torch.bfloat16, enabled=has_bf16):
            logits: Tensor = model(images)
        return logits.float()

    return forward


@cache
def _shared(weights: str) -> Forward:
    return tuned(weights)


def shared(weights: str) -> Forward:
    """Return this process's one tuned model; the first call loads it."""
    with _lock:
        return _shared(weights)
