"""What torchvision knows of a model, kept in `pipeline/stages/architectures.json`: ``make facts`` writes it anew."""

import json
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torchvision.models import get_model, get_model_weights, list_models

SPARED_IMPORT = ("resnet50",)
"""Models whose tensors are kept too, so that a command can check a state dict without importing torchvision."""

FILE = Path(__file__).parent.parent / "pipeline" / "stages" / "architectures.json"


def facts() -> dict[str, Any]:
    known = {name: {"weights": weights_of(name)} for name in list_models(module=torchvision.models)}
    for name in SPARED_IMPORT:
        known[name] |= {"tensors": tensors_of(name), "head": head_of(name)}
    return known


def weights_of(name: str) -> dict[str, Any]:
    entries = get_model_weights(name)
    return {
        "enum": entries.__name__,
        "default": entries.DEFAULT.name,
        "entries": {entry.name: {"url": entry.url} | preset_of(entry) for entry in entries},
    }


def preset_of(entry: Any) -> dict[str, Any]:
    preset = entry.transforms()
    return {
        "resize_size": preset.resize_size[0],
        "crop_size": preset.crop_size[0],
        "mean": preset.mean,
        "std": preset.std,
        "interpolation": preset.interpolation.value,
    }


def head_of(name: str) -> list[str]:
    """Return the tensors whose first dimension is the number of classes."""
    few, many = tensors_of(name, 7), tensors_of(name, 11)
    return [key for key in few if few[key] != many[key]]


def tensors_of(name: str, n_classes: int = 1000) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {key: list(value.shape) for key, value in get_model(name, num_classes=n_classes).state_dict().items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(facts(), separators=(",", ":")) + "\n", encoding="utf-8")
