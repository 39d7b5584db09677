"""Which tensors of a state dict a model takes, and under which names. Pure.

Some of torchvision's own weights are older than its code, which renames them as it loads them; here that is done before
a state dict is held against its model.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
"""DenseNet's and the vision transformer's names of old, and those of today."""

_TRAINING_ONLY = re.compile(r"(aux1|aux2|AuxLogits)\.")
"""GoogLeNet's and Inception's auxiliary classifiers: they have no part in an answer."""


def taken(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return what inference needs of a state dict, or of its shapes, by the names that torchvision has today.

    >>> taken({"aux1.fc1.weight": 1, "encoder.layers.encoder_layer_0.mlp.linear_2.bias": 2})
    {'encoder.layers.encoder_layer_0.mlp.3.bias': 2}
    """
    return {_name_of_today(str(name)): tensor for name, tensor in tensors.items() if not _is_for_training(str(name))}


def _name_of_today(name: str) -> str:
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def _is_for_training(name: str) -> bool:
    return _TRAINING_ONLY.match(name) is not None
