"""What a person sees of a run: first lines, progress, last lines. Results go to stdout, progress to stderr."""

import os
import sys
import time
from typing import NoReturn

import click
from tqdm import tqdm

from pipeline.audience.audience import Heading, Line
from pipeline.engine.plan import PlanTotals
from pipeline.evaluation.trials import Trial
from pipeline.records import Tally

_HEADING_PATIENCE_S = 3.0
"""Seconds that the first lines wait for the listing to tell the number of images."""

_PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal."""


class Console:
    """An `Audience` that prints: progress as a bar on a terminal, else as a line now and then."""

    def __init__(self) -> None:
        self._heading: Heading | None = None
        self._started = self._told_at = time.monotonic()
        self._is_headed = False
        self._n_images: int | None = None
        self._n_classified = self._n_failed = self._n_found = 0
        self._bar: tqdm[NoReturn] | None = None

    def tried(self, trial: Trial) -> None:
        """Show how fast a setting was, as progress."""
        found = f"{trial.images_per_s:.1f} images/s" if trial.fault is None else f"failed: {printable(trial.fault)}"
        click.echo(f"tuning: {trial.setting}: {found}", err=True)

    def headed(self, heading: Heading) -> None:
        """Take the first lines; the time begins."""
        self._heading = heading
        self._started = self._told_at = time.monotonic()

    def told(self, line: Line) -> None:
        """Show a result."""
        print_line(*line)

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """Show the first lines as soon as the number of images is known, or has been long enough in coming."""
        self._n_images = totals.n_images if is_closed else None
        if self._heading and (is_closed or time.monotonic() - self._started > _HEADING_PATIENCE_S):
            n_images = f"{totals.n_images:,}" if is_closed else f"{totals.n_images:,} so far, the listing goes on"
            for line in self._heading.lines(n_images):
                print_line(*line)
            self._heading, self._is_headed = None, True
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
        elif self._is_headed and time.monotonic() - self._told_at > _PLAIN_INTERVAL_S:
            self._told_at = time.monotonic()
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
        rate, n_done = self._n_classified / (time.monotonic() - self._started), self._n_found + self._n_classified
        of_all = "" if self._n_images is None else f" of {self._n_images:,}"
        so_far = f"classified {n_done:,}{of_all} images, {rate:.1f} images/s, {self._n_failed:,} failed"
        if self._n_images is None or not rate:  # nobody knows yet
            return so_far
        return f"{so_far}, {(self._n_images - n_done) / rate:.0f} s left"


def _is_watched() -> bool:
    """Return whether a bar can move: on a terminal, or below a notebook's cell."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def print_line(label: str, text: object) -> None:
    """Show a result with its label; where nobody reads any more (``| head``, a full disk) the work goes on without."""
    try:
        click.echo(f"{label:<12} {printable(str(text))}")
    except OSError:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    r"""Return text that cannot move a terminal's cursor or begin a line of its own: names come out of buckets.

    >>> print(printable("a\nb"))
    a\nb
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
