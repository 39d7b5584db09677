"""From the figures of several rounds to ratios with their spread, and the goals that they are held against. Pure.

A ratio compares two jobs of one round, so that a machine that is slower for a while slows both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.ways import (
    BY_HAND,
    BY_HAND_COMPILED,
    DATALOADER_TUNED,
    PROJECT,
    PROJECT_COLD,
    PROJECT_COMPILED,
    TUTORIAL,
    TUTORIAL_TUNED,
)

Round = Mapping[str, Mapping[str, Any]]
"""The figures of one job of each way, by the way's name; see `benchmarks.job.figures_of`."""

WHOLE, STEADY, FIRST_BATCH = "images_per_s", "steady_images_per_s", "first_batch_s"

PEERS = (TUTORIAL_TUNED, DATALOADER_TUNED)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds."""

    median: float

    min: float

    max: float

    def __format__(self, digits: str) -> str:
        """Return median, minimum and maximum with so many digits after the point."""
        return f"{self.median:.{digits}f} ({self.min:.{digits}f}-{self.max:.{digits}f})"


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of a figure, None where a round lacks it."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Spread(round(median(known), 4), round(min(known), 4), round(max(known), 4))


def ratio(round_: Round, figure: str, way: str, *others: str) -> float | None:
    """Return how many times a way's figure is the best of the others', None where one was not measured."""
    ours = round_.get(way, {}).get(figure)
    theirs = [value for other in others if (value := round_.get(other, {}).get(figure)) is not None]
    return float(ours / max(theirs)) if ours is not None and len(theirs) == len(others) else None


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that the project is held against."""

    text: str

    value: Callable[[Round], float | None]

    bound: float

    is_at_least: bool = True
    """Whether the bound is the smallest value that will do; else it is the largest."""

    from_images: int = 1
    """The goal is set for jobs of at least so many images."""

    def judged(self, rounds: Sequence[Round], n_images: int) -> dict[str, Any] | None:
        """Return the figure and whether its median meets the goal; None where it was not measured.

        ``is_met`` is None where the job was smaller than the goal asks for.
        """
        found = spread([self.value(round_) for round_ in rounds])
        if found is None:
            return None
        is_met = found.median >= self.bound if self.is_at_least else found.median <= self.bound
        told = {"goal": self.text, "bound": self.bound, "from_images": self.from_images, "value": asdict(found)}
        return told | {"is_met": is_met if n_images >= self.from_images else None}


def _times(figure: str, way: str, *others: str) -> Callable[[Round], float | None]:
    return lambda round_: ratio(round_, figure, way, *others)


GOALS = (
    Goal("steady state, of the loop by hand", _times(STEADY, PROJECT, BY_HAND), 0.95),
    Goal("whole job, of the loop by hand", _times(WHOLE, PROJECT, BY_HAND), 0.85, from_images=2000),
    Goal("whole job, times the tutorial", _times(WHOLE, PROJECT, TUTORIAL), 8),
    Goal("whole job, times the best tuned peer", _times(WHOLE, PROJECT, *PEERS), 2),
    Goal("seconds to the first batch", lambda round_: round_.get(PROJECT, {}).get(FIRST_BATCH), 6, is_at_least=False),
    Goal("compiled: steady state, of the loop by hand", _times(STEADY, PROJECT_COMPILED, BY_HAND_COMPILED), 0.95),
    Goal(
        "compiled: whole job, of the loop by hand",
        _times(WHOLE, PROJECT_COMPILED, BY_HAND_COMPILED),
        0.85,
        from_images=2000,
    ),
    Goal("compiled: whole job, times the tutorial", _times(WHOLE, PROJECT_COMPILED, TUTORIAL), 12, from_images=5000),
    Goal(
        "compiled: whole job, times the best tuned peer",
        _times(WHOLE, PROJECT_COMPILED, *PEERS),
        3.3,
        from_images=5000,
    ),
    Goal("compiled, cold: whole job, times the tutorial", _times(WHOLE, PROJECT_COLD, TUTORIAL), 10, from_images=5000),
    Goal(
        "compiled, cold: whole job, times the best tuned peer",
        _times(WHOLE, PROJECT_COLD, *PEERS),
        2.8,
        from_images=5000,
    ),
)
"""Of the issue that asked for this benchmark, set for two cores with bf16 in hardware."""
