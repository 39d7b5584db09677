"""The end of a run that has all its rows: ``run.json`` as it is to stay, then the mark. Effects: storage."""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.destination import RUN_JSON, SUCCESS, Destination
from pipeline.engine.plan import PlanTotals
from pipeline.records import Tally
from pipeline.running import provenance
from pipeline.running.provenance import Session


class Conclusion:
    """Marks a run as complete; where somebody else changes it meanwhile, once more.

    Parameters
    ----------
    destination
        Of the run.
    record
        What its ``run.json`` said at the beginning.
    tell
        Tells this command's share of the run as it stands when the last row was stored.
    """

    def __init__(self, destination: Destination, record: Mapping[str, Any], tell: Callable[[], Session]) -> None:
        self._destination, self._record, self._tell = destination, record, tell
        self.sessions: list[Session] = []
        """This command's share, as it stood each time."""

    def __call__(self, totals: PlanTotals, tally: Tally) -> None:
        """Mark the run, once every image of the plan has its row; where others did so too, this share is added."""
        self.sessions.append(self._tell())
        if tally.n_images != totals.n_images:
            raise AssertionError(f"{tally.n_images} outcomes for a plan of {totals.n_images} images")
        is_marked = self._destination.is_marked()
        if is_marked and not self.sessions[-1].n_scored:
            return
        record = dict(self._record)
        if is_marked:  # by another command that was at work here
            record["sessions"] = (self._destination.read_json(RUN_JSON) or record).get("sessions", ())
        self._destination.write_json(RUN_JSON, provenance.conclude(record, totals, tally, self.sessions[-1]))
        self._destination.write(SUCCESS, b"")
