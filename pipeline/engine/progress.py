"""What a driver tells of its progress. Pure."""

from typing import Protocol

from pipeline.engine.plan import PlanTotals
from pipeline.records import Tally


class Progress(Protocol):
    """Whoever watches a run."""

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """The plan grew, or is complete."""

    def found(self, n_images: int) -> None:
        """So many images have their row already."""

    def classified(self, n_images: int) -> None:
        """A batch was classified."""

    def committed(self, tally: Tally) -> None:
        """A part was committed; `tally` is the run's so far."""
