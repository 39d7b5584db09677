"""Parts of a run: what is to be done, and what came of it. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.records.images import ImageRef


@dataclass(frozen=True, slots=True)
class Part:
    """A run of batches: the unit of commit and of resume."""

    index: int

    refs: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True)
class PartWork:
    """What is left to do for a part."""

    index: int

    refs: tuple[ImageRef, ...]
    """The images to score."""

    kept: bytes = b""
    """The rows that are to stay, as a Parquet object; empty where the part was never written."""

    is_suspect: bool = False
    """Whether its images are decoded in a child process, since workers died with them."""

    attempt: int = 0
    """How often this part was given up and begun again."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker process has for a run."""

    host: str
    """Workers on one host share its cores."""

    n_slots: int
    """Tasks that it runs at a time."""

    n_cores: int
    """Cores that it may use."""

    has_model: bool

    requests: Counter[str] = field(default_factory=Counter)
    """What it asked of its stores since its last receipt, by kind."""

    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that it spent since its last receipt, by `pipeline.engine.spending.Activity`."""


@dataclass(slots=True)
class Tally:
    """Counts of outcomes. Tallies of parts add up to the run's."""

    n_images: int = 0
    n_ok: int = 0
    n_truth: int = 0
    """Classified images whose truth is known."""

    n_correct: int = 0
    n_correct_top5: int = 0
    n_breed_truth: int = 0
    """Classified images whose truth is one of the 120 breeds."""

    n_correct_breed: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failed images by stage and reason."""

    @property
    def n_failed(self) -> int:
        """Images that have a row but no answer."""
        return self.n_images - self.n_ok

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self._change_by(other, 1)
        self.failures.update(other.failures)

    def remove(self, other: "Tally") -> None:
        """Take a tally that was added back out."""
        self._change_by(other, -1)
        self.failures -= other.failures

    def _change_by(self, other: "Tally", sign: int) -> None:
        for name in ("n_images", "n_ok", "n_truth", "n_correct", "n_correct_top5", "n_breed_truth", "n_correct_breed"):
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker tells of a part that it committed."""

    part: int

    etag: str
    """The version of the stored object."""

    tally: Tally
    """Of all its rows, those included that were kept."""

    requests: Counter[str] = field(default_factory=Counter)
    """What this worker process asked of its stores since its last receipt, by kind."""

    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that this worker process spent since its last receipt, by `pipeline.engine.spending.Activity`."""
