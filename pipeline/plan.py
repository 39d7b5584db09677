"""``python -m pipeline.plan SOURCE DESTINATION``: what a run is going to take, before it is paid for."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.audience.console import print_line
from pipeline.audience.ending import carry_out, fail
from pipeline.audience.files import check_writable, save_text
from pipeline.audience.interrupt import stop_on_signals
from pipeline.config import FiniteRange, RunConfig, configured_defaults, parameters
from pipeline.errors import UsageError
from pipeline.forecast.forecast import Forecast
from pipeline.forecast.prices import KINDS
from pipeline.forecast.words import lines_of, size_words, verb_words
from pipeline.planning.forecasting import Forecaster
from pipeline.planning.sampling import sampled
from pipeline.planning.surveying import checked, surveyed
from pipeline.running.provision import asked_for, cluster_options
from pipeline.storage import requests

COMMAND = "python -m pipeline.plan"

_PRICE = "price_"

_OF_RUN_ALONE = ("detach", "performance_report", "planned")
"""Options of a run that a plan of it has no use for."""


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    try:
        defaults = {name: value for name, value in configured_defaults().items() if name not in _OF_RUN_ALONE}
    except UsageError as error:
        return fail(str(error), UsageError.exit_status)
    command = click.Command(
        COMMAND, params=_parameters(), callback=_command, help=_HELP, context_settings={"default_map": defaults}
    )
    return carry_out(command, COMMAND, args)


def _parameters() -> list[click.Parameter]:
    """Return the options of a run, since the plan is of that run, and the plan's own."""
    price = FiniteRange(min=0)
    own: list[click.Parameter] = [
        click.Option(["--json", "as_json"], is_flag=True, help="Print the plan as JSON."),
        click.Option(["--save"], metavar="FILE", help="Keep the plan as JSON, for --planned of the run."),
        *(click.Option([f"--price-{kind.name}"], type=price, metavar="PRICE", help=kind.help) for kind in KINDS),
    ]
    return [parameter for parameter in parameters() if parameter.name not in _OF_RUN_ALONE] + own


def _command(*, as_json: bool, save: str | None, **options: Any) -> int:
    prices = _prices(options)
    config = RunConfig(**{name: value for name, value in options.items() if not name.startswith(_PRICE)})
    if save is not None:
        check_writable("--save", save)
    with stop_on_signals():
        forecast = plan(config, prices)
    _tell(forecast, config, as_json=as_json)
    if save is not None:
        _save(forecast, Path(save))
    return 0


def plan(config: RunConfig, prices: Mapping[str, float]) -> Forecast | None:
    """Check, list, sample, and return what the run is going to take; None where it has nothing to do.

    Parameters
    ----------
    prices
        By the names of `pipeline.forecast.prices.KINDS`.

    Raises
    ------
    PipelineError
        Whatever would end the run, too.
    """
    began, asked_before = time.monotonic(), requests()
    cluster_options(config, asked_for(config))  # what cannot be is said before a long listing
    given = checked(config)
    found = surveyed(config, given)
    refs, n_images = found.survey.strata.sample(), found.survey.to_do.n_images
    _say(f"listed {size_words(found.survey.listed)}, {n_images:,} of them to do")
    if not n_images:
        return None
    tried = sampled(config, given, refs, n_images, _say)
    forecast = Forecaster(config, given, found, tried).forecast(prices)
    asked = requests() - asked_before + tried.pace.requests + Counter(read=len(refs))
    _say(f"this plan itself took {time.monotonic() - began:.0f} s and {verb_words(asked)}")
    return forecast


def _tell(forecast: Forecast | None, config: RunConfig, *, as_json: bool) -> None:
    if as_json:
        told = forecast.told() if forecast is not None else {"to_do": {"n_images": 0}}
        click.echo(json.dumps(told, indent=2, allow_nan=False))
    elif forecast is None:
        click.echo("every image has its row already: nothing to do")
    else:
        for label, text in lines_of(forecast, config.max_failure_rate):
            print_line(label, text)


def _save(forecast: Forecast | None, path: Path) -> None:
    if forecast is None:
        raise UsageError(f"--save {path}: nothing is planned, since every image has its row already")
    save_text(json.dumps(forecast.told(), indent=2) + "\n", path)


def _prices(options: Mapping[str, Any]) -> dict[str, float]:
    given = {kind.name: options[_PRICE + kind.name.replace("-", "_")] for kind in KINDS}
    return {name: price for name, price in given.items() if price is not None}


def _say(text: str) -> None:
    """Show what is going on, as progress."""
    click.echo(f"planning: {text}", err=True)


_HELP = """Say what `python -m pipeline.run SOURCE DESTINATION`, with the same options, is going to take.

It lists SOURCE whole, sends about 200 of its images through the cluster as the run would, and tells images, bytes,
formats, failures, time, requests, and money at the prices that are given; what would bound the run; how many workers
make sense. Of a run that is there already only what is missing is planned. Nothing is written to DESTINATION, and
nothing is left on the cluster.

Exit status: 0 planned; 1 internal error; 2 bad usage; 4 storage or credentials; 5 cluster lost; 130 stopped.
"""


if __name__ == "__main__":
    sys.exit(main())
