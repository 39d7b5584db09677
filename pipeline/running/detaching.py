"""A run that outlives whoever began it: its driver is a task of the cluster. Effects: Dask, storage.

The task leaves its worker's pool of threads (`distributed.secede`), so it takes no slot. Where its worker dies Dask
begins it anew on another, and the run goes on from what is stored.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace

from distributed import Client, Future, fire_and_forget, get_worker, secede

from pipeline.audience.audience import Audience, Line
from pipeline.audience.beacon import Beacon, Sign
from pipeline.audience.interrupt import StopRequest
from pipeline.config import RunConfig, command_line
from pipeline.destination import Destination
from pipeline.errors import ClusterError, PipelineError
from pipeline.evaluation.trials import Setting
from pipeline.running.execution import Workers, execute
from pipeline.running.provenance import new_run_id
from pipeline.storage import options_from_environment, resolve_url

BEGIN_S = 120.0
"""Seconds that a driver has from its submission to its first sign of life: checks, weights and a plugin lie between."""

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Ending:
    """How a detached run ended."""

    status: int
    error: str | None
    lines: tuple[Line, ...]


def detach(client: Client, config: RunConfig, destination: Destination) -> Sign | Ending:
    """Have the cluster carry out a run; return its first sign of life, or how it ended before there was one.

    Raises
    ------
    ClusterError
        If the cluster does not begin.
    """
    session = new_run_id()
    driver = client.submit(drive, config, session, key=f"drive-{session}", pure=False, priority=1)
    deadline = time.monotonic() + BEGIN_S
    try:
        while time.monotonic() < deadline:
            if driver.done():
                return _ending(driver)
            sign = Sign.read(destination)
            if sign is not None and sign.session == session:
                fire_and_forget(driver)
                return sign
            time.sleep(_POLL_S)
    except BaseException:
        driver.cancel(force=True)
        raise
    driver.cancel(force=True)
    raise ClusterError(f"no worker of {client.scheduler.address} has begun with the run within {BEGIN_S:g} s")


def drive(config: RunConfig, session: str) -> Ending:
    """Carry out a run on a worker, and return how it ended; a task."""
    worker, stop = get_worker(), StopRequest()
    secede()
    destination = Destination(resolve_url(config.destination), options_from_environment(s3_client=config.s3_client))
    former = Sign.read(destination)
    if former is not None and former.session == session:  # begun again on another worker: what is there is its own
        config = replace(config, overwrite=False)
    with (
        # A client of its own, not the worker's: that would stay.
        Client(worker.scheduler.address, security=worker.security, set_as_default=False) as client,
        Beacon(destination, session, command_line(asdict(config)), stop.event.set) as beacon,
    ):

        def workers(_: Setting) -> AbstractContextManager[Client]:
            return nullcontext(client)

        status, error = _carried_out(config, workers, stop, beacon)
        beacon.ended(status, error)
        return Ending(status, error, (*beacon.sign.opening, *beacon.sign.lines))


def _carried_out(config: RunConfig, workers: Workers, stop: StopRequest, audience: Audience) -> tuple[int, str | None]:
    try:
        execute(config, workers, stop, audience)
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
