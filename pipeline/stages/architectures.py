"""What is known of a model without loading it: its named weights and its tensors' shapes. Pure: one table.

The table is torchvision's own knowledge, written by ``make facts`` and held against torchvision by a test. It spares a
command that is about to be refused the seconds that importing torchvision takes.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pipeline.errors import UsageError
from pipeline.records import Transform

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NamedWeights:
    """Weights that torchvision has a name for."""

    name: str

    url: str

    transform: Transform
    """What they were trained for."""


def check_known(model: str) -> None:
    """Raise `UsageError` if torchvision has no classification model of this name."""
    if model not in _table():
        near = difflib.get_close_matches(model, _table(), n=3) or sorted(_table())[:3]
        raise UsageError(
            f"--model {model}: torchvision has no classification model of this name; it has {', '.join(near)} and "
            f"{len(_table()) - len(near)} more"
        )


def torchvision_weights(model: str, weights: str) -> NamedWeights | None:
    """Return torchvision's entry for a weights name (``IMAGENET1K_V2``, ``DEFAULT``), None for a path or URL.

    Raises
    ------
    UsageError
        If this is neither a name of the model's nor anything like a path.
    """
    known = _architecture(model)["weights"]
    entries, prefix = known["entries"], f"{known['enum']}."
    name = known["default"] if weights.removeprefix(prefix) == "DEFAULT" else weights.removeprefix(prefix)
    if name in entries:
        return _named(name, entries[name])
    if weights.startswith(prefix) or not any(mark in weights for mark in "/.\\"):
        names = ", ".join([*entries, "DEFAULT"])
        raise UsageError(f"--weights {weights}: expected one of {names}, or the path or URL of a state dict")
    return None


def transform_of(model: str, weights: str) -> Transform:
    """Return the transform that weights were trained for; a state dict has that of the model's newest weights."""
    named = torchvision_weights(model, weights) or torchvision_weights(model, "DEFAULT")
    if named is None:
        raise AssertionError(f"{model} has no default weights")
    return named.transform


def known_shapes(model: str, n_classes: int) -> dict[str, Shape] | None:
    """Return the shape of every tensor of a model with so many classes; None for a model that has to be asked."""
    tensors = _architecture(model).get("tensors")
    if tensors is None:
        return None
    heads = {name: (n_classes, *tensors[name][1:]) for name in _architecture(model)["head"]}
    return {name: tuple(shape) for name, shape in tensors.items()} | heads


def check_fit(model: str, weights: str, expected: Mapping[str, Shape], given: Mapping[str, Shape]) -> None:
    """Raise `UsageError` naming the first tensors that the model does not have in this shape.

    Parameters
    ----------
    expected
        The shape of every tensor of the model, with as many classes as there are categories.
    given
        The shape of every tensor of the weights.
    """
    # Old files have no batch counters; torch does without them, and so does inference.
    counted = {name: shape for name, shape in expected.items() if name.endswith("num_batches_tracked")} | dict(given)
    wrong = sorted((name for name in expected.keys() | counted if expected.get(name) != counted.get(name)), key=str)
    if wrong and all(name in given and expected.get(name, ())[1:] == given[name][1:] for name in wrong):
        n_given, n_expected = given[wrong[0]][0], expected[wrong[0]][0]
        raise UsageError(
            f"--weights {weights}: the model tells {n_given:,} classes apart, and there are {n_expected:,} categories; "
            "give the name of each with --categories FILE"
        )
    if wrong:
        first = "; ".join(
            f"{name} is {counted.get(name, 'missing')}, expected {expected.get(name, 'no such tensor')}"
            for name in wrong[:3]
        )
        raise UsageError(f"--weights {weights}: {len(wrong)} tensors do not fit {model}: {first}")


def _named(name: str, entry: dict[str, Any]) -> NamedWeights:
    mean, std = tuple(entry["mean"]), tuple(entry["std"])
    transform = Transform(entry["resize_size"], entry["crop_size"], mean, std, entry["interpolation"])
    return NamedWeights(name, entry["url"], transform)


def _architecture(model: str) -> dict[str, Any]:
    known: dict[str, Any] = _table()[model]
    return known


@cache
def _table() -> dict[str, Any]:
    with files(__package__).joinpath("architectures.json").open(encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)
    return table
