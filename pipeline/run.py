"""``python -m pipeline.run SOURCE DESTINATION``: classify every image of SOURCE, outcomes to DESTINATION."""

import gc
import logging
import sys
from functools import partial
from typing import Any

import click

from cluster.connect import is_local
from pipeline.audience.beacon import Sign
from pipeline.audience.console import Console, print_line
from pipeline.audience.ending import explain, fail
from pipeline.audience.interrupt import StopRequest, stop_on_signals
from pipeline.config import RunConfig, configured_defaults, parameters
from pipeline.errors import InterruptedRunError, PipelineError, UsageError
from pipeline.records import Tally
from pipeline.running.detaching import detach, handover, refuse_if_followed
from pipeline.running.execution import execute
from pipeline.running.preflight import check_ends, check_labels, check_model
from pipeline.running.provision import asked_for, joined_workers
from pipeline.storage import options_from_environment

COMMAND = "python -m pipeline.run"


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    command = click.Command(COMMAND, params=parameters(), callback=_run_config, help=_HELP)
    try:
        status = command.main(args, COMMAND, standalone_mode=False, default_map=configured_defaults())
        return int(status or 0)
    except click.ClickException as error:
        return fail(f"{error.format_message()} See {COMMAND} --help.", UsageError.exit_status)
    except UsageError as error:
        return fail(str(error), UsageError.exit_status)
    except (KeyboardInterrupt, click.Abort):
        return fail("stopped at once", InterruptedRunError.exit_status)
    except Exception as error:  # noqa: BLE001  as below
        return fail(f"internal error: {type(error).__name__}: {error}", 1)


def _run_config(**options: Any) -> int:
    config = RunConfig(**options)
    _log_to_stderr(config.debug)
    with stop_on_signals() as stop:
        try:
            if config.detach:
                return _detach(config)
            run_pipeline(config, stop)
            return 0
        except PipelineError as error:
            return explain(error, str(error), error.exit_status, COMMAND, debug=config.debug)
        except (KeyboardInterrupt, click.Abort) as error:
            return explain(error, "stopped at once", 130, COMMAND, debug=config.debug)
        except Exception as error:  # noqa: BLE001  the last resort: one line and a status for scripts
            message = f"internal error: {type(error).__name__}: {error}"
            return explain(error, message, 1, COMMAND, debug=config.debug)


def run_pipeline(config: RunConfig, stop: StopRequest | None = None) -> Tally:
    """Check, connect, execute, conclude; return the counts of the outcomes.

    It prints what the command prints. In a script the call has to stand below ``if __name__ == "__main__"``: local
    workers begin by importing the script.

    Parameters
    ----------
    stop
        What may ask the run to stop, finishing what is in flight; without it, an interrupt ends it at once.

    Raises
    ------
    PipelineError
        Whatever the user can act on; its `exit_status` tells what kind it is.
    """
    workers = partial(joined_workers, config)
    return execute(config, options_from_environment(), workers, stop or StopRequest(), Console())


def _detach(config: RunConfig) -> int:
    """Leave the run to its cluster, once it goes on there; return the status, where it has ended already."""
    _check_can_be_left(config)
    options = options_from_environment()
    ends, spec = check_ends(config, options), check_model(config, options)
    check_labels(config, ends, spec)
    refuse_if_followed(ends.destination)
    with joined_workers(config, asked_for(config)) as client:
        begun = detach(client, handover(config, options, spec, client), ends.destination)
    for line in begun.first_lines if isinstance(begun, Sign) else begun.lines:
        print_line(*line)
    if isinstance(begun, Sign):
        print_line("detached", f"follow it with: python -m pipeline.attach {config.destination}")
        return 0
    return fail(begun.error, begun.status) if begun.error else begun.status


def _check_can_be_left(config: RunConfig) -> None:
    for option, given, why in (
        ("--cluster", config.cluster if is_local(config.cluster) else None, "this cluster ends with the command"),
        ("--upload", config.upload, "the package goes when this command ends; install it there"),
        ("--planned", config.planned, "the machine that the run goes on has no such file"),
        ("--performance-report", config.performance_report, "it would be a file of the worker's that drives the run"),
    ):
        if given:
            raise UsageError(f"--detach cannot be given with {option}{'' if given is True else f' {given}'}: {why}")


def _log_to_stderr(debug: bool) -> None:
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("pipeline").setLevel(logging.DEBUG if debug else logging.WARNING)


_HELP = """Classify every image under SOURCE with ResNet50 on a Dask cluster and write one row for each to DESTINATION.

SOURCE is a folder or glob, DESTINATION a folder, each on any fsspec URL (s3://bucket/images, ./images). S3 settings
come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_PROFILE. Each option also
works as DASK_PIPELINE__OPTION and under 'pipeline:' in Dask's YAML.

Exit status: 0 every image has its row; 1 internal error; 2 bad usage, or a cluster that pipeline.doctor finds unfit; 3
more failures than --max-failure-rate; 4 storage or credentials; 5 cluster lost; 130 stopped by Ctrl-C or SIGTERM.
"""


if __name__ == "__main__":
    status = main()
    if "torch" not in sys.modules:  # whose compiler counts what is left, and complains
        gc.freeze()  # or the interpreter would look through everything for cycles at its end: a third of a second
    sys.exit(status)
