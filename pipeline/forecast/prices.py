"""What a run is going to cost, at prices that somebody gives: none is built in, since all of them change. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.forecast.estimate import Estimate

GB = 1e9
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that may have a price."""

    name: str
    """Of the option, without ``--price-``."""

    unit: str
    """What is paid for, by the one or by the thousand; for people."""

    what: str
    """The same without a number, for people."""

    help: str


KINDS = (
    Kind("gpu-hour", "GPU-hours", "GPUs", "One GPU for an hour."),
    Kind("core-hour", "core-hours", "cores", "One core of a worker's machine for an hour."),
    Kind("worker-hour", "worker-hours", "workers", "One worker for an hour."),
    Kind("per-1000-get", "thousand GETs", "GETs", "1,000 requests of S3's GET and HEAD."),
    Kind("per-1000-put", "thousand PUTs", "PUTs", "1,000 requests of S3's PUT."),
    Kind("per-1000-list", "thousand LISTs", "LISTs", "1,000 requests of S3's LIST."),
    Kind("per-gb", "GB read", "GB read", "1,000,000,000 bytes read from SOURCE."),
)

HOURS = ("gpu-hour", "core-hour", "worker-hour")
"""Different ways to pay for the same: one of them is enough."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that has its price."""

    kind: Kind

    amount: Estimate

    price: float
    """Of one unit."""

    @property
    def cost(self) -> Estimate:
        """In the currency of the price."""
        return self.amount * self.price


@dataclass(frozen=True, slots=True)
class Bill:
    """What was priced, and what was not."""

    items: Sequence[Item]

    unpriced: Sequence[str] = field(default=())
    """What is going to be used and has no price, in words."""

    idle: Sequence[str] = field(default=())
    """What has a price and is not going to be used, in words."""

    @property
    def total(self) -> Estimate:
        """Of all items, in the currency of the prices."""
        return sum((item.cost for item in self.items), Estimate.exact(0.0))


def bill_of(amounts: Mapping[str, Estimate], prices: Mapping[str, float]) -> Bill:
    """Return the bill for amounts, each by the name of its kind; a kind without an amount is not used.

    >>> bill = bill_of({"core-hour": Estimate(2.0, 1.5, 3.0), "per-gb": Estimate.exact(4.0)}, {"core-hour": 0.05})
    >>> print(bill.total, bill.unpriced)
    0.10 (0.08-0.15) ['GB read']
    """
    used = [kind for kind in KINDS if kind.name in amounts and amounts[kind.name].high > 0]
    items = [Item(kind, amounts[kind.name], prices[kind.name]) for kind in used if kind.name in prices]
    is_time_priced = any(item.kind.name in HOURS for item in items)
    most_telling = next((kind for kind in used if kind.name in HOURS), None)
    left = [kind for kind in used if kind.name not in prices and (kind.name not in HOURS or kind is most_telling)]
    idle = [kind.what for kind in KINDS if kind.name in prices and kind not in used]
    return Bill(items, [kind.what for kind in left if kind.name not in HOURS or not is_time_priced], idle)
