"""``python -m pipeline.run SOURCE DESTINATION``: classify every image of SOURCE, outcomes to DESTINATION."""

import logging
import math
import shlex
import sys
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any, cast

import click
from distributed import Client

from cluster.connect import ClusterOptions, connect, local_kind
from pipeline import provenance
from pipeline.adoption import stored_run, take_destination
from pipeline.config import RunConfig, configured_defaults, parameters
from pipeline.console import Console, Heading, print_failures, print_speed, print_summary, printable
from pipeline.destination import RUN_JSON, SUCCESS, Destination
from pipeline.engine.drive import Driver, Limits, failure_sentence
from pipeline.engine.finished import finished_tally
from pipeline.engine.graph import Batching
from pipeline.engine.inference import load_classifier, usable_cores
from pipeline.engine.plan import PlanTotals
from pipeline.engine.worker import Job, model_resource, prepared_workers, worker_facts
from pipeline.errors import ClusterError, FailureRateError, InterruptedRunError, PipelineError, UsageError
from pipeline.fingerprint import fingerprint
from pipeline.interrupt import StopRequest, stop_on_signals
from pipeline.preflight import Ends, check_ends, check_model
from pipeline.provenance import Session, Stopwatch, new_run_id, told_session
from pipeline.records import ModelForm, ModelSpec, Tally
from pipeline.stages.compiling import Asked, break_even, decide, form_key, form_of
from pipeline.stages.peek import Peekable
from pipeline.stages.precision import fastest_cpu_precision, fastest_precision
from pipeline.storage import join, options_from_environment, redact, requests_since_last

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
    stopwatch, run_id = Stopwatch(), new_run_id()
    ends, spec = check_ends(config), check_model(config)
    stored = stored_run(config, ends.destination, ends.selection.source, spec)
    stopwatch.lap("check")
    finished = _finished(config, ends, stored)
    if finished is None:
        tally, session = _carry_out(config, ends, spec, run_id, stopwatch, stop, is_new=stored is None)
        print_summary(tally, join(ends.destination.url, "outcomes"))
        print_speed(session.n_scored, stopwatch.total_s, session.verdict)
    else:
        tally = finished
        click.echo("every image has its row already: nothing to do")
        print_summary(tally, join(ends.destination.url, "outcomes"))
    if tally.n_failed > config.max_failure_rate * tally.n_images:
        raise FailureRateError(failure_sentence(tally.n_failed, tally.n_images, config.max_failure_rate))
    return tally


def _finished(config: RunConfig, ends: Ends, stored: Mapping[str, Any] | None) -> Tally | None:
    """Return the counts of a run that has nothing left to do, without any worker."""
    if stored is None or not ends.destination.is_marked():
        return None
    tally = finished_tally(ends.listed(), ends.destination, stored["fingerprint"])
    return None if tally is None or (config.retry_failed and tally.n_failed) else tally


def _carry_out(
    config: RunConfig,
    ends: Ends,
    spec: ModelSpec,
    run_id: str,
    stopwatch: Stopwatch,
    stop: StopRequest,
    *,
    is_new: bool,
) -> tuple[Tally, Session]:
    """Connect, compute what is missing, mark the run as complete; return the run's counts and this command's share."""
    sessions: list[Session] = []
    with ExitStack() as stack:
        client = _connect(config, stack)
        spec = replace(spec, precision=_resolve_precision(config, client))
        listed = Peekable(ends.listed)
        form, compiled = _decide_form(config, spec, client, listed if is_new else None)
        job = _job(config, run_id, ends, spec, form, model_resource(client, config.model_resource))
        stack.enter_context(prepared_workers(client, job))
        record = take_destination(config, ends.destination, ends.selection.source, spec, run_id)
        stopwatch.lap("connect")

        heading = Heading(
            record["run_id"], client.dashboard_link, ends.destination.url, _model_line(config, spec), compiled
        )
        console = stack.enter_context(closing(Console(heading)))
        limits = Limits(config.max_failure_rate, config.stall_timeout)
        driver = Driver(client, job, _batching(config), limits, console, stop.event)

        def conclude(totals: PlanTotals, tally: Tally) -> None:
            """Mark the run as complete; where somebody else changes it meanwhile this is done again."""
            stopwatch.lap("compute")
            driver.account.requests.update(requests_since_last())
            sessions.append(told_session(run_id, stopwatch, driver.account, worker_facts(client, job), compiled))
            _mark_complete(ends.destination, provenance.conclude(record, totals, tally, sessions[-1]), totals, tally)

        stop.is_graceful = True
        try:
            _, tally = driver.run(listed, config.part_size, conclude, retry_failed=config.retry_failed)
        except FailureRateError:
            print_failures(driver.tally)
            raise
    return tally, sessions[-1]


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


def _decide_form(config: RunConfig, spec: ModelSpec, client: Client, listed: Peekable | None) -> tuple[ModelForm, str]:
    """Return the form in which the workers compute the model, and why, for people.

    Parameters
    ----------
    listed
        Tells the number of images of a new run; of one that goes on nobody knows how many are left.
    """
    asked, kind, n_images, pays_from = cast("Asked", config.compile), local_kind(config.cluster), None, float("inf")
    if asked == "auto" and kind == "cpu":
        n_slots = client.nthreads()
        pays_from = break_even(form_key(spec, usable_cores(min(n_slots.values()))))
        if listed is not None and math.isfinite(pays_from):
            n_images = listed.at_least(math.ceil(pays_from) * len(n_slots)) // len(n_slots)
    is_compiled, why = decide(asked, kind, n_images, pays_from)
    form = form_of(asked, config.batch_size, is_compiled=is_compiled)
    return form, f"{'yes' if is_compiled else 'no'}: {why}"


def _mark_complete(destination: Destination, record: dict[str, Any], totals: PlanTotals, tally: Tally) -> None:
    """Mark the run as complete, once every image of the plan has its row; what is marked already stays as it is."""
    if tally.n_images != totals.n_images:
        raise AssertionError(f"{tally.n_images} outcomes for a plan of {totals.n_images} images")
    if destination.is_marked():
        return
    destination.write_json(RUN_JSON, record)
    destination.write(SUCCESS, b"")


def _job(
    config: RunConfig, run_id: str, ends: Ends, spec: ModelSpec, form: ModelForm, model_resource: str | None
) -> Job:
    return Job(
        run_id=run_id,
        fingerprint=fingerprint(spec),
        destination=ends.destination,
        source_options=ends.source_options,
        transform=spec.transform,
        load_model=partial(load_classifier, spec, form, options_from_environment()),
        decode_s=config.decode_timeout,
        model_resource=model_resource,
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
        click.echo(f"to resume: {_again()}", err=True)
    return status


def _fail(message: str, status: int) -> int:
    click.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    return status


def _again() -> str:
    arguments = [argument for argument in sys.argv[1:] if argument != "--overwrite"]
    return printable(shlex.join([*COMMAND.split(), *arguments]))


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
