"""``python -m pipeline.run SOURCE DESTINATION``: classify every image of SOURCE, outcomes to DESTINATION."""

import gc
import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
from distributed import Client

from pipeline.adoption import stored_run, take_destination
from pipeline.conclusion import Conclusion
from pipeline.config import RunConfig, configured_defaults, parameters
from pipeline.console import Console, Heading, print_failures, print_line, print_speed, print_summary, print_trial
from pipeline.destination import Destination
from pipeline.ending import explain, fail
from pipeline.engine.drive import Driver, Limits, failure_sentence
from pipeline.engine.finished import finished_tally
from pipeline.engine.worker import prepared_workers, worker_facts
from pipeline.errors import FailureRateError, InterruptedRunError, PipelineError, UsageError
from pipeline.evaluation.trials import Tuning
from pipeline.interrupt import StopRequest, stop_on_signals
from pipeline.planned import Planned, read_planned
from pipeline.preflight import Ends, Labels, check_ends, check_labels, check_model
from pipeline.provenance import TUNING, Session, Stopwatch, new_run_id, told_session
from pipeline.provision import Provide, Provision, asked_for, batching_of, expect_workers, joined_workers, provide
from pipeline.records import ModelSpec, Tally
from pipeline.rescoring import is_judged_by, rescore
from pipeline.stages.classes import Classes
from pipeline.stages.peek import Peekable
from pipeline.storage import join, redact, requests_since_last
from pipeline.tuning import Tuner

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


def _run_config(**options: Any) -> int:
    config = RunConfig(**options)
    _log_to_stderr(config.debug)
    with stop_on_signals() as stop:
        try:
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
    stop, stopwatch = stop or StopRequest(), Stopwatch()
    planned = read_planned(config)
    ends, spec = check_ends(config), check_model(config)
    if planned is not None:
        planned.refuse_if_other(config, ends.selection.source, spec)
    labels = check_labels(config, ends, spec)
    stored = _judged(stored_run(config, ends.destination, ends.selection.source, spec), ends, spec, labels)
    stopwatch.lap("check")
    finished = _finished(config, ends, stored)
    if finished is None:
        begun = _Begun(new_run_id(), stopwatch, labels, is_new=stored is None, planned=planned)
        tally, session = _carry_out(config, ends, spec, begun, stop)
        print_summary(tally, join(ends.destination.url, "outcomes"))
        print_speed(session.n_scored, stopwatch.total_s, session.verdict)
        if session.planned is not None:
            print_line("planned", session.planned["sentence"])
        if not config.no_report:
            _report(ends.destination)
    else:
        tally = finished
        click.echo("every image has its row already: nothing to do")
        print_summary(tally, join(ends.destination.url, "outcomes"))
    if tally.n_failed > config.max_failure_rate * tally.n_images:
        raise FailureRateError(failure_sentence(tally.n_failed, tally.n_images, config.max_failure_rate))
    return tally


def _report(destination: Destination) -> None:
    """Write the run's report; one that cannot be written does not make the run any less complete."""
    from pipeline.reporting import write_report  # noqa: PLC0415  what only the end needs should not hold up the start

    try:
        print_line("report", write_report(destination))
    except Exception as error:  # noqa: BLE001  every row is stored: what goes wrong now is told, and no more
        print_line("report", f"none: {error}")


def _judged(stored: Mapping[str, Any] | None, ends: Ends, spec: ModelSpec, labels: Labels) -> Mapping[str, Any] | None:
    """Return what ``run.json`` says of a stored run, once its answers are judged by the labels that were given."""
    if stored is None or is_judged_by(stored, labels):
        return stored
    record, n_images = rescore(ends.destination, stored, labels, Classes(spec.categories))
    print_line("rescored", f"{n_images:,} stored answers, by other labels; no image was read for it")
    return record


def _finished(config: RunConfig, ends: Ends, stored: Mapping[str, Any] | None) -> Tally | None:
    """Return the counts of a run that has nothing left to do, without any worker."""
    if stored is None or not ends.destination.is_marked():
        return None
    tally = finished_tally(ends.listed(), ends.destination, stored["fingerprint"])
    return None if tally is None or (config.retry_failed and tally.n_failed) else tally


def _carry_out(
    config: RunConfig, ends: Ends, spec: ModelSpec, begun: "_Begun", stop: StopRequest
) -> tuple[Tally, Session]:
    """Connect, compute what is missing, mark the run as complete; return the run's counts and this command's share."""
    expect_workers(config)
    listed = Peekable(ends.listed)
    provided = partial(provide, config, ends, spec, begun.labels.identity, listed if begun.is_new else None)
    tuning = _tuned(config, listed, provided, begun.stopwatch, stop)
    setting = tuning.best if tuning else asked_for(config)
    with ExitStack() as stack:
        client = stack.enter_context(joined_workers(config, setting))
        given = provided(begun.run_id, setting, client)
        if begun.planned is not None:
            begun.planned.refuse_if_other(config, ends.selection.source, given.spec)
        stack.enter_context(prepared_workers(client, given.job))
        record = take_destination(
            config, ends.destination, ends.selection.source, given.spec, begun.run_id, begun.labels.identity
        )
        begun.stopwatch.lap("connect")

        heading = _heading(record["run_id"], config, given, client, tuning)
        console = stack.enter_context(closing(Console(heading)))
        limits = Limits(config.max_failure_rate, config.stall_timeout)
        batching = batching_of(config, setting)
        driver = Driver(client, given.job, batching, limits, console, stop.event, begun.labels.label_of)
        conclude = Conclusion(ends.destination, record, partial(_told, begun, driver, client, given, tuning))
        stop.is_graceful = True
        try:
            _, tally = driver.run(listed, config.part_size, conclude, retry_failed=config.retry_failed)
        except FailureRateError:
            print_failures(driver.tally)
            raise
    return tally, conclude.sessions[-1]


@dataclass(frozen=True, slots=True)
class _Begun:
    """What a command knows of itself before it has workers."""

    run_id: str
    stopwatch: Stopwatch
    labels: Labels
    is_new: bool
    """Whether the destination holds no run to go on with."""

    planned: Planned | None
    """What was said before of what it takes; None where nobody asks."""


def _tuned(
    config: RunConfig, listed: Peekable, provided: Provide, stopwatch: Stopwatch, stop: StopRequest
) -> Tuning | None:
    if not config.tune:
        return None
    tuning = Tuner(config, listed, partial(joined_workers, config), provided, print_trial, stop.event).run()
    stopwatch.lap(TUNING)
    return tuning


def _told(begun: _Begun, driver: Driver, client: Client, given: Provision, tuning: Tuning | None) -> Session:
    """Return this command's share of the run, now that its last row is stored."""
    begun.stopwatch.lap("compute")
    driver.account.requests.update(requests_since_last())
    workers = worker_facts(client, given.job)
    driver.account.ended(workers)
    session = told_session(begun.run_id, begun.stopwatch, driver.account, workers, given.compiled, tuning)
    if begun.planned is None:
        return session
    took_s = sum(seconds for lap, seconds in session.timings_s.items() if lap != TUNING)
    return replace(session, planned=begun.planned.beside(took_s, session.requests))


def _heading(run_id: str, config: RunConfig, given: Provision, client: Client, tuning: Tuning | None) -> Heading:
    spec = given.spec
    model = f"{spec.name} {redact(config.weights)} in {spec.precision} (weights SHA-256 {spec.weights_sha256[:12]})"
    tuned = str(tuning) if tuning else None
    return Heading(run_id, client.dashboard_link, given.job.destination.url, model, given.compiled, tuned)


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
    status = main()
    if "torch" not in sys.modules:  # whose compiler counts what is left, and complains
        gc.freeze()  # or the interpreter would look through everything for cycles at its end: a third of a second
    sys.exit(status)
