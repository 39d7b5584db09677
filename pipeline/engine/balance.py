"""Whether images are decoded beside the model only, in a cluster of which only some workers have it.

Beside the model costs no network. Everywhere lifts the throughput, for 12 MB of pixels a batch, as long as the models
wait for images: so it is done exactly then.
"""

from collections import deque
from collections.abc import Mapping
from typing import TypeAlias

BUSY = 0.9
"""A model that computes for this share of the time does not starve."""

LastAnswer: TypeAlias = tuple[float, float]
"""When a model answered last, by its process's monotonic clock, and the seconds that it has computed until then."""

_N_SAMPLES = 8


class Balance:
    """Follows how busy the models are, by what their workers tell with their heartbeats."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[LastAnswer]] = {}

    def look(self, told: Mapping[str, LastAnswer | None]) -> None:
        """Take note of what the workers that have a model told last, by their addresses; None is nothing yet."""
        self._samples = {worker: self._samples.get(worker, deque(maxlen=_N_SAMPLES)) for worker in told}
        for worker, answer in told.items():
            samples = self._samples[worker]
            if answer is not None and (not samples or answer[0] > samples[-1][0]):
                samples.append(answer)

    @property
    def n_models(self) -> int:
        """Workers that have one."""
        return len(self._samples)

    def is_starving(self) -> bool:
        """Return whether the models wait for images; so they do until the contrary is known of each."""
        if not all(len(samples) > 1 for samples in self._samples.values()):
            return True
        ends = [(samples[0], samples[-1]) for samples in self._samples.values()]
        spans_s = sum(last[0] - first[0] for first, last in ends)
        return sum(last[1] - first[1] for first, last in ends) < BUSY * spans_s
