"""The model's answers held against the truth. Pure: records in, records out."""

import math
from dataclasses import replace
from typing import Any

from pipeline.records import ImageBatch, ImageFailure, ImageRef, Outcome, Prediction
from pipeline.stages.classes import Classes, Truth
from pipeline.stages.labels import breed_class_indices


def score(batch: ImageBatch, prediction: Prediction, batch_id: str, classes: Classes) -> list[Outcome]:
    """Return one outcome for every planned image of a batch: those that were classified, then those that failed."""
    answered = [_answered(batch, prediction, row, batch_id, classes) for row in range(len(batch.refs))]
    return answered + [_failed(failure, batch_id, classes) for failure in batch.failures]


def rescored(outcome: Outcome, label: str | None, classes: Classes) -> Outcome:
    """Return an outcome held against another label: the answer is the same, only what it is worth is not."""
    truth = classes.truth(label)
    return replace(outcome, **_told(truth), **_judged(outcome, truth))


def _answered(batch: ImageBatch, prediction: Prediction, row: int, batch_id: str, classes: Classes) -> Outcome:
    ref, (width, height) = batch.refs[row], batch.sizes[row]
    truth = classes.truth(ref.label)
    top5 = tuple(prediction.class_index[row].tolist())
    probabilities = tuple(prediction.probability[row].tolist())
    if math.isnan(probabilities[0]):
        return _failed(ImageFailure(ref, "infer", "the model's answer is not a number"), batch_id, classes)
    outcome = Outcome(
        **_identity(ref),
        **_told(truth),
        status="ok",
        batch_id=batch_id,
        class_index=top5[0],
        category=classes.names[top5[0]],
        probability=probabilities[0],
        top5_index=top5,
        top5_probability=probabilities,
        breed_class_index=int(prediction.breed_class_index[row]) if classes.are_imagenets else None,
        breed_probability=float(prediction.breed_probability[row]) if classes.are_imagenets else None,
        width=width,
        height=height,
    )
    return replace(outcome, **_judged(outcome, truth))


def _judged(outcome: Outcome, truth: Truth | None) -> dict[str, Any]:
    """Return what an answer is worth; None where there is no answer, or no truth."""
    if truth is None or outcome.top5_index is None:
        return {"correct": None, "correct_top5": None, "correct_breed": None}
    is_of_breed = outcome.breed_class_index is not None and truth.index in breed_class_indices()
    return {
        "correct": outcome.class_index == truth.index,
        "correct_top5": truth.index in outcome.top5_index,
        "correct_breed": outcome.breed_class_index == truth.index if is_of_breed else None,
    }


def _failed(failure: ImageFailure, batch_id: str, classes: Classes) -> Outcome:
    return Outcome(
        **_identity(failure.ref),
        **_told(classes.truth(failure.ref.label)),
        status="failed",
        batch_id=batch_id,
        stage=failure.stage,
        reason=failure.reason,
    )


def _identity(ref: ImageRef) -> dict[str, Any]:
    return {"image": ref.url, "etag": ref.etag, "size_bytes": ref.size_bytes}


def _told(truth: Truth | None) -> dict[str, Any]:
    if truth is None:
        return {"wnid": None, "breed": None, "truth_index": None}
    return {"wnid": truth.wnid, "breed": truth.name, "truth_index": truth.index}
