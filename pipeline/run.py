"""``python -m pipeline.run SOURCE DESTINATION``: classify every image of SOURCE, outcomes to DESTINATION."""

import logging
import shlex
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import click
from distributed import Client

from cluster.connect import ClusterOptions, connect, local_kind
from pipeline import provenance
from pipeline.config import RunConfig, configured_defaults, parameters
from pipeline.console import Console, Heading, print_summary, printable
from pipeline.destination import RUN_JSON, SUCCESS, Destination
from pipeline.engine.drive import Driver, failure_sentence
from pipeline.engine.graph import Batching
from pipeline.engine.inference import load_classifier
from pipeline.engine.plan import PlanTotals
from pipeline.engine.worker import Job, prepared_workers
from pipeline.errors import ClusterError, FailureRateError, InterruptedRunError, PipelineError, UsageError
from pipeline.fingerprint import fingerprint
from pipeline.interrupt import StopRequest, stop_on_signals
from pipeline.preflight import Ends, check_ends, check_model
from pipeline.records import ModelSpec, Tally
from pipeline.stages.precision import fastest_cpu_precision, fastest_precision
from pipeline.storage import join, options_from_environment, redact

COMMAND = "python -m pipeline.run"

_PRECISION_S = 60.0
"""Seconds that a worker has for importing torch and looking at its device."""


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    command = click.Command(COMMAND, params=parameters(), callback=_run_config, help=_HELP)
    try:
        status = command.main(args, COMMAND, standalone_mode=False, default_map=configured_defaults())
        return int(status or 0)
    except click.ClickException as error:
        return _fail(f"{error.format_message()} See {COMMAND} --help.", UsageError.exit_status)
    except UsageError as error:
        return _fail(str(error), UsageError.exit_status)
    except (KeyboardInterrupt, click.Abort):
        return _fail("stopped at once", InterruptedRunError.exit_status)


def _run_config(**options: Any) -> int:
    config = RunConfig(**options)
    _log_to_stderr(config.debug)
    with stop_on_signals() as stop:
        try:
            run_pipeline(config, stop)
            return 0
        except PipelineError as error:
            return _explain(config, error, str(error), error.exit_status)
        except (KeyboardInterrupt, click.Abort) as error:
            return _explain(config, error, "stopped at once", 130)
        except Exception as error:  # noqa: BLE001  the last resort: one line and a status for scripts
            return _explain(config, error, f"internal error: {type(error).__name__}: {error}", 1)


def run_pipeline(config: RunConfig, stop: StopRequest) -> Tally:
    """Check, connect, execute, conclude; return the counts of the outcomes.

    Raises
    ------
    PipelineError
        Whatever the user can act on; its `exit_status` tells what kind it is.
    """
    started, started_at = time.monotonic(), datetime.now(UTC)
    ends, spec = check_ends(config), check_model(config)
    checked = time.monotonic()
    with ExitStack() as stack:
        client = _connect(config, stack)
        spec = replace(spec, precision=_resolve_precision(config, client))
        run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"
        record = provenance.begin(run_id, config, spec, started_at.isoformat(timespec="seconds"))
        job = _job(run_id, ends, spec)
        stack.enter_context(prepared_workers(client, job))
        _take_destination(config, ends.destination, record)
        connected = time.monotonic()

        console = Console(Heading(run_id, client.dashboard_link, ends.destination.url, _model_line(config, spec)))
        stack.callback(console.close)
        driver = Driver(client, job, _batching(config), config.max_failure_rate, console, stop.event)
        stop.is_graceful = True
        totals, tally = driver.run(ends.listed(), config.part_size)
        finished = time.monotonic()
        timings_s = {"check": checked - started, "connect": connected - checked, "compute": finished - connected}
        _conclude(ends.destination, record | provenance.conclude(totals, tally, timings_s), totals, tally)

    print_summary(tally, time.monotonic() - started, join(ends.destination.url, "outcomes"))
    if tally.n_failed > config.max_failure_rate * totals.n_images:
        raise FailureRateError(failure_sentence(tally.n_failed, totals.n_images, config.max_failure_rate))
    return tally


def _connect(config: RunConfig, stack: ExitStack) -> Client:
    options = ClusterOptions(config.cluster, config.workers, config.min_workers, config.threads_per_worker)
    try:
        return stack.enter_context(connect(options))
    except ValueError as error:
        raise UsageError(str(error)) from error
    except (ConnectionError, TimeoutError) as error:
        raise ClusterError(str(error)) from error


def _resolve_precision(config: RunConfig, client: Client) -> str:
    """Return the precision as asked for; for ``auto`` the fastest that every worker has in hardware."""
    if config.precision != "auto":
        return config.precision
    if local_kind(config.cluster) == "cpu":
        return fastest_cpu_precision()
    futures = [client.submit(fastest_precision, workers=[worker], pure=False) for worker in client.nthreads()]
    try:
        found = {future.result(timeout=_PRECISION_S) for future in futures}
    except Exception as error:
        message = f"a worker could not tell its precision ({error}); install the pipeline there and at the scheduler"
        raise ClusterError(message) from error
    return "bf16" if found == {"bf16"} else "fp32"


def _take_destination(config: RunConfig, destination: Destination, record: dict[str, Any]) -> None:
    if config.overwrite:
        destination.clear()
    destination.write_json(RUN_JSON, record)


def _conclude(destination: Destination, record: dict[str, Any], totals: PlanTotals, tally: Tally) -> None:
    """Mark the run as complete, once every image of the plan has its row."""
    if tally.n_images != totals.n_images:
        raise AssertionError(f"{tally.n_images} outcomes for a plan of {totals.n_images} images")
    destination.write_json(RUN_JSON, record)
    destination.write(SUCCESS, b"")


def _job(run_id: str, ends: Ends, spec: ModelSpec) -> Job:
    return Job(
        run_id=run_id,
        fingerprint=fingerprint(spec),
        destination=ends.destination,
        source_options=ends.source_options,
        transform=spec.transform,
        load_model=partial(load_classifier, spec, options_from_environment()),
    )


def _batching(config: RunConfig) -> Batching:
    return Batching(config.batch_size, config.images_per_task)


def _model_line(config: RunConfig, spec: ModelSpec) -> str:
    return f"{spec.name} {redact(config.weights)} in {spec.precision} (weights SHA-256 {spec.weights_sha256[:12]})"


def _explain(config: RunConfig, error: BaseException, message: str, status: int) -> int:
    if config.debug:
        traceback.print_exception(error)
    _fail(message, status)
    if isinstance(error, (ClusterError, InterruptedRunError, KeyboardInterrupt)):
        click.echo(f"to begin anew: {_again(config)}", err=True)
    return status


def _fail(message: str, status: int) -> int:
    click.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    return status


def _again(config: RunConfig) -> str:
    overwrite = [] if config.overwrite else ["--overwrite"]
    return printable(shlex.join([*COMMAND.split(), *sys.argv[1:], *overwrite]))


def _log_to_stderr(debug: bool) -> None:
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("pipeline").setLevel(logging.DEBUG if debug else logging.WARNING)


_HELP = """Classify every image under SOURCE with ResNet50 on a Dask cluster and write one row for each to DESTINATION.

SOURCE is a folder or glob, DESTINATION a folder, each on any fsspec URL (s3://bucket/images, ./images). S3 settings
come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_PROFILE. Each option also
works as DASK_PIPELINE__OPTION and under 'pipeline:' in Dask's YAML.

Exit status: 0 every image has its row; 1 internal error; 2 bad usage; 3 more failures than --max-failure-rate; 4
storage or credentials; 5 cluster lost; 130 stopped by Ctrl-C or SIGTERM.
"""


if __name__ == "__main__":
    sys.exit(main())
