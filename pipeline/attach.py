"""``python -m pipeline.attach DESTINATION``: follow a run that was begun with ``run --detach``, from anywhere."""

import sys
import time

import click

from pipeline.audience.beacon import PERIOD_S, Sign, ask_to_stop
from pipeline.audience.console import Console, print_line
from pipeline.audience.ending import carry_out, fail
from pipeline.audience.interrupt import stop_on_signals
from pipeline.destination import Destination
from pipeline.engine.plan import PlanTotals
from pipeline.errors import ClusterError, InterruptedRunError, StorageError, UsageError
from pipeline.records import Tally
from pipeline.storage import options_from_environment, resolve_url

COMMAND = "python -m pipeline.attach"

LOST_S = 60.0
"""Seconds without a sign of life after which a run is given up for lost."""


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    return carry_out(_command, COMMAND, args)


@click.command(COMMAND)
@click.argument("destination")
@click.option("--stop", is_flag=True, help="Have the run finish what is in flight, and end; it can be resumed.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def _command(destination: str, *, stop: bool) -> int:
    """Follow the run at DESTINATION that was begun with run --detach, until it ends. Leaving (Ctrl-C) does not end it.

    Exit status: that of the run; 130 left before its end.
    """
    stored = Destination(resolve_url(destination), options_from_environment())
    sign = Sign.read(stored)
    if sign is None:
        raise UsageError(
            f"{stored.url} holds no run that was begun with --detach, or another command has gone on with it"
        )
    if stop and sign.status is None:
        ask_to_stop(stored, sign.session)
    again = f"to follow it again: {COMMAND} {destination}"
    try:
        with stop_on_signals():
            last = follow(stored, sign)
    except KeyboardInterrupt:
        click.echo(f"left; the run goes on; {again}", err=True)
        return InterruptedRunError.exit_status
    except StorageError as error:
        return fail(f"{error}; the run may go on; {again}", error.exit_status)
    except ClusterError as error:  # what resumes is the run's command, not this one
        return fail(str(error), error.exit_status)
    return _ended(last)


def follow(stored: Destination, sign: Sign) -> Sign:
    """Show a run from a sign of life on, and return its last.

    Raises
    ------
    ClusterError
        If there are no signs any more, though the run has not ended.
    """
    watched = Watched(sign)
    heard_at = time.monotonic()
    while sign.status is None:
        time.sleep(PERIOD_S / 2)
        later = max(Sign.read(stored) or sign, sign, key=lambda one: one.driver)  # one that was taken over may linger
        if (later.driver, later.n_told) != (sign.driver, sign.n_told):
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > LOST_S:
            raise ClusterError(
                f"no sign of life of {stored.url} for {LOST_S:g} s: if its cluster is gone, resume with "
                f"{sign.resume}; if it only has no worker, the run goes on with the next"
            )
        if later.driver != sign.driver:
            why = "on another worker" if later.session == sign.session else "by another command"
            click.echo(f"the run was begun again {why}", err=True)
            watched = Watched(later)
        sign = later
        watched.look(sign)
    watched.console.close()
    return sign


class Watched:
    """Shows signs of life as the run's own console would."""

    def __init__(self, sign: Sign) -> None:
        self.console = Console()
        self._n_opening, self._is_headed = 0, False
        self._n_found, self._n_classified = sign.n_found, sign.n_classified
        self.console.found(sign.n_found + sign.n_classified)  # it is not this process that saw how fast they were
        self.look(sign)

    def look(self, sign: Sign) -> None:
        """Show what has changed."""
        for line in sign.opening[self._n_opening :]:
            self.console.told(line)
        self._n_opening = len(sign.opening)
        if sign.heading is not None and not self._is_headed:
            self.console.headed(sign.heading)
            self._is_headed = True
        self.console.planned(PlanTotals(sign.n_planned, 0), is_closed=sign.is_closed)
        self.console.found(sign.n_found - self._n_found)
        self.console.classified(sign.n_classified - self._n_classified)
        self.console.committed(Tally(n_images=sign.n_failed))
        self._n_found, self._n_classified = sign.n_found, sign.n_classified


def _ended(sign: Sign) -> int:
    for line in sign.lines:
        print_line(*line)
    if sign.error is not None:
        fail(sign.error, sign.status or 1)
    if sign.status in (ClusterError.exit_status, InterruptedRunError.exit_status):
        click.echo(f"to resume: {sign.resume}", err=True)
    return sign.status or 0


if __name__ == "__main__":
    sys.exit(main())
