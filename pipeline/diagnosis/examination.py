"""Asks a cluster's processes about themselves. Effects: Dask."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cloudpickle
from distributed import Client

from pipeline.diagnosis import questions
from pipeline.diagnosis.connections import encryption
from pipeline.diagnosis.findings import Complaint, Finding, Level, counted, findings
from pipeline.diagnosis.machines import allocator, clocks, cuda, devices, memory, nannies, threads
from pipeline.diagnosis.software import OURS, PACKAGES, packages, python
from pipeline.diagnosis.vitals import Cuda, Patient, Vitals
from pipeline.errors import ClusterError

logger = logging.getLogger("pipeline")

ANSWER_S = 30.0
"""Seconds that a process has for telling what it knows."""

TRY_S = 120.0
"""Seconds that a worker has for trying something: many on one machine import torch at the same time."""


_OF_ALL = (python, packages, encryption, clocks)
_OF_WORKERS = (devices, memory, threads, nannies, allocator)


def ask(
    client: Client, question: Callable[..., Any], *args: Any, within_s: float, patient: Patient | None = None
) -> dict[str, Any]:
    """Return what each worker answers, by its address; an exception where it raises one, or none in time.

    Parameters
    ----------
    patient
        Whose workers are asked, since they have answered before; None is all that there are.
    """
    known = None if patient is None else [worker.name.removeprefix("worker ") for worker in patient.workers]
    return client.sync(_ask, client, question, args, within_s, known)  # type: ignore[no-any-return]


async def _ask(
    client: Client, question: Callable[..., Any], args: tuple[Any, ...], within_s: float, known: list[str] | None
) -> dict[str, Any]:
    workers = list(await client.scheduler.ncores()) if known is None else known
    answers = (client._run(question, *args, workers=[worker], on_error="return") for worker in workers)  # noqa: SLF001  a worker that hangs must not hold up the others
    told = await asyncio.gather(*(asyncio.wait_for(answer, within_s) for answer in answers), return_exceptions=True)
    return {worker: one[worker] if isinstance(one, dict) else one for worker, one in zip(workers, told, strict=True)}


@contextmanager
def by_value() -> Iterator[None]:
    """Have the questions travel whole, since a process may lack this package."""
    cloudpickle.register_pickle_by_value(questions)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(questions)


def refuse_unfit(client: Client, min_workers: int, without: str | None = None) -> None:
    """Raise `ClusterError` if a cluster has a problem that shows at once; what is merely worse is logged.

    Parameters
    ----------
    without
        A package that need not be there.
    """
    patient, found = admit(client, min_workers)
    found += at_once(patient if without is None else patient.without(without))
    for finding in found:
        if finding.level is Level.WARNING:
            logger.warning("%s", finding)
    problems = [finding for finding in found if finding.level is Level.PROBLEM]
    if problems:
        others = f" ({len(problems) - 1} more problems: ask pipeline.doctor)" if problems[1:] else ""
        raise ClusterError(f"{problems[0]}{others}")


def admit(client: Client, min_workers: int) -> tuple[Patient, list[Finding]]:
    """Return what client, scheduler and workers tell at once, and whether enough of them do."""
    with by_value():
        before = time.time()
        workers = ask(client, questions.vitals, PACKAGES, within_s=ANSWER_S)
        scheduler = client.run_on_scheduler(questions.vitals, PACKAGES)
        asked_s = before, time.time()
    ours = Vitals("client", **questions.vitals(PACKAGES))
    told = [Vitals(f"worker {address}", **vitals) for address, vitals in workers.items() if isinstance(vitals, dict)]
    patient = Patient(client.scheduler.address, ours, Vitals("scheduler", **scheduler), tuple(told), asked_s)
    return patient, [*_silent(workers), *_presence(patient, min_workers)]


def at_once(patient: Patient) -> list[Finding]:
    """Return what can be found without importing anything: the half that a run does itself."""
    checks = _OF_ALL + (_OF_WORKERS if patient.workers else ())
    return [finding for check in checks for finding in check(patient)]


def by_trying(client: Client, patient: Patient) -> list[Finding]:
    """Return what only shows when the workers import what a run needs, and look at their GPU."""
    with by_value():
        imported = ask(client, questions.imports, within_s=TRY_S, patient=patient)
        seen = ask(client, questions.cuda, within_s=TRY_S, patient=patient)
    complaints = [
        Complaint(
            Level.PROBLEM, f"worker {address}", fault, f"install {OURS} and what it needs there, or give --upload"
        )
        for address, fault in imported.items()
        if isinstance(fault, str)
    ]
    complaints += silence(imported, TRY_S)
    told = [seen.get(worker.name.removeprefix("worker ")) for worker in patient.workers]
    gpus = [Cuda(**gpu) if isinstance(gpu, dict) else None for gpu in told]
    return [*findings("imports", complaints, "each worker can import what a run needs"), *cuda(patient, gpus)]


def _silent(workers: Mapping[str, Any]) -> list[Finding]:
    return findings("answers", silence(workers, ANSWER_S), f"from {counted(len(workers), 'worker')}")


def silence(answers: Mapping[str, Any], within_s: float) -> list[Complaint]:
    """Return which workers gave no answer at all."""
    return [
        Complaint(Level.PROBLEM, f"worker {address}", _why(answer, within_s), "look at its log, and start it again")
        for address, answer in answers.items()
        if isinstance(answer, Exception)
    ]


def _why(error: Exception, within_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {within_s:g} s"
    return f"it was lost when it was asked ({type(error).__name__})"


def _presence(patient: Patient, min_workers: int) -> list[Finding]:
    n_workers = len(patient.workers)
    if n_workers >= min_workers:
        return []
    what = f"{patient.address} has {counted(n_workers, 'worker')}, and {min_workers:,} were asked for"
    return [Finding(Level.PROBLEM, "workers", what, f"start some there: dask worker {patient.address}")]
