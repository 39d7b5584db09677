"""``python -m pipeline.compare RUN_A RUN_B``: which of two models is better, on the images that both have seen."""

import sys
from pathlib import Path

import click

from pipeline.audience.console import print_line
from pipeline.audience.ending import carry_out
from pipeline.audience.files import save_text
from pipeline.destination import Destination
from pipeline.pages.compare_page import COMMAND, compare_page, compare_text
from pipeline.review.comparing import THUMBNAILS, compare_runs
from pipeline.storage import options_from_environment, resolve_url


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    return carry_out(_command, COMMAND, args)


@click.command(COMMAND)
@click.argument("run_a")
@click.argument("run_b")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A local file for the page, too.")
@click.option(
    "--thumbnails",
    default=THUMBNAILS,
    show_default=True,
    type=click.IntRange(min=0),
    help="Images on the page for each run that only it has right, read back from the source.",
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def _command(run_a: str, run_b: str, output: Path | None, thumbnails: int) -> None:
    """Compare two runs on the images that both have at the same version: RUN_A and RUN_B are their destinations.

    Accuracy and its difference with a 95 % interval and McNemar's test, who is right where the other is wrong,
    agreement, calibration, speed. Nothing is changed.

    Exit status: 0 compared; 1 internal error; 2 bad usage; 4 storage or credentials; 130 stopped.
    """
    options = options_from_environment()
    a, b = (Destination(resolve_url(run), options) for run in (run_a, run_b))
    compared = compare_runs(a, b, thumbnails if output else 0)
    for label, text in compare_text(compared):
        print_line(label, text)
    if output is not None:
        save_text(compare_page(compared), output)
        print_line("page", output)


if __name__ == "__main__":
    sys.exit(main())
