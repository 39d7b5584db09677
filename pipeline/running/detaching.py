"""A run that outlives whoever began it: its driver is a task of the cluster. Effects: Dask, storage.

The task leaves its worker's pool of threads (`distributed.secede`), so it takes no slot. Where its worker dies Dask
begins it anew on another, and the run goes on from what is stored.
"""

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Client, Future, fire_and_forget, get_worker, secede

from pipeline.audience.audience import Audience, Line
from pipeline.audience.beacon import PERIOD_S, Beacon, Sign, ask_to_stop
from pipeline.audience.interrupt import StopRequest
from pipeline.config import RunConfig, command_line
from pipeline.destination import Destination
from pipeline.errors import ClusterError, InterruptedRunError, PipelineError, UsageError
from pipeline.evaluation.trials import Setting
from pipeline.records import ModelSpec
from pipeline.running.execution import Workers, execute
from pipeline.running.provenance import new_run_id, told_config
from pipeline.running.provision import client_of_worker
from pipeline.storage import StorageOptions, resolve_url

logger = logging.getLogger("pipeline")

BEGIN_S = 120.0
"""Seconds that a driver has from its submission to its first sign of life: a task slot has to become free for it."""

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Handover:
    """What a command gives the worker that is to carry out its run. Like all that travels, it holds no key."""

    session: str
    config: RunConfig
    """Each place is said so that any machine understands it."""

    options: StorageOptions
    """Where stores are, as the command sees it."""

    resume: str
    """The command that goes on with the run."""

    @property
    def destination(self) -> Destination:
        """Of the run."""
        return Destination(self.config.destination, self.options)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a detached run ended."""

    status: int
    error: str | None
    lines: tuple[Line, ...]


def handover(config: RunConfig, options: StorageOptions, spec: ModelSpec, client: Client) -> Handover:
    """Return what a worker needs to know to carry out a run, wherever it is."""
    scheduler_file = Path(config.cluster)
    typed = replace(
        config,
        source=resolve_url(config.source),
        destination=resolve_url(config.destination),
        weights=spec.weights,
        labels=config.labels if config.labels in ("path", "none") else resolve_url(config.labels),
        categories=config.categories and resolve_url(config.categories),
        cluster=str(scheduler_file.resolve()) if scheduler_file.exists() else config.cluster,
    )
    return Handover(
        new_run_id(),
        replace(typed, cluster=client.scheduler.address),
        replace(options, s3_client=config.s3_client),
        command_line(told_config(typed)),
    )


def refuse_if_followed(destination: Destination) -> None:
    """Raise `UsageError` if a detached run is at work at a destination: two would do the same work."""
    former = Sign.read(destination)
    if former is None or former.status is not None:
        return
    deadline = time.monotonic() + 2 * PERIOD_S
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        if Sign.read(destination) != former:
            raise UsageError(
                f"{destination.url} holds a detached run that goes on: follow it with python -m pipeline.attach "
                f"{destination.url}, or end it with --stop there"
            )


def detach(client: Client, given: Handover, destination: Destination) -> Sign | Ending:
    """Have the cluster carry out a run; return a sign of life once its images are counted, or how it ended before.

    A run whose preparations take longer, such as those of ``--tune``, is left to itself before that.

    Raises
    ------
    ClusterError
        If the cluster does not begin.
    """
    driver = client.submit(drive, given, key=f"drive-{given.session}", pure=False, priority=1)
    deadline = time.monotonic() + BEGIN_S
    try:
        while True:
            if driver.done():
                return _ending(driver)
            sign = Sign.read(destination)
            has_begun, is_late = sign is not None and sign.session == given.session, time.monotonic() > deadline
            if sign is not None and has_begun and (is_late or sign.n_planned):
                fire_and_forget(driver)
                return sign
            if is_late:
                where = client.scheduler.address
                raise ClusterError(f"no worker of {where} has begun with the run within {BEGIN_S:g} s")
            time.sleep(_POLL_S)
    except BaseException:
        _give_up(driver, given, destination)
        raise


def _give_up(driver: Future, given: Handover, destination: Destination) -> None:
    """Have a driver not begin, and one that has begun stop: Dask cannot end a task that runs."""
    driver.cancel(force=True)
    try:
        ask_to_stop(destination, given.session)
    except PipelineError as error:
        logger.warning("the run may go on: %s", error)


def drive(given: Handover) -> Ending:
    """Carry out a run on a worker, and return how it ended; a task."""
    worker, stop, config = get_worker(), StopRequest(), given.config
    secede()
    former = Sign.read(given.destination)
    n_restarts = former.n_restarts + 1 if former is not None and former.session == given.session else 0
    if n_restarts:  # what is there is its own
        config = replace(config, overwrite=False)
    with (
        client_of_worker(worker) as client,
        Beacon(given.destination, given.session, given.resume, stop.event.set, n_restarts) as beacon,
    ):

        def workers(_: Setting) -> AbstractContextManager[Client]:
            return nullcontext(client)

        status, error = _carried_out(config, given.options, workers, stop, beacon)
        beacon.ended(status, error)
        return Ending(status, error, (*beacon.sign.opening, *beacon.sign.lines))


def _carried_out(
    config: RunConfig, options: StorageOptions, workers: Workers, stop: StopRequest, audience: Audience
) -> tuple[int, str | None]:
    try:
        if stop.event.is_set():
            raise InterruptedRunError("stopped on request, before it began")
        execute(config, options, workers, stop, audience)
    except PipelineError as error:
        return error.exit_status, str(error)
    except Exception as error:  # noqa: BLE001  the last resort, as in the command
        return 1, f"internal error: {type(error).__name__}: {error}"
    return 0, None


def _ending(driver: Future) -> Ending:
    try:
        return driver.result()  # type: ignore[no-any-return]
    except Exception as error:
        raise ClusterError(f"the cluster cannot carry out the run: {type(error).__name__}: {error}") from error
