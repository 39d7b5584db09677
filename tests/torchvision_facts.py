"""What torchvision knows of a model, kept in `pipeline/stages/architectures.json`: ``make facts`` writes it anew."""

import json
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model, get_model_weights

NAMES = ("resnet50",)
FILE = Path(__file__).parent.parent / "pipeline" / "stages" / "architectures.json"


def facts() -> dict[str, Any]:
    return {name: {"weights": weights_of(name), "tensors": tensors_of(name)} for name in NAMES}


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
    }


def tensors_of(name: str) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {key: list(value.shape) for key, value in get_model(name).state_dict().items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(facts(), separators=(",", ":")) + "\n", encoding="utf-8")
