"""The cluster, watched from the driver: how many slots it has, whom it lost, whether anything still moves."""

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client

from pipeline.engine.balance import Balance, LastAnswer
from pipeline.engine.graph import Placement, part_of
from pipeline.engine.window import TICK_S
from pipeline.engine.worker import Job, can_anyone_infer
from pipeline.errors import ClusterError

NO_WORKERS_S = 60.0
"""Seconds without any worker after which a run gives up."""

DUMP_S = 30.0
"""Seconds that a stalled cluster has for telling its state."""

SUSPECT_AFTER = 2
"""Workers that a task has to lose before its images are decoded apart; Dask itself gives up at four."""


class ClusterWatch:
    """Follows the workers as they join and leave.

    Parameters
    ----------
    client
        Of the cluster.
    job
        By whose run its tasks are known, and by whose resource the workers that have the model.
    stall_timeout_s
        Seconds without any batch or part done after which a run gives up.
    """

    def __init__(self, client: Client, job: Job, stall_timeout_s: float) -> None:
        self._client, self._job, self._stall_timeout_s = client, job, stall_timeout_s
        self._balance = Balance()
        self._looked_at = -math.inf
        self._workers: set[str] = set()
        self._has_workers_at = self._moved_at = time.monotonic()
        self.n_slots = 1
        self.unfit: str | None = None
        """Why the last worker was sent away."""

    def moved(self) -> None:
        """Take note that a batch or a part was done, or that there is nothing to do."""
        self._moved_at = time.monotonic()

    def look(self) -> set[int]:
        """Look at the cluster now and then; return the numbers of the parts that keep losing their workers.

        Raises
        ------
        ClusterError
            If it is gone, has no worker any more, or does nothing.
        """
        now = time.monotonic()
        if now - self._looked_at < TICK_S:
            return set()
        self._looked_at = now
        workers = self._slots()
        has_lost_some = not self._workers <= workers.keys()
        if self._job.model_resource is not None:
            self._balance.look(self._client.run_on_scheduler(_told, self._job.model_resource, self._job.plugin_name))
        self._workers = set(workers)
        if workers:
            self.n_slots, self._has_workers_at = sum(workers.values()), now
        self._check_workers(now)
        if now - self._moved_at > self._stall_timeout_s:
            raise ClusterError(
                f"nothing was done for {self._stall_timeout_s:g} s (--stall-timeout), though the cluster answers; "
                f"its state is in {self._dump()}"
            )
        return self._suspects() if has_lost_some else set()

    def lacks(self, workers: Iterable[str]) -> bool:
        """Return whether one of these workers was not there any more at the last look."""
        return not {*workers} <= self._workers

    def placement(self) -> Placement | None:
        """Return where the next part's tasks should run; None where every worker has the model, whoever joins."""
        if self._job.model_resource is None:
            return None
        is_mixed = 0 < self._balance.n_models < len(self._workers)
        decodes_beside_model = is_mixed and not self._balance.is_starving()
        return Placement(self._job.model_resource, decodes_beside_model=decodes_beside_model)

    def send_away(self, worker: str, reason: str, *, is_restartable: bool) -> None:
        """End a worker that cannot infer; with `is_restartable` its nanny may begin a new process in its place.

        Raises
        ------
        ClusterError
            If nobody else can either: then it is not the worker's fault, and it is left to others.
        """
        if not is_restartable and not can_anyone_infer(self._client, self._job):
            raise ClusterError(f"no worker is left that can infer: {reason}")
        self.unfit = reason
        if worker in self._slots():
            self._client.run(_end, is_restartable, workers=[worker], on_error="ignore")

    def _check_workers(self, now: float) -> None:
        if not self._workers and self.unfit is not None:
            raise ClusterError(f"no worker is left that can infer: {self.unfit}")
        if now - self._has_workers_at > NO_WORKERS_S:
            raise ClusterError(f"the cluster has had no worker for {NO_WORKERS_S:g} s")

    def _slots(self) -> dict[str, int]:
        try:
            return dict(self._client.nthreads())
        except (OSError, RuntimeError, TimeoutError) as error:
            raise ClusterError("the connection to the scheduler was lost") from error

    def _suspects(self) -> set[int]:
        keys: Iterable[str] = self._client.run_on_scheduler(_suspicious_keys, self._job.run_id, SUSPECT_AFTER)
        return {part for key in keys if (part := part_of(key, self._job.run_id)) is not None}

    def _dump(self) -> str:
        """Write what the scheduler and the workers know to a file, and return its name."""
        name = f"cluster-dump-{self._job.run_id}"
        with suppress(Exception):  # a dump that fails must not hide why there is one
            self._client.sync(self._client._dump_cluster_state, name, callback_timeout=DUMP_S)  # noqa: SLF001  the public method waits without limit
        found = next(iter(Path().glob(f"{name}*")), None)
        return str(found) if found else "no file, since it could not be had"


def _told(resource: str, metric: str, dask_scheduler: Any) -> dict[str, LastAnswer | None]:
    workers = {address: worker for address, worker in dask_scheduler.workers.items() if resource in worker.resources}
    return {address: worker.metrics.get(metric) for address, worker in workers.items()}


def _suspicious_keys(run_id: str, least: int, dask_scheduler: Any) -> list[str]:
    """Return the keys of a run's `preprocess` tasks that were under way on so many workers as these died."""
    return [
        str(key)
        for key, task in dask_scheduler.tasks.items()
        if task.suspicious >= least and str(key).startswith(f"preprocess-{run_id}-")
    ]


def _end(is_restartable: bool, dask_worker: Any) -> None:
    reason = "cannot infer for the pipeline"
    dask_worker.loop.add_callback(dask_worker.close, nanny=not is_restartable, executor_wait=False, reason=reason)
