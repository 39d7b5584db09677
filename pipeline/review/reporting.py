"""From a destination to its report: read, evaluate, look at the mistakes, render. Effects: storage."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.destination import REPORT, Destination
from pipeline.evaluation import evaluate
from pipeline.evaluation.answers import answers_of
from pipeline.evaluation.notable import LONG, confident_mistakes, failed_images, oddities, rows_at
from pipeline.pages.report_page import MOST_FAILED, MOST_ODD, Report, report_page
from pipeline.pages.shown import Shown, shown
from pipeline.pages.thumbnails import thumbnails
from pipeline.records import ImageRef, Transform
from pipeline.review.stored_outcomes import outcomes_at, record_of
from pipeline.stages.outcomes import OUTCOMES_SCHEMA, OutcomesTable
from pipeline.storage import StorageOptions, join

THUMBNAILS = 24
"""Confident mistakes that a report shows."""

_COLUMNS = [
    name for name in OUTCOMES_SCHEMA.names if name not in ("wnid", "top5_index", "top5_probability", "batch_id")
]
"""What a report speaks of: a third less than there is."""

_SOURCE_DEADLINE_S = 15.0
"""A source that is gone should not hold up a page that can do without it."""


def write_report(destination: Destination, n_thumbnails: int = THUMBNAILS) -> str:
    """Put a run's report into its destination, and return its URL.

    Raises
    ------
    UsageError
        If no run stands there.
    StorageError
        If the outcomes cannot be read, or the report not written.
    """
    destination.write(REPORT, report_of(destination, n_thumbnails).encode())
    return join(destination.url, REPORT)


def report_of(destination: Destination, n_thumbnails: int = THUMBNAILS) -> str:
    """Return the report on what stands at a destination as a page of HTML; raises as `write_report`."""
    record, outcomes = record_of(destination), outcomes_at(destination, _COLUMNS)
    report = Report(
        record=record,
        is_complete=destination.is_marked(),
        evaluation=evaluate(outcomes),
        mistakes=shown_rows(
            outcomes, confident_mistakes(answers_of(outcomes), n_thumbnails), record, destination.options
        ),
        failed=failed_images(outcomes, MOST_FAILED),
        odd=_odd(outcomes, record["fingerprint_of"]["crop_size"]),
    )
    return report_page(report)


def shown_rows(
    outcomes: OutcomesTable, rows: Sequence[int], record: Mapping[str, Any], options: StorageOptions
) -> list[Shown]:
    """Return rows of a run's outcomes with their thumbnails: what its model saw, read back from its source.

    Parameters
    ----------
    options
        Where stores are: endpoint and region.
    """
    told = rows_at(outcomes, rows)
    refs = [ImageRef(row["image"], row["etag"], row["size_bytes"]) for row in told]
    pictures = thumbnails(refs, transform_of(record), _source_options(record, options))
    source = str(record["source"])
    return [shown(row, picture, source) for row, picture in zip(told, pictures, strict=True)]


def transform_of(record: Mapping[str, Any]) -> Transform:
    """Return the transform that a run's images went through."""
    known = record["fingerprint_of"]
    return Transform(
        known["resize_size"],
        known["crop_size"],
        tuple(known["mean"]),
        tuple(known["std"]),
        known.get("interpolation", "bilinear"),
    )


def _source_options(record: Mapping[str, Any], options: StorageOptions) -> StorageOptions:
    """Return how a run read its source."""
    read_by = {name: record["config"][name] for name in ("anon", "requester_pays")}
    return replace(options, **read_by).within(_SOURCE_DEADLINE_S)


def _odd(outcomes: OutcomesTable, crop_size: int) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    found = oddities(outcomes, crop_size, MOST_ODD)
    return [
        (f"Smaller than the {crop_size} pixels that the model sees", _sized(outcomes, found.small)),
        (f"At least {LONG:g} times as long as wide, or as wide as long", _sized(outcomes, found.long)),
        ("The same bytes under several names", [_repeated(outcomes, rows) for rows in found.repeated]),
    ]


def _sized(outcomes: OutcomesTable, rows: list[int]) -> list[Mapping[str, Any]]:
    return [
        {"names": row["image"], "detail": f"{row['width']:,} × {row['height']:,}"} for row in rows_at(outcomes, rows)
    ]


def _repeated(outcomes: OutcomesTable, rows: list[int]) -> Mapping[str, Any]:
    first = [row["image"] for row in rows_at(outcomes, rows[:3])]
    names = ", ".join(first) + (", ..." if len(rows) > len(first) else "")
    return {"names": names, "detail": f"{len(rows):,} times"}
