"""What bounded a run, and what would lift it. Pure.

Bottleneck analysis by the utilisation law (Lazowska et al., Quantitative System Performance, 1984, chapters 3 and 5):
each resource is busy for a share of the time; the busiest bounds the throughput; with more of it the throughput grows
until the next busiest does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["start-up", "listing", "read", "decode", "inference", "commit"]

_BUSY = 0.85
"""From here on a model counts as busy throughout: there are gaps between batches, and a last one to wait for."""

_MOST = 2.0
"""A prediction goes no further than twice the throughput: beyond, limits come up that this run did not show."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run had between its first classified batch and its last commit, and what was used of it."""

    start_s: float
    """Seconds before the first batch was classified."""

    steady_s: float
    """Seconds from then to the last commit."""

    listing_s: float
    """Of those, the seconds in which workers had nothing to do because the listing had not come far enough."""

    n_workers: int
    """Worker processes; each reads with connections of its own."""

    n_models: int
    """Inference threads: one for each worker that has a model."""

    n_slots: int
    """Tasks that all workers together run at a time."""

    n_cores: int
    """Cores that the workers may use."""

    spent_s: Mapping[str, float]
    """Seconds of all workers by `pipeline.engine.spending.Activity`, and their processors' as ``cpu``."""

    @property
    def loads(self) -> dict[str, float]:
        """Share of the steady time, in [0, 1], for which each resource was busy."""
        spent = self.spent_s
        held_s = _feeding_s(spent) + min(spent.get("wait", 0.0), spent.get("infer", 0.0))
        busy = {
            "model": spent.get("infer", 0.0) / max(1, self.n_models),
            "slots": held_s / max(1, self.n_slots),
            "cores": spent.get("cpu", 0.0) / max(1, self.n_cores),
            "listing": self.listing_s,
        }
        return {name: min(1.0, seconds / self.steady_s) if self.steady_s else 0.0 for name, seconds in busy.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence on a run's speed, and the figures behind it."""

    bound_by: Stage
    lever: str
    """What to have more of, in words."""

    gain: float
    """Throughput with it, as a multiple of this run's; 1 where more would not help."""

    loads: Mapping[str, float]

    def __str__(self) -> str:
        loads = self.loads
        if not any(loads.values()):  # it was over with its first batch: there was no steady time
            return f"{self.bound_by}-bound: it was over with its first batch; {self.lever} {self._outlook}"
        seen = f"the model was busy {loads['model']:.0%} of the time, the cores {loads['cores']:.0%}"
        if self.bound_by == "listing":
            seen += f", {loads['listing']:.0%} of it went by waiting for the listing"
        return f"{self.bound_by}-bound: {seen}; {self.lever} {self._outlook}"

    @property
    def _outlook(self) -> str:
        return f"would give about {self.gain:.1f} ×" if self.gain >= 1.05 else "would give hardly more"


def verdict_of(usage: Usage) -> Verdict:
    """Return what bounded a run."""
    loads = usage.loads
    busiest = max(loads, key=lambda name: loads[name])
    if usage.start_s > usage.steady_s:
        whole_s = usage.start_s + usage.steady_s
        return Verdict("start-up", "twice the images", 2 * whole_s / (whole_s + usage.steady_s), loads)
    if loads["model"] >= _BUSY or busiest == "model":
        return _inference_bound(usage)
    if busiest == "listing":
        return Verdict("listing", "a listing twice as fast", _until_next(_MOST, loads, "listing"), loads)
    # Tasks that compete for cores fill their slots as well.
    return _feeding_bound(usage, "cores" if loads["cores"] >= _BUSY else busiest)


def _inference_bound(usage: Usage) -> Verdict:
    loads, n_models = usage.loads, max(1, usage.n_models)
    if loads["cores"] >= _BUSY:  # it computes on them: another process would only share them
        gain = _until_next(_MOST, loads, "model", "cores", "slots")
        return Verdict("inference", "as many cores again", gain, loads)
    gain = _until_next((n_models + 1) / n_models, loads, "model", "slots")
    return Verdict("inference", "one more worker with a model", gain, loads)


def _feeding_bound(usage: Usage, busiest: str) -> Verdict:
    """Judge a run whose model waited for images: because of what takes longest in the task slots."""
    spent, loads = usage.spent_s, usage.loads
    longest: Stage = max(("read", "decode", "commit"), key=lambda name: spent.get(name, 0.0))
    if longest == "commit":
        feeding_s = _feeding_s(spent)
        gain = _until_next(feeding_s / (feeding_s - spent["commit"] / 2), loads, "slots")
        return Verdict("commit", "twice the --batches-per-part", gain, loads)
    if longest == "read" and busiest != "cores":
        gain = _until_next((usage.n_workers + 1) / usage.n_workers, loads, "slots")
        return Verdict("read", "one more worker", gain, loads)
    lifted = ("cores", "slots") if busiest == "cores" else ("slots",)
    unit, n_had = ("core", usage.n_cores) if busiest == "cores" else ("thread", usage.n_slots)
    n_more = max(1, math.ceil(n_had * (_until_next(_MOST, loads, *lifted) - 1)))
    gain = _until_next((n_had + n_more) / n_had, loads, *lifted)
    return Verdict(longest, f"{n_more:,} more {unit}{'s' * (n_more > 1)}", gain, loads)


def _until_next(factor: float, loads: Mapping[str, float], lifted: str, *along: str) -> float:
    """Return the throughput with `factor` times as much of what is lifted, and of what comes along: until the next."""
    next_load = max(load for name, load in loads.items() if name not in (lifted, *along))
    return factor if next_load * factor <= loads[lifted] else max(1.0, loads[lifted] / next_load)


def _feeding_s(spent_s: Mapping[str, float]) -> float:
    return sum(spent_s.get(name, 0.0) for name in ("read", "decode", "commit"))
