"""What ``run.json`` tells of a run: where its numbers come from. Pure, but for the versions of what is installed."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

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


def begin(run_id: str, config: RunConfig, spec: ModelSpec, started_at: str) -> dict[str, Any]:
    """Return what is known of a run before its first image. It carries no secret."""
    return {
        "run_id": run_id,
        "started_at": started_at,
        "config": {name: redact(value) if isinstance(value, str) else value for name, value in asdict(config).items()},
        "fingerprint": fingerprint(spec),
        "fingerprint_of": ingredients(spec),
        "versions": versions(),
    }


def conclude(totals: PlanTotals, tally: Tally, timings_s: Mapping[str, float]) -> dict[str, Any]:
    """Return what is known of a run after its last image."""
    return {
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
        "timings_s": {name: round(seconds, 3) for name, seconds in timings_s.items()}
        | {"total": round(sum(timings_s.values()), 3)},
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run does."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _share(share: Share) -> dict[str, Any]:
    return {"n": share.n, "n_hits": share.n_hits, "value": share.value, "interval_95": list(share.interval)}
