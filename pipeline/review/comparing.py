"""From two destinations to their comparison: read, join, look at who is right, render. Effects: storage."""

from pipeline.destination import Destination
from pipeline.errors import UsageError
from pipeline.evaluation.comparison import compare, only_one_right
from pipeline.pages.compare_page import Compared, Run
from pipeline.review.reporting import shown_rows
from pipeline.review.stored_outcomes import outcomes_at, record_of

THUMBNAILS = 12
"""Images for each of the two that only it has right."""

_COLUMNS = [
    "image", "etag", "size_bytes", "breed", "truth_index", "status", "class_index", "category", "probability",
    "correct", "breed_class_index",
]  # fmt: skip


def compare_runs(a: Destination, b: Destination, n_thumbnails: int = THUMBNAILS) -> Compared:
    """Return what two runs say on the images that both have.

    Raises
    ------
    UsageError
        If there are not two runs, or they have no image in common.
    StorageError
        If one cannot be read.
    """
    if a.url == b.url:
        raise UsageError(f"{a.url} was given twice: expected the destinations of two runs")
    run_a, run_b = Run("A", a.url, record_of(a)), Run("B", b.url, record_of(b))
    outcomes_a, outcomes_b = outcomes_at(a, _COLUMNS), outcomes_at(b, _COLUMNS)
    comparison = compare(outcomes_a, outcomes_b)
    if not comparison.n_common:
        raise UsageError(f"{a.url} and {b.url} have no image in common, by name, ETag and size")
    only_a, only_b = only_one_right(comparison, n_thumbnails)
    return Compared(
        run_a,
        run_b,
        comparison,
        only_a=shown_rows(outcomes_b, comparison.b.rows[only_a].tolist(), run_b.record, b.options),
        only_b=shown_rows(outcomes_a, comparison.a.rows[only_b].tolist(), run_a.record, a.options),
    )
