"""What a run tells of itself, and to whom. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pipeline.engine.progress import Progress
from pipeline.evaluation.metrics import Share
from pipeline.evaluation.trials import Trial
from pipeline.evaluation.verdict import Verdict
from pipeline.records import Tally

Line: TypeAlias = tuple[str, str]
"""A label and a text."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The first lines, but for the dashboard's: that is told as soon as there is one."""

    run_id: str
    destination: str
    model: str
    compiled: str
    """Whether the model is compiled, and why."""

    tuned: str | None = None
    """What was found to be the fastest; None where it was not asked for."""

    def lines(self, n_images: str) -> list[Line]:
        """Return them, with the number of images as far as it is known."""
        return [
            ("run", self.run_id),
            ("images", n_images),
            ("model", self.model),
            ("compiled", self.compiled),
            *([("tuned", self.tuned)] if self.tuned is not None else []),
            ("destination", self.destination),
        ]


class Audience(Progress, Protocol):
    """Whoever watches a run from its first line to its last."""

    def tried(self, trial: Trial) -> None:
        """A setting was tried, before work begins."""

    def headed(self, heading: Heading) -> None:
        """Work begins."""

    def told(self, line: Line) -> None:
        """A result is there."""

    def close(self) -> None:
        """There is no more progress; results may follow."""


def summary(tally: Tally, outcomes: str) -> Iterator[Line]:
    """Yield what came out: counts, accuracy with its interval, failures by reason."""
    yield "images", f"{tally.n_images:,}: {tally.n_ok:,} ok, {tally.n_failed:,} failed"
    yield "top-1", str(Share(tally.n_correct, tally.n_truth))
    yield "top-5", str(Share(tally.n_correct_top5, tally.n_truth))
    if tally.n_breed_truth:
        yield "of breeds", str(Share(tally.n_correct_breed, tally.n_breed_truth))
    yield from failures(tally)
    yield "outcomes", outcomes


def failures(tally: Tally) -> Iterator[Line]:
    """Yield how many images failed for which reason."""
    for (stage, reason), count in tally.failures.most_common():
        yield "failed", f"{count:,} in {stage}: {reason}"


def speed(n_scored: int, wall_s: float, verdict: Verdict | None) -> Iterator[Line]:
    """Yield how long it took, and what bounded it."""
    yield "took", f"{wall_s:.1f} s, {n_scored:,} images scored, {n_scored / wall_s:.1f} images/s, start-up included"
    if verdict is not None:
        yield "bound by", str(verdict)
