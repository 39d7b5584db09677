"""Whether a run that is marked as complete still is: read the listing, the plan and two columns, and no image."""

from collections.abc import Iterable, Iterator

from pipeline.destination import Destination
from pipeline.engine.ledger import Ledger
from pipeline.engine.stored_plan import PlannedRow, merged_rows, read_heads, unplanned
from pipeline.records import ImageRef, Tally


class _Unfinished(Exception):  # noqa: N818  an answer, not an error
    """Something is to be done."""


def finished_tally(listed: Iterable[ImageRef], destination: Destination, fingerprint: str) -> Tally | None:
    """Return the counts of a run whose plan and outcomes are just what is listed, None where anything is to be done.

    Changes nothing, and stops at the first difference.
    """
    ledger = Ledger(destination, fingerprint)
    ledger.look()
    planned = _confirmed(merged_rows(destination, read_heads(destination)), ledger)
    try:
        is_planned = next(unplanned(listed, planned), None) is None
    except _Unfinished:
        return None
    return ledger.tally if is_planned and ledger.still_stands() else None


def _confirmed(planned: Iterator[PlannedRow], ledger: Ledger) -> Iterator[PlannedRow]:
    for row in planned:
        yield row
        _, page, position = row
        if position != page.last_position:
            continue
        if page.is_changed or next(ledger.unfinished(page.parts()), None) is not None:
            raise _Unfinished
