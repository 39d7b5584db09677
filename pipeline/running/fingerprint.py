"""What decides whether two runs' predictions are interchangeable. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.records import ModelSpec
from pipeline.stages.outcomes import SCHEMA_VERSION


def ingredients(spec: ModelSpec) -> dict[str, Any]:
    """Return everything that decides a prediction, for people to compare; labels decide only the score."""
    own = {} if spec.categories is None else {"categories_sha256": _sha256(spec.categories)}
    other = {} if spec.transform.interpolation == "bilinear" else {"interpolation": spec.transform.interpolation}
    return {
        "model": spec.name,
        "weights_sha256": spec.weights_sha256,
        "resize_size": spec.transform.resize_size,
        "crop_size": spec.transform.crop_size,
        "mean": list(spec.transform.mean),
        "std": list(spec.transform.std),
        "precision": spec.precision,
        "schema_version": SCHEMA_VERSION,
        **other,
        **own,
    }


def fingerprint(spec: ModelSpec) -> str:
    """Return the SHA-256 of the ingredients, in hexadecimal."""
    return _sha256(ingredients(spec))


def differences(ours: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Return, for people, what a stored run has that is not ours.

    >>> differences({"precision": "bf16", "crop_size": 224}, {"precision": "fp32", "crop_size": 224})
    ['precision fp32 (this command: bf16)']
    """
    return [
        f"{name} {stored.get(name)} (this command: {value})"
        for name, value in ours.items()
        if stored.get(name) != value
    ]


def _sha256(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
