"""Asks a cluster's processes about themselves. Effects: Dask."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import cloudpickle
from distributed import Client

from pipeline.diagnosis import questions
from pipeline.diagnosis.connections import encryption
from pipeline.diagnosis.findings import Complaint, Finding, Level, counted, findings
from pipeline.diagnosis.machines import allocator, clocks, cuda, devices, memory, nannies, threads
from pipeline.diagnosis.software import OURS, PACKAGES, minor, packages, python
from pipeline.diagnosis.vitals import Cuda, Patient, Vitals
from pipeline.errors import ClusterError, UsageError

logger = logging.getLogger("pipeline")

ANSWER_S = 30.0
"""Seconds that a process has for telling what it knows."""

TRY_S = 120.0
"""Seconds that a worker has for trying something: many on one machine import torch at the same time."""


_OF_ALL = (python, packages, encryption, clocks)
_OF_WORKERS = (devices, memory, threads, nannies, allocator)


def ask(
    client: Client, question: Callable[..., Any], *args: Any, within_s: float, workers: Iterable[str]
) -> dict[str, Any]:
    """Return what each worker answers, by its address; an exception where it raises one, or none in time."""
    asked = partial(client._run, question, *args, on_error="return")  # noqa: SLF001  the public method waits for all
    return client.sync(_ask_each, asked, within_s, list(workers))  # type: ignore[no-any-return]


async def aside(question: Callable[[], Any], dask_worker: Any = None) -> Any:  # noqa: ARG001  Dask gives it
    """Answer a question in a thread of its own: what imports torch takes seconds, in which a worker has to be heard."""
    return await asyncio.to_thread(question)


async def _ask_each(
    asked: Callable[..., Awaitable[Mapping[str, Any]]], within_s: float, workers: list[str]
) -> dict[str, Any]:
    """Ask each worker by itself: one that hangs must not hold up the others."""
    answers = (asyncio.wait_for(asked(workers=[worker]), within_s) for worker in workers)
    told = await asyncio.gather(*answers, return_exceptions=True)
    return {worker: one[worker] if isinstance(one, dict) else one for worker, one in zip(workers, told, strict=True)}


def _ask_scheduler(client: Client, asked: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Return the scheduler's answer; raise `ClusterError` where there is none in time."""
    try:
        return client.sync(asked, *args, callback_timeout=ANSWER_S)
    except TimeoutError as error:
        raise ClusterError(f"scheduler {client.scheduler.address}: no answer within {ANSWER_S:g} s") from error


def _pythons(client: Client) -> tuple[str, dict[str, Any]]:
    """Return the scheduler's version of Python, and each worker's as `ask` does.

    Messages ask for it, not functions: bytecode of another minor version can end a process.
    """
    scheduler, workers = (
        _ask_scheduler(client, asked) for asked in (client.scheduler.versions, client.scheduler.ncores)
    )
    asked = partial(client.scheduler.broadcast, msg={"op": "versions"}, on_error="return")
    told = client.sync(_ask_each, asked, ANSWER_S, list(workers))
    pythons = {worker: one["host"]["python"] if isinstance(one, dict) else one for worker, one in told.items()}
    return scheduler["host"]["python"], pythons


@contextmanager
def by_value() -> Iterator[None]:
    """Have the questions travel whole, since a process may lack this package."""
    cloudpickle.register_pickle_by_value(questions)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(questions)


def refuse_unfit(client: Client, min_workers: int, without: str | None = None) -> None:
    """Raise `UsageError` if a cluster has a problem that shows at once; what is merely worse is logged.

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
        raise UsageError(f"{problems[0]}{others}")


def admit(client: Client, min_workers: int) -> tuple[Patient, list[Finding]]:
    """Return what client, scheduler and workers tell at once, and whether enough of them do."""
    ours = Vitals("client", **questions.vitals(PACKAGES))
    theirs, versions = _pythons(client)
    strangers = {f"worker {address}": python for address, python in versions.items() if _differs(python, ours.python)}
    with by_value():
        before, scheduler = time.time(), None
        alike = [address for address in versions if f"worker {address}" not in strangers]
        answers = ask(client, questions.vitals, PACKAGES, within_s=ANSWER_S, workers=alike)
        if _differs(theirs, ours.python):
            strangers["scheduler"] = theirs
        else:
            told = _ask_scheduler(client, client._run_on_scheduler, questions.vitals, PACKAGES)  # noqa: SLF001  as above
            scheduler = Vitals("scheduler", **told)
        asked_s = before, time.time()
    workers = tuple(Vitals(f"worker {address}", **one) for address, one in answers.items() if isinstance(one, dict))
    patient = Patient(client.scheduler.address, ours, scheduler, workers, asked_s, strangers)
    return patient, [*_silent(versions | answers), *_presence(patient, len(versions), min_workers)]


def _differs(theirs: Any, ours: str) -> bool:
    return isinstance(theirs, str) and minor(theirs) != minor(ours)


def at_once(patient: Patient) -> list[Finding]:
    """Return what can be found without importing anything: the half that a run does itself."""
    checks = _OF_ALL + (_OF_WORKERS if patient.workers else ())
    return [finding for check in checks for finding in check(patient)]


def by_trying(client: Client, patient: Patient) -> tuple[Patient, list[Finding]]:
    """Return what only shows when the workers import what a run needs, and look at their GPU; and who could do so."""
    with by_value():
        imported = ask(client, questions.imports, within_s=TRY_S, workers=patient.addresses)
        seen = ask(client, questions.cuda, within_s=TRY_S, workers=patient.addresses)
    complaints = [
        Complaint(
            Level.PROBLEM, f"worker {address}", fault, f"install {OURS} and what it needs there, or give --upload"
        )
        for address, fault in imported.items()
        if isinstance(fault, str)
    ]
    complaints += silence(imported, TRY_S)
    gpus = [Cuda(**gpu) if isinstance(gpu, dict) else None for gpu in map(seen.get, patient.addresses)]
    asked = zip(patient.workers, patient.addresses, strict=True)
    able = tuple(worker for worker, address in asked if imported[address] is None)
    found = findings("imports", complaints, "each worker can import what a run needs")
    return replace(patient, workers=able), [*found, *cuda(patient, gpus)]


def _silent(answers: Mapping[str, Any]) -> list[Finding]:
    return findings("answers", silence(answers, ANSWER_S), f"from {counted(len(answers), 'worker')}")


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


def _presence(patient: Patient, n_workers: int, min_workers: int) -> list[Finding]:
    if n_workers >= max(1, min_workers):
        return []
    what = f"{patient.address} has {counted(n_workers, 'worker')}"
    mend = f"start some there: dask worker {patient.address}"
    if not min_workers:
        return [Finding(Level.WARNING, "workers", f"{what}: nothing is known of those that are to come", mend)]
    return [Finding(Level.PROBLEM, "workers", f"{what}, and {min_workers:,} were asked for", mend)]
