"""The project's own form of the model, loaded without its engine."""

from pathlib import Path

from benchmarks.ways.command import MODEL
from pipeline.records import ModelSpec
from pipeline.stages.architectures import transform_of
from pipeline.stages.model import Classifier, best_device, load_state_dict
from pipeline.stages.precision import fastest_precision


def classifier(weights: str) -> Classifier:
    """Return the model in the precision that ``--precision auto`` would take on this machine."""
    spec = ModelSpec(MODEL, weights, "", transform_of(MODEL, weights), fastest_precision())
    return Classifier(spec, load_state_dict(Path(weights).read_bytes(), weights), best_device())
