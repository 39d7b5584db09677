"""What decides whether two runs' predictions are interchangeable. Pure."""

import hashlib
import json
from typing import Any

from pipeline.records import ModelSpec
from pipeline.stages.outcomes import SCHEMA_VERSION


def ingredients(spec: ModelSpec) -> dict[str, Any]:
    """Return everything that decides a prediction, for people to compare; labels decide only the score."""
    return {
        "model": spec.name,
        "weights_sha256": spec.weights_sha256,
        "resize_size": spec.transform.resize_size,
        "crop_size": spec.transform.crop_size,
        "mean": list(spec.transform.mean),
        "std": list(spec.transform.std),
        "precision": spec.precision,
        "schema_version": SCHEMA_VERSION,
    }


def fingerprint(spec: ModelSpec) -> str:
    """Return the SHA-256 of the ingredients, in hexadecimal."""
    canonical = json.dumps(ingredients(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
