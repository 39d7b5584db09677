"""How a command ends early: one line for people, a status for scripts, and how to resume. Effects: stderr."""

import shlex
import sys
import traceback

import click

from pipeline.console import printable
from pipeline.errors import ClusterError, InterruptedRunError


def fail(message: str, status: int) -> int:
    """Say what went wrong in one line, and return the exit status."""
    click.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    return status


def explain(error: BaseException, message: str, status: int, command: str, *, debug: bool) -> int:
    """Say what went wrong, and how to resume where that is all there is to do; return the exit status.

    Parameters
    ----------
    command
        What was typed, without its arguments.
    debug
        Whether the traceback is shown.
    """
    if debug:
        traceback.print_exception(error)
    fail(message, status)
    if isinstance(error, (ClusterError, InterruptedRunError, KeyboardInterrupt)):
        click.echo(f"to resume: {_again(command)}", err=True)
    return status


def _again(command: str) -> str:
    arguments = [argument for argument in sys.argv[1:] if argument != "--overwrite"]
    return printable(shlex.join([*command.split(), *arguments]))
