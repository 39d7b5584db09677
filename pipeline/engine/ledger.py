"""What is known of the outcomes on storage: which parts hold just the rows that the plan asks for, and their counts."""

from collections.abc import Iterator, Sequence

from pipeline.destination import OUTCOMES_FOLDER, Destination, part_name, part_number
from pipeline.records import Part, PartWork, Receipt, Tally
from pipeline.stages.outcomes import split_part, tally_of


class Ledger:
    """Holds the stored outcomes against the plan.

    Parameters
    ----------
    destination
        Where the outcomes are stored.
    fingerprint
        Parts with any other are done again.
    """

    def __init__(self, destination: Destination, fingerprint: str) -> None:
        self._destination, self._fingerprint = destination, fingerprint
        self._stored: dict[int, str] = {}
        self._planned: set[int] = set()
        self._exact: dict[int, tuple[str, Tally]] = {}
        self.tally = Tally()

    @property
    def n_parts(self) -> int:
        """Parts that were stored at the last look, whatever is in them."""
        return len(self._stored)

    def look(self) -> None:
        """List what is stored now, and forget what was planned: a plan is about to be handed in, part by part.

        Listed before the plan is read, a part that the plan does not name is one that no driver will ask for again.
        """
        self._stored, self._planned = self._list(), set()

    def unfinished(self, parts: Sequence[Part], *, retry_failed: bool = False) -> Iterator[PartWork]:
        """Yield what is left to do for the parts of a page; those that are found exact are entered and left out.

        Parameters
        ----------
        retry_failed
            Whether images that failed are to be tried again.
        """
        self._planned.update(part.index for part in parts)
        stored = [part_name(part.index) for part in parts if part.index in self._stored]
        bodies = iter(self._destination.read_many(stored))
        for part in parts:
            self._forget(part.index)
            data = next(bodies) if part.index in self._stored else b""
            work = self._compare(part, data, retry_failed=retry_failed)
            if work is not None:
                yield work

    def enter(self, receipt: Receipt) -> None:
        """Take note of a part that was committed."""
        self._forget(receipt.part)
        self._exact[receipt.part] = receipt.etag, receipt.tally
        self.tally.add(receipt.tally)

    def remove_orphans(self) -> None:
        """Delete the parts that no page of the plan names, after every page was handed in."""
        self._destination.delete([part_name(part) for part in self._stored.keys() - self._planned])
        for part in self._exact.keys() - self._planned:
            self._forget(part)

    def still_stands(self) -> bool:
        """Return whether the outcomes on storage are just those that were entered."""
        return self._list() == {part: etag for part, (etag, _) in self._exact.items()}

    def _list(self) -> dict[int, str]:
        etags = self._destination.etags(OUTCOMES_FOLDER).items()
        return {number: etag for name, etag in etags if (number := part_number(name)) is not None}

    def _compare(self, part: Part, data: bytes, *, retry_failed: bool) -> PartWork | None:
        found = split_part(data, part.refs, self._fingerprint, retry_failed=retry_failed)
        if not found.is_exact:
            return PartWork(part.index, found.missing, found.kept)
        self.enter(Receipt(part.index, self._stored[part.index], tally_of(data)))
        return None

    def _forget(self, part: int) -> None:
        former = self._exact.pop(part, None)
        if former is not None:
            self.tally.remove(former[1])
