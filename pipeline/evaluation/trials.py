"""Which settings are the fastest, as trials show. Pure: it is told how to measure.

Coordinate descent: one setting after another is varied, beginning each time with the best that was found so far.
Measurements are noisy, so what is to replace the best has to be clearly faster.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

MIN_GAIN = 0.05
"""A setting is taken only where it is faster by this share."""

Tunable: TypeAlias = Literal["threads_per_worker", "images_per_task", "device_batch"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides a run's speed and nothing else; None is whatever there is.

    >>> print(Setting(threads_per_worker=3, images_per_task=80))
    3 threads per worker, 80 images a task
    """

    threads_per_worker: int | None = None
    """Task slots of each local worker."""

    images_per_task: int | None = None
    """Images read and decoded by one task; None is a whole batch."""

    device_batch: int | None = None
    """Images per forward pass on a CPU."""

    def words(self) -> dict[str, str]:
        """Return what is set, in words for people, by name."""
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: _WORDS[name].format(value) for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(self.words().values())


_WORDS = {
    "threads_per_worker": "{} threads per worker",
    "images_per_task": "{} images a task",
    "device_batch": "device batch {}",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """How fast a setting was in steady state."""

    setting: Setting

    n_images: int = 0
    """Images that were counted."""

    steady_s: float = math.inf
    """Seconds that they took."""

    fault: str | None = None
    """Why there is no figure, in one line; None where there is one."""

    @property
    def images_per_s(self) -> float:
        """Images per second; 0 where there is no figure."""
        return self.n_images / self.steady_s


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tried, and what came of it."""

    trials: Sequence[Trial]
    """In the order of their making; the first is of the settings as they would have been. At least one."""

    wall_s: float
    """Seconds that it took, opening and closing of clusters included."""

    requests: Counter[str] = field(default_factory=Counter)
    """What workers asked of their stores for it, by kind."""

    @property
    def best(self) -> Setting:
        """What was chosen."""
        return fastest(self.trials).setting

    def __str__(self) -> str:
        gains = gains_of(self.trials)
        chosen = [text + _gain(gains.get(name)) for name, text in self.best.words().items()]
        n_trials = f"{len(self.trials)} trial{'s' * (len(self.trials) > 1)} in {self.wall_s:.0f} s"
        faults = [trial.fault for trial in self.trials if trial.fault is not None]
        failed = f", {len(faults)} failed ({faults[0]})" if faults else ""
        return f"{', '.join(chosen)}; {n_trials}{failed}"


def candidates(name: Tunable, value: int, batch_size: int) -> tuple[int, ...]:
    """Return the values to try beside the one that there is.

    >>> candidates("threads_per_worker", 3, 80), candidates("images_per_task", 80, 80)
    ((5, 6), (20,))
    >>> candidates("device_batch", 16, 80)
    (8, 32)
    """
    tried = {
        "threads_per_worker": (math.ceil(1.5 * value), 2 * value),
        "images_per_task": (math.ceil(value / 4),),
        "device_batch": tuple(size for size in (value // 2, 2 * value) if 0 < size <= batch_size),
    }[name]
    return tuple(other for other in dict.fromkeys(tried) if other != value)


def descend(
    start: Setting, tuned: Sequence[Tunable], batch_size: int, measure: Callable[[Setting], Trial]
) -> list[Trial]:
    """Return the trials of a setting and of what might be better; where the first fails there are no others.

    Parameters
    ----------
    start
        Has a value for everything that is tuned.
    tuned
        What is varied, in this order.
    batch_size
        Images in one stack.
    measure
        Makes one trial.
    """
    trials = [measure(start)]
    if trials[0].fault is not None:
        return trials
    for name in tuned:
        best = fastest(trials).setting
        values = candidates(name, getattr(best, name), batch_size)
        trials += [measure(replace(best, **{name: value})) for value in values]
    return trials


def fastest(trials: Sequence[Trial]) -> Trial:
    """Return the first trial, or the last of those after it that were faster by `MIN_GAIN` than the best before."""
    best, *others = trials
    for trial in others:
        if _is_better(trial, best):
            best = trial
    return best


def gains_of(trials: Sequence[Trial]) -> Mapping[str, float]:
    """Return by what factor each setting that was changed made it faster, by the setting's name."""
    best, *others = trials
    gains: dict[str, float] = {}
    for trial in others:
        if _is_better(trial, best):
            (name,) = (name for name in _WORDS if getattr(trial.setting, name) != getattr(best.setting, name))
            gains[name] = gains.get(name, 1.0) * trial.images_per_s / best.images_per_s
            best = trial
    return gains


def _is_better(trial: Trial, best: Trial) -> bool:
    return trial.images_per_s >= (1 + MIN_GAIN) * best.images_per_s and trial.fault is None


def _gain(factor: float | None) -> str:
    return "" if factor is None else f" (+{factor - 1:.0%})".replace("%", " %")
