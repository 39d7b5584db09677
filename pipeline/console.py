"""What a person sees of a run: first lines, progress, last lines. Results go to stdout, progress to stderr."""

import sys
import time
from dataclasses import dataclass
from typing import NoReturn

import click
from tqdm import tqdm

from pipeline.engine.plan import PlanTotals
from pipeline.evaluation.metrics import Share
from pipeline.records import Tally

_HEADING_PATIENCE_S = 3.0
"""Seconds that the first lines wait for the listing to tell the number of images."""

_PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The first lines."""

    run_id: str
    dashboard: str | None
    destination: str
    model: str


class Console:
    """Shows a run's progress; a `pipeline.engine.drive.Progress`."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._started = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None
        self._n_classified = 0

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """Show the first lines as soon as the number of images is known, or has been long enough in coming."""
        if self._bar is None and (is_closed or time.monotonic() - self._started > _HEADING_PATIENCE_S):
            n_images = f"{totals.n_images:,}" if is_closed else f"{totals.n_images:,} so far, the listing goes on"
            _print_heading(self._heading, n_images)
            self._bar = _bar(self._n_classified)
        if self._bar is not None and is_closed:
            self._bar.total = totals.n_images

    def classified(self, n_images: int) -> None:
        """Move the bar."""
        self._n_classified += n_images
        if self._bar is not None:
            self._bar.update(n_images)

    def committed(self, tally: Tally) -> None:
        """Show the failures so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{tally.n_failed:,} failed", refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _bar(n_classified: int) -> "tqdm[NoReturn]":
    is_terminal = sys.stderr.isatty()
    return tqdm(
        initial=n_classified,
        unit=" images",
        desc="classified",
        file=sys.stderr,
        dynamic_ncols=is_terminal,
        mininterval=0.2 if is_terminal else _PLAIN_INTERVAL_S,
        maxinterval=_PLAIN_INTERVAL_S,
    )


def print_summary(tally: Tally, wall_s: float, outcomes: str) -> None:
    """Show the last lines: counts, accuracy with its interval, failures by reason, time."""
    _line("images", f"{tally.n_images:,}: {tally.n_ok:,} ok, {tally.n_failed:,} failed")
    _line("top-1", Share(tally.n_correct, tally.n_truth))
    _line("top-5", Share(tally.n_correct_top5, tally.n_truth))
    _line("of breeds", Share(tally.n_correct_breed, tally.n_breed_truth))
    for (stage, reason), count in tally.failures.most_common():
        _line("failed", f"{count:,} in {stage}: {reason}")
    _line("took", f"{wall_s:.1f} s, {tally.n_images / wall_s:.1f} images/s, start-up included")
    _line("outcomes", outcomes)


def printable(text: str) -> str:
    r"""Return text that cannot move a terminal's cursor or begin a line of its own: names come out of buckets.

    >>> print(printable("a\nb"))
    a\nb
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _print_heading(heading: Heading, n_images: str) -> None:
    _line("run", heading.run_id)
    _line("images", n_images)
    _line("dashboard", heading.dashboard or "none")
    _line("model", heading.model)
    _line("destination", heading.destination)


def _line(label: str, text: object) -> None:
    click.echo(f"{label:<12} {printable(str(text))}")
