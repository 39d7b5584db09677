"""The project's own form of the model, loaded without its engine."""

from pathlib import Path
from typing import cast

from torch import Tensor

from benchmarks.ways.command import MODEL
from pipeline.records import ModelForm, ModelSpec, Predict
from pipeline.stages.architectures import transform_of
from pipeline.stages.model import Classifier, best_device, load_model, load_state_dict
from pipeline.stages.precision import fastest_precision


def classifier(weights: str, *, is_compiled: bool) -> Predict:
    """Return the model in the precision that ``--precision auto`` would take on this machine."""
    spec = ModelSpec(MODEL, weights, "", transform_of(MODEL, weights), fastest_precision())
    state = load_state_dict(Path(weights).read_bytes(), weights)
    return compiled(spec, state) if is_compiled else Classifier(spec, state, best_device())


def compiled(spec: ModelSpec, state: dict[str, Tensor]) -> Predict:
    """Return the model in the form that ``--compile on`` has, on a CPU."""
    return cast("Predict", load_model(spec, state, ModelForm(is_compiled=True, must_compile=True)))
