"""What a person sees of a run: first lines, progress, last lines. Results go to stdout, progress to stderr."""

import sys
import time
from dataclasses import dataclass
from typing import NoReturn

import click
from tqdm import tqdm

from pipeline.engine.plan import PlanTotals
from pipeline.evaluation.metrics import Share
from pipeline.evaluation.trials import Trial
from pipeline.evaluation.verdict import Verdict
from pipeline.records import Tally

_HEADING_PATIENCE_S = 3.0
"""Seconds that the first lines wait for the listing to tell the number of images."""

_PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The first lines, but for the dashboard's: that is shown as soon as there is one."""

    run_id: str
    destination: str
    model: str
    compiled: str
    """Whether the model is compiled, and why."""

    tuned: str | None = None
    """What was found to be the fastest; None where it was not asked for."""


class Console:
    """Shows a run's progress; a `pipeline.engine.drive.Progress`. A bar on a terminal, else a line now and then."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._started = self._told = time.monotonic()
        self._is_headed = False
        self._n_images: int | None = None
        self._n_classified = self._n_failed = self._n_found = 0
        self._bar: tqdm[NoReturn] | None = None

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """Show the first lines as soon as the number of images is known, or has been long enough in coming."""
        self._n_images = totals.n_images if is_closed else None
        if not self._is_headed and (is_closed or time.monotonic() - self._started > _HEADING_PATIENCE_S):
            n_images = f"{totals.n_images:,}" if is_closed else f"{totals.n_images:,} so far, the listing goes on"
            _print_heading(self._heading, n_images)
            self._is_headed = True
            if _is_watched():
                n_done = self._n_found + self._n_classified
                self._bar = tqdm(unit=" images", desc="classified", initial=n_done, dynamic_ncols=True)
        if self._bar is not None:
            self._bar.total = self._n_images

    def found(self, n_images: int) -> None:
        """Count images that have their row already as done, without any merit."""
        self._n_found += n_images
        if self._bar is not None:
            self._bar.initial += n_images
            self._bar.n += n_images

    def classified(self, n_images: int) -> None:
        """Move the bar, or say how far it is."""
        self._n_classified += n_images
        if self._bar is not None:
            self._bar.update(n_images)
        elif self._is_headed and time.monotonic() - self._told > _PLAIN_INTERVAL_S:
            self._told = time.monotonic()
            click.echo(self._plain_line(), err=True)

    def committed(self, tally: Tally) -> None:
        """Show the failures so far."""
        self._n_failed = tally.n_failed
        if self._bar is not None:
            self._bar.set_postfix_str(f"{tally.n_failed:,} failed", refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _plain_line(self) -> str:
        rate = self._n_classified / (time.monotonic() - self._started)
        so_far = f"{rate:.1f} images/s, {self._n_failed:,} failed"
        if self._n_images is None:
            return f"classified {self._n_classified:,} images, {so_far}"
        n_done = self._n_found + self._n_classified
        left_s = (self._n_images - n_done) / rate
        return f"classified {n_done:,} of {self._n_images:,} images, {so_far}, {left_s:.0f} s left"


def _is_watched() -> bool:
    """Return whether a bar can move: on a terminal, or below a notebook's cell."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def print_line(label: str, text: object) -> None:
    """Show a result with its label."""
    click.echo(f"{label:<12} {printable(str(text))}")


def print_trial(trial: Trial) -> None:
    """Show how fast a setting was, as progress."""
    found = f"{trial.images_per_s:.1f} images/s" if trial.fault is None else f"failed: {printable(trial.fault)}"
    click.echo(f"tuning: {trial.setting}: {found}", err=True)


def print_summary(tally: Tally, outcomes: str) -> None:
    """Show what came out: counts, accuracy with its interval, failures by reason."""
    print_line("images", f"{tally.n_images:,}: {tally.n_ok:,} ok, {tally.n_failed:,} failed")
    print_line("top-1", Share(tally.n_correct, tally.n_truth))
    print_line("top-5", Share(tally.n_correct_top5, tally.n_truth))
    if tally.n_breed_truth:
        print_line("of breeds", Share(tally.n_correct_breed, tally.n_breed_truth))
    print_failures(tally)
    print_line("outcomes", outcomes)


def print_speed(n_scored: int, wall_s: float, verdict: Verdict | None) -> None:
    """Show how long it took, and what bounded it."""
    print_line(
        "took", f"{wall_s:.1f} s, {n_scored:,} images scored, {n_scored / wall_s:.1f} images/s, start-up included"
    )
    if verdict is not None:
        print_line("bound by", verdict)


def print_failures(tally: Tally) -> None:
    """Show how many images failed for which reason."""
    for (stage, reason), count in tally.failures.most_common():
        print_line("failed", f"{count:,} in {stage}: {reason}")


def printable(text: str) -> str:
    r"""Return text that cannot move a terminal's cursor or begin a line of its own: names come out of buckets.

    >>> print(printable("a\nb"))
    a\nb
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _print_heading(heading: Heading, n_images: str) -> None:
    print_line("run", heading.run_id)
    print_line("images", n_images)
    print_line("model", heading.model)
    print_line("compiled", heading.compiled)
    if heading.tuned is not None:
        print_line("tuned", heading.tuned)
    print_line("destination", heading.destination)
