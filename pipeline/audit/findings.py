"""What an audit can find, in words for people, and the counting of it. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

MAX_EXAMPLES = 3


class Severity(Enum):
    """What a finding does to the proof."""

    VIOLATED = "violated"
    """The promise is broken."""

    UNFINISHED = "unfinished"
    """The promise is not yet kept: nothing is wrong but that the run has not ended."""

    NOTE = "note"
    """No reader is misled by it."""


class Kind(Enum):
    """Everything that an audit looks for, in the order of its telling."""

    UNREADABLE = ("objects that cannot be read", Severity.VIOLATED)
    FOREIGN = ("objects that no run wrote among plan and outcomes", Severity.VIOLATED)
    PLANNED_TWICE = ("images planned more than once", Severity.VIOLATED)
    MISSING = ("planned images without a row", Severity.UNFINISHED)
    UNPLANNED = ("rows whose image the plan does not have in that part", Severity.VIOLATED)
    REPEATED = ("images with more than one row", Severity.VIOLATED)
    STALE = ("rows of another version (etag or size) than is planned", Severity.VIOLATED)
    OTHER_FINGERPRINT = ("parts of another fingerprint than run.json's", Severity.VIOLATED)
    OTHER_LABELS = ("parts judged by other labels than run.json tells", Severity.VIOLATED)
    NO_FINGERPRINT = ("parts of unknown fingerprint", Severity.VIOLATED)
    LENGTH = ("figures of plan/_CLOSED that differ from the plan's", Severity.VIOLATED)
    UNSORTED = ("pages of the plan out of order", Severity.VIOLATED)
    SHARED_PART = ("parts named by more than one page of the plan", Severity.VIOLATED)
    NOT_CLOSED = ("the plan is not closed, its listing did not end: plan/_CLOSED is missing", Severity.UNFINISHED)
    MARKED = ("_SUCCESS stands there, though the run is not complete", Severity.VIOLATED)
    NOT_MARKED = ("complete but not marked: _SUCCESS is missing", Severity.VIOLATED)
    RECORD = ("figures of run.json that differ from the rows'", Severity.VIOLATED)
    NOT_PLANNED = ("images of SOURCE that are not planned", Severity.VIOLATED)
    NOT_LISTED = ("planned images that SOURCE no longer has", Severity.VIOLATED)
    CHANGED = ("images that changed in SOURCE since they were planned", Severity.VIOLATED)
    NOT_COMPARED = ("SOURCE was not compared: run.json does not tell what was taken from it", Severity.VIOLATED)
    LEFTOVER = ("half files of a writer that was killed; no reader sees them", Severity.NOTE)

    @property
    def words(self) -> str:
        """What was found, to be followed by its number."""
        return self.value[0]

    @property
    def severity(self) -> Severity:
        """What this does to the proof."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked for and is there."""

    kind: Kind

    n: int
    """How often; at least once."""

    examples: tuple[str, ...]
    """The first few; none where the words say it all."""


class Findings:
    """Counts what is found. Keeps a few examples of each kind, so that it never grows with the table."""

    def __init__(self) -> None:
        self._n: Counter[Kind] = Counter()
        self._examples: defaultdict[Kind, list[str]] = defaultdict(list)

    def add(self, kind: Kind, examples: Sequence[str], n: int | None = None) -> None:
        """Count one finding for each example, or `n` of which these are the first; none is no finding."""
        self._n[kind] += len(examples) if n is None else n
        room = MAX_EXAMPLES - len(self._examples[kind])
        self._examples[kind].extend(examples[:room])

    def count(self, kind: Kind) -> int:
        """Return how often something was found."""
        return self._n[kind]

    def __iter__(self) -> Iterator[Finding]:
        for kind in Kind:
            if self._n[kind]:
                yield Finding(kind, self._n[kind], tuple(self._examples[kind]))
