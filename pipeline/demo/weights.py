"""Weights for the demo: a torchvision ResNet50 that knows the drawn breeds, made in half a minute without training.

Effects: draws images, runs the model on the CPU in as many threads as torch has, writes one file. The convolutions stay
random. In every stage the first block contributes most: the others' last batch norm is small, so they nearly pass their
input on (Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1, begin with zero). That keeps a random
network's features telling (78 % right instead of 12 % with 5 drawings of each breed, 69 % with 3), while every block
still moves the probabilities. The head is a ridge regression in closed form, on features that leave those blocks out:
a third of the work for the same head.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet, ResNet50_Weights, resnet50

from pipeline.demo.images import draw
from pipeline.stages.labels import breed_class_indices

# Seeds of drawings: the demo's own are below 100,000, so none of its images is ever used here.
_FIT_SEED = 1_000_000
_TEMPERATURE_SEED = 2_000_000
_CALIBRATION_SEED = 3_000_000

_BATCH_SIZE = 8  # two cores' caches hold its activations: a quarter faster than 32
_N_CALIBRATION_BATCHES = 4
_RIDGE = 0.5
"""The penalty, as a share of the mean squared length of a standardised feature vector."""

_OTHERS_OFFSET = 0.05
"""How far below its breeds a class that is no breed starts, where a right answer's target is 1."""

_LATER_GAIN = 0.05
"""The last batch norm's weight in the later blocks: at 0.2 the random network's features begin to drown."""


def make_weights(path: Path, *, seed: int = 0, n_fit_per_breed: int = 3, n_temperature_per_breed: int = 1) -> None:
    """Write a state dict that ``resnet50()`` loads strictly; `path` appears whole or not at all.

    Parameters
    ----------
    path
        Its folder is made if need be; a file that is there is replaced.
    seed
        Decides the random convolutions. Files made on different kinds of machine differ in their last bits.
    n_fit_per_breed
        Drawings of every breed from which the head learns, at least 2.
    n_temperature_per_breed
        Drawings of every breed, unknown to the head, that tell how sure it may be, at least 1.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        model = _random_body()
        _calibrate_batch_norms(model)
        trunk = _trunk(model)
        weight, bias = _with_other_classes(*_ridge(*_features(trunk, _FIT_SEED, n_fit_per_breed)))
        _waken_later_blocks(model)
        features, truth = _features(_without_head(model), _TEMPERATURE_SEED, n_temperature_per_breed)
        temperature = _temperature(features @ weight.T + bias, truth)
        model.fc.weight.copy_(weight / temperature)
        model.fc.bias.copy_(bias / temperature)
        _save(model, path)


def _random_body() -> ResNet:
    """Return torchvision's untrained ResNet50 with every stage's later blocks as identities."""
    model = resnet50().to(memory_format=torch.channels_last)
    for batch_norm in _later_batch_norms(model):
        nn.init.zeros_(batch_norm.weight)
    return model


def _waken_later_blocks(model: ResNet) -> None:
    """Let every block contribute, so that none could be lost without a trace in the probabilities."""
    for batch_norm in _later_batch_norms(model):
        nn.init.constant_(batch_norm.weight, _LATER_GAIN)


def _later_batch_norms(model: ResNet) -> Iterator[nn.BatchNorm2d]:
    """Yield the last batch norm of each block after a stage's first."""
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        yield from (block.bn3 for block in stage[1:])


def _without_head(model: ResNet) -> nn.Module:
    """Return what computes the model's 2,048 features, with batch norms folded."""
    whole = deepcopy(model)
    whole.fc = nn.Identity()
    return fuse(whole).to(memory_format=torch.channels_last)


def _calibrate_batch_norms(model: ResNet) -> None:
    """Set all running statistics to their averages over a few batches, and the model to evaluation."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a cumulative average
    indices = breed_class_indices()
    n_images = _N_CALIBRATION_BATCHES * _BATCH_SIZE
    drawings = [(indices[7 * i % len(indices)], _CALIBRATION_SEED + i) for i in range(n_images)]
    model.train()
    for pixels in _batches(drawings):
        model(pixels)
    model.eval()


def _trunk(model: ResNet) -> nn.Module:
    """Return what computes the model's 2,048 features, faster: batch norms folded, identity blocks left out."""
    stages = [deepcopy(stage[0]) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]
    for block in stages:
        for i in "123":
            setattr(block, f"conv{i}", fuse_conv_bn_eval(getattr(block, f"conv{i}"), getattr(block, f"bn{i}")))
            setattr(block, f"bn{i}", nn.Identity())
        block.downsample = fuse_conv_bn_eval(*block.downsample)
    stem = (fuse_conv_bn_eval(model.conv1, model.bn1), model.relu, model.maxpool)
    trunk = nn.Sequential(*stem, *stages, model.avgpool, nn.Flatten())
    return trunk.to(memory_format=torch.channels_last)


def _features(trunk: nn.Module, first_seed: int, n_per_breed: int) -> tuple[Tensor, Tensor]:
    """Return (N, 2048) features of new drawings, and (N,) which of the 120 breeds each one shows."""
    indices = breed_class_indices()
    drawings = [(index, first_seed + i) for i in range(n_per_breed) for index in indices]
    features = torch.cat([trunk(pixels) for pixels in _batches(drawings)])
    return features, torch.arange(len(indices)).repeat(n_per_breed)


def _batches(drawings: Iterable[tuple[int, int]]) -> Iterator[Tensor]:
    """Yield (8, 3, 224, 224) as the model wants them, in the order of class indices and seeds given."""
    transform = ResNet50_Weights.IMAGENET1K_V2.transforms()
    pending = list(drawings)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while pending:
            batch, pending = pending[:_BATCH_SIZE], pending[_BATCH_SIZE:]
            images = pool.map(lambda drawing: transform(draw(*drawing)), batch)
            yield torch.stack(list(images)).to(memory_format=torch.channels_last)


def _ridge(features: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (120, 2048) weight and (120,) bias that best give 1 for the true breed and 0 for the others.

    Solved in its dual form, N x N (Hastie et al., The Elements of Statistical Learning, 2nd ed., section 18.3.5), over
    standardised features; the standardisation is folded in.
    """
    mean, deviation = features.mean(0), features.std(0)
    deviation = deviation.clamp_min(float(deviation.mean()) / 100)  # a feature that is dead here may live elsewhere
    standard = (features - mean) / deviation
    gram = standard @ standard.T
    penalty = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    target = one_hot(truth).float()
    dual = torch.linalg.solve(gram + penalty, target - target.mean(0))
    weight = (dual.T @ standard) / deviation
    return weight, target.mean(0) - weight @ mean


def _with_other_classes(breed_weight: Tensor, breed_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (1000, 2048) weight and (1000,) bias: a class that is no breed faintly resembles two random ones.

    A few resemble one closely: they enter the top five, and now and then win.
    """
    n_breeds = len(breed_bias)
    n_others = 1000 - n_breeds
    others = torch.arange(n_others)
    mixture = torch.zeros(n_others, n_breeds)
    mixture[others, torch.randint(n_breeds, (n_others,))] += 0.3 * torch.rand(n_others)
    mixture[others, torch.randint(n_breeds, (n_others,))] += 1.1 * torch.rand(n_others) ** 4
    weight, bias = torch.empty(1000, breed_weight.shape[1]), torch.empty(1000)
    is_breed = torch.zeros(1000, dtype=torch.bool)
    is_breed[list(breed_class_indices())] = True
    weight[is_breed], bias[is_breed] = breed_weight, breed_bias
    weight[~is_breed], bias[~is_breed] = mixture @ breed_weight, mixture @ breed_bias - _OTHERS_OFFSET
    return weight, bias


def _temperature(logits: Tensor, truth: Tensor) -> float:
    """Return the divisor of the (N, 1000) logits that makes their probabilities mean the most.

    It minimises the negative log-likelihood (Guo et al. 2017, https://arxiv.org/abs/1706.04599), to 1 %.
    """
    class_index = torch.tensor(breed_class_indices())[truth]
    candidates = torch.logspace(-4, 1, 1151)
    losses = [float(cross_entropy(logits / candidate, class_index)) for candidate in candidates]
    return float(candidates[min(range(len(losses)), key=losses.__getitem__)])


def _save(model: ResNet, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
