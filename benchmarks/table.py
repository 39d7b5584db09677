"""The benchmark's record as a table for people. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.ratios import FIRST_BATCH, STEADY, WHOLE, Round, Spread, ratio, spread
from benchmarks.ways import BY_HAND, TUTORIAL, WAYS

COLUMNS = (
    (WHOLE, ("whole job,", "images/s"), 1),
    ("times_tutorial", ("whole, times", "the tutorial"), 2),
    ("of_by_hand", ("whole, of the", "loop by hand"), 2),
    (STEADY, ("steady state,", "images/s"), 1),
    ("steady_of_by_hand", ("steady, of the", "loop by hand"), 2),
    (FIRST_BATCH, ("first batch", "after s"), 1),
    ("cores_busy", ("cores", "busy"), 2),
)
"""Each figure of `summary`, its heading, and its digits after the point."""

_WIDTH = 21

_ABSOLUTE = (WHOLE, STEADY, FIRST_BATCH, "cores_busy", "seconds")


def summary(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Return the spread of each way's figures and ratios over the rounds, by the way's name."""
    return {way: _told_of(way, rounds) for way in rounds[0]}


def table(record: Mapping[str, Any]) -> str:
    """Return a record, as `benchmarks.bench` keeps it, for people."""
    machine = record["machine"]
    lines = [
        f"{record['n_images']} images, {record['n_rounds']} rounds, {record['precision']}, on {machine['cpu']}, "
        f"{machine['cores']} cores: median (least-most)",
        *(f"{'':<32}" + "".join(f"{heading[row]:>{_WIDTH}}" for _, heading, _ in COLUMNS) for row in (0, 1)),
    ]
    for way, told in record["summary"].items():
        cells = "".join(f"{_cell(told[figure], digits):>{_WIDTH}}" for figure, _, digits in COLUMNS)
        lines.append(f"{WAYS[way].title:<32}{cells}")
    return "\n".join([*lines, "", *(_goal_line(goal) for goal in record["goals"])])


def _told_of(way: str, rounds: Sequence[Round]) -> dict[str, Any]:
    found = {figure: spread([round_[way][figure] for round_ in rounds]) for figure in _ABSOLUTE}
    for name, figure, other in (
        ("times_tutorial", WHOLE, TUTORIAL),
        ("of_by_hand", WHOLE, BY_HAND),
        ("steady_of_by_hand", STEADY, BY_HAND),
    ):
        found[name] = spread([ratio(round_, figure, way, other) for round_ in rounds])
    return {figure: value and asdict(value) for figure, value in found.items()}


def _cell(told: Mapping[str, float] | None, digits: int = 2) -> str:
    return f"{Spread(**told):{digits}}" if told else "-"


def _goal_line(goal: Mapping[str, Any]) -> str:
    is_for = f"is for {goal['from_images']:,} images and more"
    verdict = {True: "met", False: "missed", None: is_for}[goal["is_met"]]
    return f"goal  {goal['goal']:<54}{goal['bound']:>6} {_cell(goal['value']):>21}  {verdict}"
