"""Whether each worker can reach what a run reads and writes. Effects: Dask, storage on the workers."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Client

from pipeline.destination import Destination
from pipeline.diagnosis.examination import TRY_S, ask, silence
from pipeline.diagnosis.findings import Complaint, Finding, Level, findings
from pipeline.diagnosis.vitals import Patient
from pipeline.engine.inference import weights_of
from pipeline.errors import PipelineError
from pipeline.records import ModelSpec
from pipeline.storage import ReadFault, StorageOptions, open_storage

_HURRY_S = 8.0
"""Seconds that a store has for an answer to a worker."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a run would have each worker read and write."""

    image: str
    """URL of one image of the source."""

    source_options: StorageOptions
    destination: Destination
    spec: ModelSpec


def access(client: Client, patient: Patient, errand: Errand) -> list[Finding]:
    """Find workers that cannot read the source, write to the destination, or have the weights."""
    told = ask(client, _tried, errand, within_s=TRY_S, workers=patient.addresses)
    answers = {address: faults for address, faults in told.items() if isinstance(faults, dict)}
    silent = silence(told, TRY_S)
    return [
        *(findings("storage", silent, "") if silent else []),
        *_faults(answers, "source", errand.image, f"each worker can read {errand.image}"),
        *_faults(
            answers,
            "destination",
            errand.destination.url,
            f"each worker can write to {errand.destination.url} and delete there",
        ),
        *_faults(answers, "weights", "", f"each worker has them (SHA-256 {errand.spec.weights_sha256[:12]})"),
    ]


def _faults(answers: Mapping[str, Mapping[str, str | None]], end: str, url: str, otherwise: str) -> list[Finding]:
    mend = _MEND[end].format(whom=_S3 if url.startswith("s3://") else _LOCAL if url.startswith("file://") else _OTHER)
    complaints = [
        Complaint(Level.PROBLEM, f"worker {address}", fault, mend)
        for address, faults in answers.items()
        if (fault := faults[end]) is not None
    ]
    if not answers:
        return [Finding(Level.WARNING, end, "not tried: no worker could do so")]
    return findings(end, complaints, otherwise)


_S3 = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance role"
_LOCAL = "the same disk under the same path, and a user"
_OTHER = "an account"

_MEND = {
    "source": "give the worker {whom} that may read it",
    "destination": "give the worker {whom} that may write and delete there",
    "weights": "give --weights an URL that the workers can read, or put the file into their cache of torch",
}


async def _tried(errand: Errand, dask_worker: Any = None) -> dict[str, str | None]:  # noqa: ARG001  Dask gives it
    return await asyncio.to_thread(lambda: dict(_tries(errand)))


def _tries(errand: Errand) -> Iterator[tuple[str, str | None]]:
    yield "source", _fault(lambda: _read(errand))
    yield "destination", _fault(errand.destination.within(_HURRY_S).probe)
    yield "weights", _fault(lambda: weights_of(errand.spec, errand.destination.options))


def _fault(trial: Any) -> str | None:
    try:
        told = trial()
    except PipelineError as error:
        return str(error)
    return told if isinstance(told, str) else None


def _read(errand: Errand) -> str | None:
    body = open_storage(errand.image, errand.source_options.within(_HURRY_S)).read_many([(errand.image, "")])[0]
    return f"cannot read {errand.image}: {body.reason}" if isinstance(body, ReadFault) else None
