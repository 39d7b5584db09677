"""Every classification model of torchvision's: the tensors and the answers that torchvision's own builder gives it."""

import re
import warnings
from collections.abc import Callable

import pytest
import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models._api import WeightsEnum

from pipeline.records import ModelSpec
from pipeline.stages.architectures import transform_of
from pipeline.stages.model import Classifier, tensor_shapes
from pipeline.stages.model.network import network

SMALLEST = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32"),
]
"""One of each family."""

OF_OLD: dict[str, Callable[[str], str]] = {
    "densenet121": lambda name: re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name),
    "vit_b_32": lambda name: name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."),
}
"""How the weights that torchvision offers for a family name their tensors, where its code does otherwise."""


@pytest.fixture
def built(monkeypatch):
    """Have torchvision's builders make a model as if they had fetched weights for it."""

    def build(name: str, weights: WeightsEnum, state: dict[str, Tensor] | None = None) -> nn.Module:
        monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
        if state is None:
            monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_model(name, weights=weights)
        monkeypatch.undo()
        return model.eval()

    return build


def with_lively_norms(model: nn.Module) -> nn.Module:
    """Give batch norms statistics that folding has to get right, and layers that scale by next to nothing a say."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            parameter.data.fill_(0.5)
    return model


def spread(logits: Tensor) -> float:
    return float(logits.std(dim=0).mean())


@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_weights_of_torchvisions_fit_the_model_that_is_built_for_them(name, built):
    for weights in get_model_weights(name):
        crop_size = transform_of(name, weights.name).crop_size

        with torch.device("meta"):
            theirs = built(name, weights).state_dict()

        assert tensor_shapes(name, 1000, crop_size) == {key: tuple(value.shape) for key, value in theirs.items()}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_each_family_answers_what_torchvisions_does(name, built):
    weights = get_model_weights(name).DEFAULT
    torch.manual_seed(0)
    theirs = with_lively_norms(built(name, weights))
    transform = transform_of(name, weights.name)
    side = transform.crop_size if name.startswith(("vit", "maxvit")) else 96
    pixels = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)

    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (transform.mean, transform.std))
    with torch.inference_mode():
        expected = theirs((pixels / 255 - mean) / std)
        ours = network(name, theirs.state_dict(), 1000, transform.crop_size)((pixels / 255 - mean) / std)
    spec = ModelSpec(name, "own.pth", "", transform, "bf16")
    answer = Classifier(spec, theirs.state_dict(), "cpu")(pixels.numpy())

    assert spread(expected) > 0
    assert (ours - expected).abs().max() < 0.01 * spread(expected)
    assert answer.probability[:, 0] == pytest.approx(expected.softmax(1).max(1).values.numpy(), rel=0.2, abs=0.02)


@pytest.mark.parametrize("name", OF_OLD)
def test_weights_under_names_of_old_load_as_torchvisions_builder_loads_them(name, built):
    weights = get_model_weights(name).DEFAULT
    torch.manual_seed(0)
    state = {key: value for key, value in with_lively_norms(built(name, weights)).state_dict().items()}
    of_old = {OF_OLD[name](key): value for key, value in state.items()}
    assert of_old.keys() != state.keys()
    images = torch.randn(2, 3, 224, 224)

    with torch.inference_mode():
        expected = built(name, weights, dict(of_old))(images)
        ours = network(name, of_old, 1000, 224)(images)

    assert (ours - expected).abs().max() < 0.01 * spread(expected)
