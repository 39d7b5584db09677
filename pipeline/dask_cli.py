"""``dask pipeline run ...``: the commands below Dask's own command line, as its entry point ``dask_cli`` takes them.

Dask imports this at each of its commands, so it imports nothing else: https://docs.dask.org/en/stable/cli.html
"""

import sys
from collections.abc import Callable

import click

_AS_TYPED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Everything behind a command's name is for that command to read."""


@click.group("pipeline")
def pipeline() -> None:
    """Classify a bucket of images; see dask pipeline run --help."""


def _carry_out(main: Callable[[list[str] | None], int], name: str, args: tuple[str, ...]) -> None:
    """Run a command as if it had been typed by itself: what it says of resuming is taken from there."""
    sys.argv = [f"python -m pipeline.{name}", *args]
    sys.exit(main(list(args)))


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(args: tuple[str, ...]) -> None:
    """Classify every image of SOURCE, outcomes to DESTINATION."""
    from pipeline.run import main  # noqa: PLC0415  as below: dask's other commands should not wait for it

    _carry_out(main, "run", args)


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def verify(args: tuple[str, ...]) -> None:
    """Prove that every planned image of DESTINATION has exactly one row."""
    from pipeline.verify import main  # noqa: PLC0415

    _carry_out(main, "verify", args)


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def report(args: tuple[str, ...]) -> None:
    """Write the report of DESTINATION again."""
    from pipeline.report import main  # noqa: PLC0415

    _carry_out(main, "report", args)


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def compare(args: tuple[str, ...]) -> None:
    """Hold two runs on the same images against each other."""
    from pipeline.compare import main  # noqa: PLC0415

    _carry_out(main, "compare", args)


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def plan(args: tuple[str, ...]) -> None:
    """Say what a run is going to take, before it is paid for."""
    from pipeline.plan import main  # noqa: PLC0415

    _carry_out(main, "plan", args)


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def doctor(args: tuple[str, ...]) -> None:
    """Say what is wrong with a cluster, and how to mend it."""
    from pipeline.doctor import main  # noqa: PLC0415

    _carry_out(main, "doctor", args)


@pipeline.command(context_settings=_AS_TYPED)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def attach(args: tuple[str, ...]) -> None:
    """Follow the run at DESTINATION that was begun with run --detach."""
    from pipeline.attach import main  # noqa: PLC0415

    _carry_out(main, "attach", args)
