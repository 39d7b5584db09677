"""What a check has found. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_NAMED = 3
"""Processes that a line names; of the others it tells the number."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but worse than it could."""

    PROBLEM = "problem"
    """It fails, or its answers cannot be relied on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the doctor's."""

    level: Level
    check: str
    what: str
    mend: str = ""
    where: tuple[str, ...] = ()
    """The processes that have it; none: the cluster as a whole."""

    def __str__(self) -> str:
        named = ", ".join(self.where[:_NAMED])
        others = f" and {len(self.where) - _NAMED:,} more" if len(self.where) > _NAMED else ""
        place = f"{named}{others}: " if named else ""
        return f"{place}{self.what}{f'; {self.mend}' if self.mend else ''}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What one process has."""

    level: Level
    process: str
    what: str
    mend: str


def findings(check: str, complaints: Iterable[Complaint], otherwise: str) -> list[Finding]:
    """Return one finding for each complaint that processes share, or that all is well.

    >>> same = [Complaint(Level.WARNING, f"worker {i}", "has one core", "give it more") for i in range(5)]
    >>> [str(finding) for finding in findings("threads", same, "")]
    ['worker 0, worker 1, worker 2 and 2 more: has one core; give it more']
    """
    shared: dict[tuple[Level, str, str], list[str]] = {}
    for complaint in complaints:
        shared.setdefault((complaint.level, complaint.what, complaint.mend), []).append(complaint.process)
    found = [Finding(level, check, what, mend, tuple(where)) for (level, what, mend), where in shared.items()]
    return found or [Finding(Level.OK, check, otherwise)]


def counted(n: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "worker"), counted(1200, "worker")
    ('1 worker', '1,200 workers')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
