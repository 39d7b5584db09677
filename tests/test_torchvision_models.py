"""Every classification model of torchvision's: the tensors and the answers that torchvision's own builder gives it."""

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.models
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models._api import WeightsEnum

from pipeline.records import ModelSpec, Transform
from pipeline.stages.architectures import transform_of
from pipeline.stages.model import Classifier, tensor_shapes
from pipeline.stages.model.network import WithoutRoom, network
from pipeline.stages.tensor_names import taken

SMALLEST = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32"),
]
"""One of each family."""

SIDES = {"vit_b_32": 224, "maxvit_t": 224, "inception_v3": 299, "alexnet": 96}
"""Pixels of a side, where 64 are too few."""

OF_OLD: dict[str, Callable[[str], str]] = {
    "densenet121": lambda name: re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name),
    "vit_b_32": lambda name: name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."),
}
"""How the weights that torchvision offers for a family name their tensors, where its code does otherwise."""


@pytest.fixture
def built(monkeypatch):
    """Have torchvision's builders make a model as if they had fetched weights for it."""

    def build(name: str, weights: WeightsEnum, state: dict[str, Tensor] | None = None) -> nn.Module:
        monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state or {})
        if state is None:
            monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_model(name, weights=weights)
        monkeypatch.undo()
        return model.eval()

    return build


def photos(n: int, side: int) -> NDArray[np.uint8]:
    """Return (n, 3, side, side) images of different colour, contrast and grain."""
    rng = np.random.default_rng(0)
    colour = rng.uniform(30, 220, (n, 3, 1, 1))
    waves = np.sin(np.arange(side) * rng.uniform(0.1, 1.5, (n, 3, 1, 1))) * rng.uniform(10, 90, (n, 3, 1, 1))
    return np.clip(colour + waves + rng.normal(0, 20, (n, 3, side, side)), 0, 255).astype(np.uint8)


def normalised(pixels: NDArray[np.uint8], transform: Transform) -> Tensor:
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (transform.mean, transform.std))
    return (torch.from_numpy(pixels) / 255 - mean) / std


def lively(model: nn.Module, images: Tensor) -> nn.Module:
    """Have a random model tell images apart: batch norms with statistics of theirs, no layer that is nothing."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = None  # the statistics of the one batch that is to come, whole
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.1)
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.constant_(parameter, 0.5)
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        with torch.no_grad():
            model.train()(images)
    return model.eval()


def spread(logits: Tensor) -> float:
    """Return how far the images' logits lie apart."""
    return float(logits.std(dim=0).mean())


@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_weights_of_torchvisions_fit_the_model_that_is_built_for_them(name, built):
    for weights in get_model_weights(name):
        crop_size = transform_of(name, weights.name).crop_size

        with WithoutRoom():
            theirs = built(name, weights).state_dict()

        assert tensor_shapes(name, 1000, crop_size) == {key: tuple(value.shape) for key, value in taken(theirs).items()}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_each_family_answers_what_torchvisions_does(name, built):
    weights = get_model_weights(name).DEFAULT
    torch.manual_seed(0)
    transform = transform_of(name, weights.name)
    pixels = photos(3, SIDES.get(name, 64))
    images = normalised(pixels, transform)
    theirs = lively(built(name, weights), images)

    with torch.inference_mode():
        expected = theirs(images)
        ours = network(name, theirs.state_dict(), 1000, transform.crop_size)(images)
    answer = Classifier(ModelSpec(name, "own.pth", "", transform, "fp32"), theirs.state_dict(), "cpu")(pixels)

    assert spread(expected) > 1e-4
    assert (ours - expected).abs().max() < 0.01 * spread(expected)
    assert answer.probability[:, 0] == pytest.approx(expected.softmax(1).max(1).values.numpy(), rel=1e-3)


@pytest.mark.parametrize("name", OF_OLD)
def test_weights_under_names_of_old_load_as_torchvisions_builder_loads_them(name, built):
    weights = get_model_weights(name).DEFAULT
    torch.manual_seed(0)
    images = normalised(photos(3, 224), transform_of(name, weights.name))
    state = lively(built(name, weights), images).state_dict()
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    of_old = {OF_OLD[name](key): value for key, value in kept.items()}
    assert of_old.keys() != kept.keys()

    with torch.inference_mode():
        expected = built(name, weights, dict(of_old))(images)
        ours = network(name, of_old, 1000, 224)(images)

    assert (ours - expected).abs().max() < 0.01 * spread(expected)
