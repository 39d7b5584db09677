"""Dask's own report on a run, for ``--performance-report``. Effects: a file, and the scheduler's task stream.

https://distributed.dask.org/en/stable/diagnosing-performance.html#performance-reports
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, Scheduler, performance_report

logger = logging.getLogger("pipeline")

_TASK_STREAM = "task-stream"
"""The plugin of the scheduler that a report needs, and that Dask leaves there."""


@contextmanager
def performance_reported(client: Client, file: str | None) -> Iterator[None]:
    """Write what Dask saw of the tasks meanwhile to a file, if there is one; the scheduler is left as it was."""
    if file is None:
        yield
        return
    was_there = client.run_on_scheduler(_has_task_stream)
    with client.as_current():
        report = performance_report(filename=file)
        try:
            report.__enter__()
            yield
        finally:
            _write(report, client, is_ours=not was_there)


def _write(report: performance_report, client: Client, *, is_ours: bool) -> None:
    try:
        try:
            report.__exit__(None, None, None)
        finally:
            if is_ours:
                client.run_on_scheduler(_drop_task_stream)
    except Exception as error:  # noqa: BLE001  a page for people must not decide how a run ends
        logger.warning("could not write the performance report %s: %s", report.filename, error)


def _has_task_stream(dask_scheduler: Scheduler) -> bool:
    return _TASK_STREAM in dask_scheduler.plugins


def _drop_task_stream(dask_scheduler: Scheduler) -> None:
    """Take the plugin away, unless somebody else is there who may have begun a report meanwhile."""
    clients = [name for name in dask_scheduler.clients if name != "fire-and-forget"]  # which is no client
    if len(clients) <= 1 and _TASK_STREAM in dask_scheduler.plugins:
        dask_scheduler.remove_plugin(_TASK_STREAM)
