"""How many workers make sense: until a run's start takes longer than its work, or something else is full. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

_SCHEDULER_S = 59e-6
_CLIENT_S = 42e-6
_PLANNING_S = 13e-6
"""Seconds of a core for each image in batches of 80; of the client's, so much is planning, image by image.

Measured over a million images, on two cores of a Xeon at 2.5 GHz: benchmarks/README.md, "Scale".
"""

_MEASURED_BATCH = 80

_S3_READS_PER_S = 5_500
"""For each prefix, until S3 has split it: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html"""


@dataclass(frozen=True, slots=True)
class Limit:
    """From how many workers on something else is the bottleneck."""

    n_workers: float

    reason: str


@dataclass(frozen=True, slots=True)
class Load:
    """What the limits follow from."""

    n_images: int

    batch_size: int

    worker_images_per_s: float
    """Of one worker."""

    start_up_s: float

    listed_per_s: float | None
    """Images that one listing names; None where it was over too soon to tell."""

    reads_per_image: float

    is_aws: bool
    """Whether the source is on S3 itself."""


def limits_of(load: Load) -> list[Limit]:
    """Return what limits the number of workers, the least first."""
    rate, n_batches = load.worker_images_per_s, -(-load.n_images // load.batch_size)
    share = _MEASURED_BATCH / load.batch_size
    client_s = _PLANNING_S + (_CLIENT_S - _PLANNING_S) * share
    limits = [
        Limit(
            load.n_images / rate / load.start_up_s, f"the start-up of {load.start_up_s:.0f} s takes as long as the work"
        ),
        Limit(n_batches, f"each has one batch of {load.batch_size}"),
        Limit(1 / (_SCHEDULER_S * share) / rate, "the scheduler, at 59 µs an image (benchmarks/README.md, Scale)"),
        Limit(1 / client_s / rate, "the client, at 42 µs an image (benchmarks/README.md, Scale)"),
    ]
    if load.listed_per_s is not None:
        limits.append(Limit(load.listed_per_s / rate, f"the listing, at {load.listed_per_s:,.0f} keys/s as just seen"))
    if load.is_aws:
        rate_of_reads = _S3_READS_PER_S / max(load.reads_per_image, 1.0)
        limits.append(Limit(rate_of_reads / rate, "S3's 5,500 GETs/s for a prefix, unless it has split it"))
    return sorted(limits, key=lambda limit: limit.n_workers)


def workers_sentence(limits: Sequence[Limit]) -> str:
    """Return how many make sense, and what comes next, for people."""
    first, second = limits[0], limits[1]
    like = "like this, each with cores or a GPU of its own"
    return f"up to {_number(first)} {like}: then {first.reason}; next, at {_number(second)}: {second.reason}"


def _number(limit: Limit) -> str:
    return f"{max(1, int(limit.n_workers)):,}"
