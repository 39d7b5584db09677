"""What a run has left to do, though its plan and its outcomes are only looked at: nothing is changed.

It reads what the same command would read before its first task: the listing, the plan, and two columns of each part.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.destination import Destination
from pipeline.engine.ledger import Ledger
from pipeline.engine.stored_plan import PageDraft, PlannedRow, merged_rows, read_heads, unplanned
from pipeline.records import ImageRef


@dataclass(slots=True)
class StoredRun:
    """What a destination holds of a run, held against what is listed now."""

    n_pages: int = 0
    """Pages of the plan."""

    n_changed_pages: int = 0
    """Those of them that are not what is listed any more."""

    n_parts: int = 0
    """Parts of the outcomes."""

    n_open_parts: int = 0
    """Planned parts that are to be written, for the first time or again."""

    n_new_images: int = 0
    """Images that no page names."""

    n_failed: int = 0
    """Rows that say of an image that it failed, in parts that stay as they are."""


def look_for_remaining(
    listed: Iterable[ImageRef],
    destination: Destination,
    fingerprint: str,
    take: Callable[[ImageRef], None],
    *,
    retry_failed: bool = False,
) -> StoredRun:
    """Hand over every image that is still to be scored, in about the order of the listing; return what is stored.

    Parameters
    ----------
    fingerprint
        Rows with any other are done again.
    take
        Is given each image, so that none of them has to be kept.
    retry_failed
        Whether images that failed are to be scored again.
    """
    ledger, found = Ledger(destination, fingerprint), StoredRun()
    ledger.look()
    heads = read_heads(destination)
    found.n_pages, found.n_parts = len(heads), ledger.n_parts

    def settle(page: PageDraft) -> None:
        """Hand over what is left of a page, once it is known what of it is listed."""
        found.n_changed_pages += page.is_changed
        for work in ledger.unfinished(page.parts(), retry_failed=retry_failed):
            found.n_open_parts += 1
            for ref in work.refs:
                take(ref)

    for ref in unplanned(listed, _settled(merged_rows(destination, heads), settle)):
        found.n_new_images += 1
        take(ref)
    found.n_failed = ledger.tally.n_failed
    return found


def _settled(planned: Iterator[PlannedRow], settle: Callable[[PageDraft], None]) -> Iterator[PlannedRow]:
    """Pass rows on, and settle each page once the last of its rows was dealt with."""
    for row in planned:
        yield row
        _, page, position = row
        if position == page.last_position:
            settle(page)
