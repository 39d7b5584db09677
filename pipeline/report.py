"""``python -m pipeline.report DESTINATION``: one page of HTML on what a run's outcomes say."""

import sys
from pathlib import Path

import click

from pipeline.audience.console import print_line
from pipeline.audience.ending import carry_out
from pipeline.audience.files import save_text
from pipeline.destination import Destination
from pipeline.pages.report_page import COMMAND
from pipeline.review.reporting import THUMBNAILS, report_of, write_report
from pipeline.storage import options_from_environment, resolve_url


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    return carry_out(_command, COMMAND, args)


@click.command(COMMAND)
@click.argument("destination")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A local file instead of DESTINATION.")
@click.option(
    "--thumbnails",
    default=THUMBNAILS,
    show_default=True,
    type=click.IntRange(min=0),
    help="Confident mistakes that are shown, read back from the source.",
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def _command(destination: str, output: Path | None, thumbnails: int) -> None:
    """Write DESTINATION/report.html: what was run on what, how good the answers are, and what went wrong.

    One file that needs no network. Nothing else is changed.

    Exit status: 0 written; 1 internal error; 2 bad usage; 4 storage or credentials; 130 stopped.
    """
    stored = Destination(resolve_url(destination), options_from_environment())
    if output is None:
        print_line("report", write_report(stored, thumbnails))
    else:
        save_text(report_of(stored, thumbnails), output)
        print_line("report", output)


if __name__ == "__main__":
    sys.exit(main())
