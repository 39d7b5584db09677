"""What ``run.json`` tells of a run: where its numbers come from. Pure, but for the versions of what is installed."""

import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from pipeline.config import RunConfig
from pipeline.engine.plan import PlanTotals
from pipeline.evaluation.metrics import Share
from pipeline.fingerprint import fingerprint, ingredients
from pipeline.records import ModelSpec, Tally
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


class Stopwatch:
    """Splits one command's time into laps, in seconds."""

    def __init__(self) -> None:
        self.started_at = _now().isoformat(timespec="seconds")
        self.timings_s: dict[str, float] = {}
        self._started = self._lap_started = time.monotonic()

    def lap(self, name: str) -> None:
        """End a lap; one that goes on for longer after all takes up the time since."""
        now = time.monotonic()
        self.timings_s[name] = self.timings_s.get(name, 0.0) + now - self._lap_started
        self._lap_started = now

    @property
    def total_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started


def new_run_id() -> str:
    """Return a name that sorts by time and that no other run has."""
    return f"{_now():%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"


def begin(run_id: str, config: RunConfig, source: str, spec: ModelSpec) -> dict[str, Any]:
    """Return what is known of a run before its first image. It carries no secret."""
    return {
        "run_id": run_id,
        "started_at": _now().isoformat(timespec="seconds"),
        "source": redact(source),
        "config": {name: redact(value) if isinstance(value, str) else value for name, value in asdict(config).items()},
        "fingerprint": fingerprint(spec),
        "fingerprint_of": ingredients(spec),
        "versions": versions(),
    }


@dataclass(frozen=True, slots=True)
class Session:
    """One command's share of a run, which may take several."""

    session_id: str
    started_at: str
    n_scored: int
    timings_s: Mapping[str, float]
    requests: Mapping[str, int]
    """What was asked of the stores by this command and its workers, by kind."""
    compiled: str = ""
    """Whether the model was compiled, and why."""


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
        "accuracy": {
            "top1": _share(Share(tally.n_correct, tally.n_truth)),
            "top5": _share(Share(tally.n_correct_top5, tally.n_truth)),
            "breed": _share(Share(tally.n_correct_breed, tally.n_breed_truth)),
        },
        "timings_s": sessions[-1]["timings_s"],
        "requests": dict(sum((Counter(past["requests"]) for past in sessions), Counter())),
        "sessions": sessions,
    }


def _now() -> datetime:
    return datetime.now(UTC)


def _session(session: Session) -> dict[str, Any]:
    timings_s = {name: round(seconds, 3) for name, seconds in session.timings_s.items()}
    timings_s["total"] = round(sum(session.timings_s.values()), 3)
    # asdict copies a Counter as if it were made of pairs
    return asdict(replace(session, requests=dict(session.requests))) | {"timings_s": timings_s}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run does."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _share(share: Share) -> dict[str, Any]:
    return {"n": share.n, "n_hits": share.n_hits, "value": share.value, "interval_95": list(share.interval)}
