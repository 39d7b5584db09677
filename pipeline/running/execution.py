"""A run from its settings to its last line: check, connect, execute, conclude. Effects: everything.

Whoever watches is told; nothing here knows of a terminal, so that a worker can carry out a run as well as a person's
own process.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from distributed import Client

from pipeline.audience.audience import Audience, Heading, failures, speed, summary
from pipeline.audience.files import check_writable
from pipeline.audience.interrupt import StopRequest
from pipeline.config import RunConfig
from pipeline.destination import Destination
from pipeline.engine.drive import Driver, Limits, failure_sentence
from pipeline.engine.finished import finished_tally
from pipeline.engine.worker import prepared_workers, worker_facts
from pipeline.errors import FailureRateError, InterruptedRunError
from pipeline.evaluation.trials import Setting, Tuning
from pipeline.records import ModelSpec, Tally
from pipeline.running.adoption import stored_run, take_destination
from pipeline.running.conclusion import Conclusion
from pipeline.running.performance import performance_reported
from pipeline.running.planned import Planned, read_planned
from pipeline.running.preflight import Ends, Labels, check_ends, check_labels, check_model
from pipeline.running.provenance import TUNING, Session, Stopwatch, new_run_id, told_session
from pipeline.running.provision import Provide, Provision, asked_for, batching_of, expect_workers, provide
from pipeline.running.rescoring import is_judged_by, rescore
from pipeline.running.tuning import Tuner
from pipeline.stages.classes import Classes
from pipeline.stages.peek import Peekable
from pipeline.storage import StorageOptions, join, redact, requests_since_last

Workers: TypeAlias = Callable[[Setting], AbstractContextManager[Client]]
"""Opens or joins workers in a setting, and leaves them."""


def execute(
    config: RunConfig, options: StorageOptions, workers: Workers, stop: StopRequest, audience: Audience
) -> Tally:
    """Check, connect, execute, conclude; return the counts of the outcomes.

    Parameters
    ----------
    options
        Where stores are: endpoint and region.

    Raises
    ------
    PipelineError
        Whatever the user can act on; its `exit_status` tells what kind it is.
    """
    stopwatch, planned = Stopwatch(), read_planned(config)
    if config.performance_report is not None:
        check_writable("--performance-report", config.performance_report)
    ends, spec = check_ends(config, options), check_model(config, options)
    if planned is not None:
        planned.refuse_if_other(config, ends.source.url, spec)
    labels = check_labels(config, ends, spec)
    stored = _judged(stored_run(config, ends.destination, ends.source.url, spec), ends, spec, labels, audience)
    stopwatch.lap("check")
    tally, session = _finished(config, ends, stored), None
    if tally is None:
        begun = _Begun(new_run_id(), stopwatch, labels, is_new=stored is None, planned=planned)
        tally, session = _carry_out(config, workers, ends, spec, begun, stop, audience)
    else:
        audience.told(("finished", "every image has its row already: nothing to do"))
    for line in summary(tally, join(ends.destination.url, "outcomes")):
        audience.told(line)
    if session is not None:
        _tell_of(session, stopwatch.total_s, ends.destination, audience, has_report=not config.no_report)
    if tally.n_failed > config.max_failure_rate * tally.n_images:
        raise FailureRateError(failure_sentence(tally.n_failed, tally.n_images, config.max_failure_rate))
    return tally


def _tell_of(
    session: Session, wall_s: float, destination: Destination, audience: Audience, *, has_report: bool
) -> None:
    for line in speed(session.n_scored, wall_s, session.verdict):
        audience.told(line)
    if session.planned is not None:
        audience.told(("planned", session.planned["sentence"]))
    if has_report:
        audience.told(("report", _report(destination)))


def _report(destination: Destination) -> str:
    """Write the run's report; one that cannot be written does not make the run any less complete."""
    from pipeline.review.reporting import write_report  # noqa: PLC0415  what only the end needs should not hold up the start

    try:
        return write_report(destination)
    except Exception as error:  # noqa: BLE001  every row is stored: what goes wrong now is told, and no more
        return f"none: {error}"


def _judged(
    stored: Mapping[str, Any] | None, ends: Ends, spec: ModelSpec, labels: Labels, audience: Audience
) -> Mapping[str, Any] | None:
    """Return what ``run.json`` says of a stored run, once its answers are judged by the labels that were given."""
    if stored is None or is_judged_by(stored, labels):
        return stored
    record, n_images = rescore(ends.destination, stored, labels, Classes(spec.categories))
    audience.told(("rescored", f"{n_images:,} stored answers, by other labels; no image was read for it"))
    return record


def _finished(config: RunConfig, ends: Ends, stored: Mapping[str, Any] | None) -> Tally | None:
    """Return the counts of a run that has nothing left to do, without any worker."""
    if stored is None or not ends.destination.is_marked():
        return None
    tally = finished_tally(ends.source.images(), ends.destination, stored["fingerprint"])
    return None if tally is None or (config.retry_failed and tally.n_failed) else tally


def _carry_out(
    config: RunConfig,
    workers: Workers,
    ends: Ends,
    spec: ModelSpec,
    begun: "_Begun",
    stop: StopRequest,
    audience: Audience,
) -> tuple[Tally, Session]:
    """Connect, compute what is missing, mark the run as complete; return the run's counts and this command's share."""
    expect_workers(config)
    listed = Peekable(ends.source.images)
    provided = partial(provide, config, ends, spec, begun.labels.identity, listed if begun.is_new else None)
    tuning = _tuned(config, workers, listed, provided, begun.stopwatch, stop, audience) if config.tune else None
    setting = tuning.best if tuning else asked_for(config)
    with ExitStack() as stack:
        client = stack.enter_context(workers(setting))
        audience.told(("dashboard", client.dashboard_link or "none"))
        given = provided(begun.run_id, setting, client)
        if begun.planned is not None:
            begun.planned.refuse_if_other(config, ends.source.url, given.spec)
        stack.enter_context(prepared_workers(client, given.job))
        stack.enter_context(performance_reported(client, config.performance_report))
        if stop.event.is_set():  # nothing of the destination has changed yet
            raise InterruptedRunError("stopped on request, before it began")
        record = take_destination(
            config, ends.destination, ends.source.url, given.spec, begun.run_id, begun.labels.identity
        )
        begun.stopwatch.lap("connect")

        audience.headed(_heading(record["run_id"], config, given, tuning))
        stack.enter_context(closing(audience))
        limits = Limits(config.max_failure_rate, config.stall_timeout)
        batching = batching_of(config, setting)
        driver = Driver(client, given.job, batching, limits, audience, stop.event, begun.labels.label_of)
        conclude = Conclusion(ends.destination, record, partial(_told, begun, driver, client, given, tuning))
        stop.is_graceful = True
        try:
            _, tally = driver.run(listed, config.part_size, conclude, retry_failed=config.retry_failed)
        except FailureRateError:
            for line in failures(driver.tally):
                audience.told(line)
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
    config: RunConfig,
    workers: Workers,
    listed: Peekable,
    provided: Provide,
    stopwatch: Stopwatch,
    stop: StopRequest,
    audience: Audience,
) -> Tuning:
    tuning = Tuner(config, listed, workers, provided, audience.tried, stop.event).run()
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


def _heading(run_id: str, config: RunConfig, given: Provision, tuning: Tuning | None) -> Heading:
    spec = given.spec
    model = f"{spec.name} {redact(config.weights)} in {spec.precision} (weights SHA-256 {spec.weights_sha256[:12]})"
    tuned = str(tuning) if tuning else None
    return Heading(run_id, given.job.destination.url, model, given.compiled, tuned)
