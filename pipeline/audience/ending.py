"""How a command ends early: one line for people, a status for scripts, and how to resume. Effects: stderr."""

import shlex
import sys
import traceback

import click

from pipeline.audience.console import printable
from pipeline.errors import ClusterError, InterruptedRunError, PipelineError, UsageError


def carry_out(command: click.Command, name: str, args: list[str] | None) -> int:
    """Run a command that looks at what is there, and return its exit status; however it ends, in one line.

    Parameters
    ----------
    name
        What is typed, without its arguments.
    args
        The arguments; None is this process's.
    """
    arguments = sys.argv[1:] if args is None else args
    debug = "--debug" in arguments
    try:
        return int(command.main(arguments, name, standalone_mode=False) or 0)
    except click.ClickException as error:
        return fail(f"{error.format_message()} See {name} --help.", UsageError.exit_status)
    except PipelineError as error:
        return explain(error, str(error), error.exit_status, name, debug=debug)
    except (KeyboardInterrupt, click.Abort):
        return fail("stopped at once", 130)
    except Exception as error:  # noqa: BLE001  the last resort: one line and a status for scripts
        return explain(error, f"internal error: {type(error).__name__}: {error}", 1, name, debug=debug)


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
