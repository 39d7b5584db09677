"""What ``run.json`` tells of a run: where its numbers come from. Pure, but for the versions of what is installed."""

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from pipeline.config import RunConfig
from pipeline.engine.account import Account
from pipeline.engine.plan import PlanTotals
from pipeline.evaluation.metrics import Share
from pipeline.evaluation.trials import Trial, Tuning
from pipeline.evaluation.verdict import Usage, Verdict, verdict_of
from pipeline.records import ModelSpec, Tally, WorkerFacts
from pipeline.running.fingerprint import fingerprint, ingredients
from pipeline.stages.outcomes import BY_PATH
from pipeline.storage import redact

_PACKAGES = (
    "dask-image-inference",
    "dask",
    "distributed",
    "torch",
    "torchvision",
    "pillow",
    "s3fs",
    "fsspec",
    "pyarrow",
    "numpy",
)

TUNING = "tune"
"""The lap that is no part of the run itself, and does not count as its start."""


class Stopwatch:
    """Splits one command's time into laps, in seconds."""

    def __init__(self) -> None:
        self.started_at = _now().isoformat(timespec="seconds")
        self.timings_s: dict[str, float] = {}
        self.started = self._lap_started = time.monotonic()

    def lap(self, name: str) -> None:
        """End a lap; one that goes on for longer after all takes up the time since."""
        now = time.monotonic()
        self.timings_s[name] = self.timings_s.get(name, 0.0) + now - self._lap_started
        self._lap_started = now

    @property
    def total_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.started


def new_run_id() -> str:
    """Return a name that sorts by time and that no other run has."""
    return f"{_now():%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"


def begin(run_id: str, config: RunConfig, source: str, spec: ModelSpec, labels: str = BY_PATH) -> dict[str, Any]:
    """Return what is known of a run before its first image. It carries no secret."""
    return {
        "run_id": run_id,
        "started_at": _now().isoformat(timespec="seconds"),
        "source": redact(source),
        "config": told_config(config),
        "labels": labels,
        "fingerprint": fingerprint(spec),
        "fingerprint_of": ingredients(spec),
        "versions": versions(),
    }


def told_config(config: RunConfig) -> dict[str, Any]:
    """Return settings as they may be stored and shown: without secrets."""
    return {name: redact(value) if isinstance(value, str) else value for name, value in asdict(config).items()}


@dataclass(frozen=True, slots=True)
class Session:
    """One command's share of a run, which may take several."""

    session_id: str
    started_at: str
    n_scored: int
    timings_s: Mapping[str, float]
    requests: Mapping[str, int]
    """What was asked of the stores by this command and its workers, by kind."""
    verdict: Verdict | None
    """What bounded it; None where nothing was left to score."""

    spent_s: Mapping[str, float]
    """What its workers spent, by `pipeline.engine.spending.Activity`."""

    compiled: str
    """Whether the model was compiled, and why."""

    tuning: Tuning | None = None
    """What was tried before; None where it was not asked for."""

    planned: Mapping[str, Any] | None = None
    """What a plan had said beside what came of it; None where none was given."""


def conclude(record: Mapping[str, Any], totals: PlanTotals, tally: Tally, session: Session) -> dict[str, Any]:
    """Return what is known of a run after its last image; earlier commands that ended early have told nothing."""
    sessions = [*record.get("sessions", ()), _session(session)]
    return dict(record) | {
        "counts": {
            "n_images": totals.n_images,
            "n_parts": totals.n_parts,
            "n_ok": tally.n_ok,
            "n_failed": tally.n_failed,
            "failures": [
                {"stage": stage, "reason": reason, "n_images": count}
                for (stage, reason), count in tally.failures.most_common()
            ],
        },
        "accuracy": told_accuracy(tally),
        "timings_s": sessions[-1]["timings_s"],
        "requests": dict(sum((Counter(past["requests"]) for past in sessions), Counter())),
        "sessions": sessions,
    }


def told_accuracy(tally: Tally) -> dict[str, Any]:
    """Return how good a run's answers are."""
    return {
        "top1": _share(Share(tally.n_correct, tally.n_truth)),
        "top5": _share(Share(tally.n_correct_top5, tally.n_truth)),
        "breed": _share(Share(tally.n_correct_breed, tally.n_breed_truth)),
    }


def _now() -> datetime:
    return datetime.now(UTC)


def _session(session: Session) -> dict[str, Any]:
    timings_s = _rounded(session.timings_s)
    timings_s["total"] = round(sum(session.timings_s.values()), 3)
    # asdict copies a Counter as if it were made of pairs
    told = asdict(replace(session, requests=dict(session.requests), spent_s=_rounded(session.spent_s), tuning=None))
    verdict = {"sentence": str(session.verdict)} | told["verdict"] if session.verdict else None
    tuning = _tuning(session.tuning) if session.tuning else None
    return told | {"timings_s": timings_s, "tuning": tuning, "verdict": verdict}


def _tuning(tuning: Tuning) -> dict[str, Any]:
    trials = [_trial(trial) for trial in tuning.trials]
    return {"sentence": str(tuning), "chosen": asdict(tuning.best), "trials": trials}


def _trial(trial: Trial) -> dict[str, Any]:
    rate = round(trial.images_per_s, 2) if trial.fault is None else None
    return asdict(trial.setting) | {"images_per_s": rate, "n_images": trial.n_images, "fault": trial.fault}


def told_session(
    run_id: str,
    stopwatch: Stopwatch,
    account: Account,
    workers: Sequence[WorkerFacts],
    compiled: str,
    tuning: Tuning | None = None,
) -> Session:
    """Return this command's share of a run as it stands now."""
    return Session(
        session_id=run_id,
        started_at=stopwatch.started_at,
        n_scored=account.n_scored,
        timings_s=dict(stopwatch.timings_s),
        requests=account.requests.copy(),
        spent_s=dict(account.spent_s),
        verdict=_judged(account, workers, stopwatch.started + stopwatch.timings_s.get(TUNING, 0.0)),
        compiled=compiled,
        tuning=tuning,
    )


def _judged(account: Account, workers: Sequence[WorkerFacts], started: float) -> Verdict | None:
    """Return what bounded a session that began at this time of the monotonic clock, had it not been tuned first.

    What the workers spent is known for all images; the share of those that came after the first batch is counted.
    """
    if account.first_batch is None or account.last_commit is None or not workers:
        return None
    later = 1 - account.n_first / account.n_scored
    cores = {worker.host: worker.n_cores for worker in workers}
    usage = Usage(
        start_s=account.first_batch - started,
        steady_s=max(0.0, account.last_commit - account.first_batch),
        listing_s=account.listing_s,
        n_workers=len(workers),
        n_models=sum(worker.has_model for worker in workers),
        n_slots=sum(worker.n_slots for worker in workers),
        n_cores=sum(cores.values()),
        spent_s={activity: seconds * later for activity, seconds in account.spent_s.items()},
    )
    return verdict_of(usage)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run does."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _share(share: Share) -> dict[str, Any]:
    return {"n": share.n, "n_hits": share.n_hits, "value": share.value, "interval_95": list(share.interval)}
