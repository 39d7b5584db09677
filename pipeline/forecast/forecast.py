"""Everything that a plan tells, as a record and as JSON. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.evaluation.verdict import Verdict
from pipeline.forecast.duration import Duration
from pipeline.forecast.estimate import Estimate
from pipeline.forecast.failures import Failures
from pipeline.forecast.prices import Bill
from pipeline.forecast.survey import Images
from pipeline.forecast.workers import Limit, workers_sentence

VERSION = 1
"""Of the JSON."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was tried, and on what."""

    n_images: int

    formats: Counter[str]
    """By their bytes."""

    n_counted: int
    """Images behind the figure of the pace; each of the sample may count several times."""

    batch_size: int

    seconds: float
    """That those took."""

    n_workers: int
    """That they went through."""

    share: float = 1.0
    """Of the cluster's task slots, those workers'."""

    @property
    def images_per_s(self) -> float:
        """Of all workers together, in steady state."""
        return self.n_counted / self.seconds / self.share


@dataclass(frozen=True, slots=True)
class Workers:
    """What the cluster has."""

    n_workers: int

    n_gpus: int

    n_cores: int


@dataclass(frozen=True, slots=True)
class Requests:
    """What a run asks of its stores, by kind, as ``run.json`` counts it."""

    source: Counter[str]

    destination: Counter[str]

    checks: Counter[str]
    """Of the check before the start, and for the model: of whichever store."""

    afterwards: Counter[str]
    """For the mark and the report: ``run.json`` is written by then."""

    on_s3: frozenset[str]
    """Which of the first two are on S3."""

    @property
    def until_stored(self) -> Counter[str]:
        """All until the last row is stored."""
        return self.source + self.destination + self.checks

    @property
    def of_s3(self) -> Counter[str]:
        """All that S3 answers, the mark and the report included."""
        ends = {"source": self.source, "destination": self.destination + self.afterwards}
        found = sum((ends[end] for end in self.on_s3), Counter[str]())
        return found + self.checks if self.on_s3 else found


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What a run is going to take."""

    identity: Mapping[str, Any]
    """Of which run: its source, what narrows it, and what decides its predictions."""

    model: str

    compiled: str

    listed: Images

    to_do: Images
    """What of it is still to be scored."""

    n_parts: int
    """That are to be written."""

    sample: Sample

    workers: Workers

    failures: Failures

    duration: Duration

    requests: Requests

    bill: Bill

    verdict: Verdict

    limits: Sequence[Limit]

    notes: Sequence[str]
    """What was not planned, in words."""

    @property
    def hours(self) -> dict[str, Estimate]:
        """Hours of GPUs, cores and workers, by the names of their prices."""
        return hours_of(self.duration, self.workers)

    def told(self) -> dict[str, Any]:
        """Return it for machines. It carries no secret."""
        return {
            "version": VERSION,
            "for": dict(self.identity),
            "model": self.model,
            "compiled": self.compiled,
            "listed": _images(self.listed),
            "to_do": _images(self.to_do) | {"n_parts": self.n_parts},
            "sample": _sample(self.sample) | {"images_per_s": round(self.sample.images_per_s, 3)},
            "workers": asdict(self.workers),
            "failures": _failures(self.failures),
            "seconds": _seconds(self.duration),
            "hours": {name: asdict(hours) for name, hours in self.hours.items()},
            "requests": _requests(self.requests),
            "cost": _bill(self.bill),
            "verdict": {"sentence": str(self.verdict)} | asdict(self.verdict),
            "sensible_workers": {
                "sentence": workers_sentence(self.limits),
                "limits": [asdict(limit) for limit in self.limits],
            },
            "not_planned": list(self.notes),
        }


def hours_of(duration: Duration, workers: Workers) -> dict[str, Estimate]:
    """Return the hours of GPUs, cores and workers that a run keeps, by the names of their prices."""
    hours = duration.total_s * (1 / 3600)
    n_units = {"gpu-hour": workers.n_gpus, "core-hour": workers.n_cores, "worker-hour": workers.n_workers}
    return {name: hours * n for name, n in n_units.items()}


def _sample(sample: Sample) -> dict[str, Any]:
    plain = asdict(replace(sample, formats=Counter()))  # asdict copies a Counter as if it were made of pairs
    return plain | {"formats": dict(sample.formats)}


def _images(images: Images) -> dict[str, Any]:
    plain = asdict(replace(images, suffixes=Counter(), schemes=Counter()))
    return plain | {"suffixes": dict(images.suffixes), "schemes": dict(images.schemes)}


def _failures(failures: Failures) -> dict[str, Any]:
    shares = failures.by_stage | {"all": failures.share}
    reasons = failures.reasons.most_common()
    return {
        "method": "Wilson's 95 % interval",
        "n_sample": failures.n_sample,
        "n_before": failures.n_before,
        "n_images": {stage: asdict(failures.expected(share)) for stage, share in shares.items()},
        "of_sample": [{"stage": stage, "reason": reason, "n_images": count} for (stage, reason), count in reasons],
    }


def _seconds(duration: Duration) -> dict[str, Any]:
    return asdict(duration.total_s) | {
        "method": "t prediction interval over groups of the sample's batches",
        "start_up": duration.start_up_s,
        "steady": asdict(duration.steady_s),
        "tail": duration.tail_s,
    }


def _requests(requests: Requests) -> dict[str, Any]:
    counts = {name: dict(getattr(requests, name)) for name in ("source", "destination", "checks", "afterwards")}
    return counts | {"until_stored": dict(requests.until_stored), "of_s3": dict(requests.of_s3)}


def _bill(bill: Bill) -> dict[str, Any]:
    items = {
        item.kind.name: {"amount": asdict(item.amount), "price": item.price, "cost": asdict(item.cost)}
        for item in bill.items
    }
    return {"total": asdict(bill.total) if items else None, "items": items, "not_priced": list(bill.unpriced)}
