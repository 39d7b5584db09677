"""The model's answers held against the truth. Pure: records in, records out."""

import math
from typing import Any

from pipeline.records import ImageBatch, ImageFailure, ImageRef, Outcome, Prediction
from pipeline.stages.labels import breed_class_indices, categories, display_name, truth_index


def score(batch: ImageBatch, prediction: Prediction, batch_id: str) -> list[Outcome]:
    """Return one outcome for every planned image of a batch: those that were classified, then those that failed."""
    answered = [_answered(batch, prediction, row, batch_id) for row in range(len(batch.refs))]
    return answered + [_failed(failure, batch_id) for failure in batch.failures]


def _answered(batch: ImageBatch, prediction: Prediction, row: int, batch_id: str) -> Outcome:
    ref, (width, height) = batch.refs[row], batch.sizes[row]
    truth = truth_index(ref.wnid)
    top5 = tuple(prediction.class_index[row].tolist())
    probabilities = tuple(prediction.probability[row].tolist())
    if math.isnan(probabilities[0]):
        return _failed(ImageFailure(ref, "infer", "the model's answer is not a number"), batch_id)
    breed_class_index = int(prediction.breed_class_index[row])
    return Outcome(
        **_identity(ref),
        status="ok",
        batch_id=batch_id,
        class_index=top5[0],
        category=categories()[top5[0]],
        probability=probabilities[0],
        top5_index=top5,
        top5_probability=probabilities,
        correct=None if truth is None else top5[0] == truth,
        correct_top5=None if truth is None else truth in top5,
        breed_class_index=breed_class_index,
        breed_probability=float(prediction.breed_probability[row]),
        correct_breed=breed_class_index == truth if truth in breed_class_indices() else None,
        width=width,
        height=height,
    )


def _failed(failure: ImageFailure, batch_id: str) -> Outcome:
    return Outcome(
        **_identity(failure.ref), status="failed", batch_id=batch_id, stage=failure.stage, reason=failure.reason
    )


def _identity(ref: ImageRef) -> dict[str, Any]:
    return {
        "image": ref.url,
        "etag": ref.etag,
        "size_bytes": ref.size_bytes,
        "wnid": ref.wnid,
        "breed": display_name(ref.wnid),
        "truth_index": truth_index(ref.wnid),
    }
