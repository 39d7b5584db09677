"""Tables of outcomes made by hand or at random, without a run."""

import numpy as np
import pyarrow as pa

from pipeline.stages.labels import breeds, categories
from pipeline.stages.outcomes import OUTCOMES_SCHEMA


def outcomes_of(rows):
    """Return a table of the rows, each a dict of what is not the same for all."""
    common = {"etag": "e", "size_bytes": 1, "status": "ok", "batch_id": "0-0"}
    full = [common | {"image": f"s3://bucket/{i:06d}.jpg"} | row for i, row in enumerate(rows)]
    return pa.Table.from_pylist(full, OUTCOMES_SCHEMA)


def answered(truth, answer, confidence=0.9, **more):
    """Return the row of an image of a class that was answered with another, or rightly, among ImageNet's classes."""
    known = truth is not None
    return {
        "truth_index": truth,
        "breed": categories()[truth] if known else None,
        "class_index": answer,
        "category": categories()[answer],
        "probability": confidence,
        "correct": truth == answer if known else None,
        "correct_top5": truth == answer if known else None,
        "width": 500,
        "height": 400,
    } | more


def failed(stage="decode", reason="truncated image", **more):
    """Return the row of an image that could not be classified."""
    return {"status": "failed", "stage": stage, "reason": reason} | more


def random_outcomes(n_images, seed=0, accuracy=0.7, failure_rate=0.02):
    """Return a table as a run over Stanford Dogs leaves it: right as often as it claims to be."""
    random = np.random.default_rng(seed)
    dogs = breeds()
    indices = np.array([breed.class_index for breed in dogs], np.int16)
    truth = random.integers(0, len(dogs), n_images)
    confidence = np.clip(random.beta(4, 4 / accuracy - 4, n_images), 0, 1).astype(np.float32)
    is_right = random.random(n_images) < confidence
    answer = np.where(is_right, truth, (truth + random.integers(1, 20, n_images)) % len(dogs))
    is_failed = random.random(n_images) < failure_rate
    columns = {
        "image": pa.array([f"s3://bucket/dogs/Images/{dogs[t].folder}/{i:09d}.jpg" for i, t in enumerate(truth)]),
        "etag": pa.array([f"{i:032x}" for i in range(n_images)]),
        "size_bytes": pa.array(random.integers(10_000, 100_000, n_images)),
        "wnid": pa.array([dogs[t].wnid for t in truth]),
        "breed": pa.array([dogs[t].name for t in truth]),
        "truth_index": pa.array(indices[truth]),
        "status": pa.array(np.where(is_failed, "failed", "ok")),
        "stage": pa.array(np.where(is_failed, "decode", ""), mask=~is_failed),
        "reason": pa.array(np.where(is_failed, "truncated image", ""), mask=~is_failed),
        "class_index": pa.array(indices[answer], mask=is_failed),
        "category": pa.array([categories()[i] for i in indices[answer]], mask=is_failed),
        "probability": pa.array(confidence, mask=is_failed),
        "correct": pa.array(is_right, mask=is_failed),
        "correct_top5": pa.array(is_right | (random.random(n_images) < 0.5), mask=is_failed),
        "breed_class_index": pa.array(indices[answer], mask=is_failed),
        "breed_probability": pa.array(confidence, mask=is_failed),
        "correct_breed": pa.array(is_right, mask=is_failed),
        "width": pa.array(random.integers(100, 3000, n_images).astype(np.int32), mask=is_failed),
        "height": pa.array(random.integers(100, 3000, n_images).astype(np.int32), mask=is_failed),
        "batch_id": pa.array([f"{i // 1280:06d}-{i // 80 % 16:02d}" for i in range(n_images)]),
    }
    for name in OUTCOMES_SCHEMA.names:
        columns.setdefault(name, pa.nulls(n_images, OUTCOMES_SCHEMA.field(name).type))
    return pa.table(columns).select(OUTCOMES_SCHEMA.names).cast(OUTCOMES_SCHEMA)
