"""Which images of a table are worth a look: confident mistakes, failures, oddities. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.answers import Answers

LONG = 4.0
"""An image this many times as long as wide loses most of itself to the model's crop."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed images that share stage and reason."""

    stage: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Oddities:
    """Classified images that a person may want to sort out, by row of the table."""

    small: list[int]
    """Smaller than what the model sees, the smallest first: they were enlarged."""

    long: list[int]
    """At least four times as long as wide, or as wide as long, the longest first."""

    repeated: list[list[int]]
    """The same bytes under several names, by ETag and size; the most frequent first."""


def failure_groups(outcomes: pa.Table) -> list[FailureGroup]:
    """Return the failures by stage and reason, the most frequent first."""
    failed = outcomes.select(["stage", "reason"]).filter(pc.equal(outcomes["status"], "failed"))
    counted = failed.group_by(["stage", "reason"]).aggregate([([], "count_all")]).to_pylist()
    groups = [FailureGroup(row["stage"], row["reason"], row["count_all"]) for row in counted]
    return sorted(groups, key=lambda group: (-group.n, group.stage, group.reason))


def failed_images(outcomes: pa.Table, n: int) -> list[dict[str, str]]:
    """Return ``image``, ``stage`` and ``reason`` of the first `n` failed images of a table."""
    failed = outcomes.select(["image", "stage", "reason"]).filter(pc.equal(outcomes["status"], "failed"))
    return failed.slice(0, n).to_pylist()  # type: ignore[no-any-return]


def rows_at(outcomes: pa.Table, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return whole rows of a table, in the order asked for."""
    return outcomes.take(pa.array(rows, pa.int64())).to_pylist()  # type: ignore[no-any-return]


def confident_mistakes(answers: Answers, n: int) -> list[int]:
    """Return the rows of the `n` wrong answers that were given with the most confidence, the most confident first."""
    wrong = np.flatnonzero(~answers.is_correct)
    first = wrong[np.argsort(-answers.confidence[wrong], kind="stable")][:n]
    return answers.rows[first].tolist()  # type: ignore[no-any-return]


def oddities(outcomes: pa.Table, crop_size: int, n: int) -> Oddities:
    """Return at most `n` oddities of each kind.

    Parameters
    ----------
    crop_size
        Pixels of the side of what the model sees.
    """
    rows = np.flatnonzero(pc.equal(outcomes["status"], "ok").to_numpy())
    seen = outcomes.select(["width", "height"]).take(pa.array(rows))
    width, height = seen["width"].to_numpy().astype(float), seen["height"].to_numpy().astype(float)
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    by_size, by_shape = np.argsort(shorter, kind="stable"), np.argsort(-longer / np.maximum(1, shorter), kind="stable")
    return Oddities(
        small=rows[by_size[shorter[by_size] < crop_size][:n]].tolist(),
        long=rows[by_shape[(longer >= LONG * shorter)[by_shape]][:n]].tolist(),
        repeated=_repeated(outcomes, n),
    )


def _repeated(outcomes: pa.Table, n: int) -> list[list[int]]:
    versions = outcomes.select(["etag", "size_bytes"]).append_column("row", pa.array(np.arange(len(outcomes))))
    groups = versions.group_by(["etag", "size_bytes"]).aggregate([("row", "count"), ("row", "min")])
    several = groups.filter(pc.greater(groups["row_count"], 1)).sort_by(
        [("row_count", "descending"), ("row_min", "ascending")]
    )
    found = []
    for version in several.slice(0, n).to_pylist():
        same = pc.and_(
            pc.equal(outcomes["etag"], version["etag"]), pc.equal(outcomes["size_bytes"], version["size_bytes"])
        )
        found.append(np.flatnonzero(same.to_numpy()).tolist())
    return found
