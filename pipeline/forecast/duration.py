"""How long a run is going to take: its start, its steady state, its end. Pure.

The range is the spread of the sample's batches (method of batch means; Law, Simulation Modeling and Analysis, chapter
9): batches that follow each other are grouped, since neighbours are not independent. It holds as long as the machines
go on as they did; a start that was measured once has no spread.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.forecast.estimate import Estimate, Spread, spread_of

_LEAST_GROUPS = 2
_MOST_GROUPS = 10


@dataclass(frozen=True, slots=True)
class Tempo:
    """How fast a sample went through, in steady state."""

    seconds: Spread
    """Of one image, over groups of batches."""

    group_size: float
    """Images of a group."""

    def seconds_of(self, n_images: int) -> Estimate:
        """Return what so many images are going to take."""
        return n_images * self.seconds.mean_of_next(n_images / self.group_size)


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds of a run, as its line ``took`` counts them."""

    start_up_s: float
    """Until the model is there."""

    steady_s: Estimate
    """While all workers have something to do."""

    tail_s: float
    """While some have nothing left to do, and the end."""

    @property
    def total_s(self) -> Estimate:
        """All of it."""
        return self.steady_s + Estimate.exact(self.start_up_s + self.tail_s)


def tempo_of(ends_s: Sequence[float], batch_size: int, n_slots: int) -> Tempo:
    """Return the tempo of a sample.

    Parameters
    ----------
    ends_s
        Seconds from the beginning to the end of each batch, ascending; at least two batches.
    batch_size
        Images of each batch.
    n_slots
        Tasks at a time: so many batches may end at once, and belong together. The groups are whole rounds of them.
    """
    n_batches = len(ends_s)
    n_groups = max(_LEAST_GROUPS, min(_MOST_GROUPS, n_batches // n_slots))
    limits = [n_batches * i // n_groups for i in range(n_groups + 1)]
    moments = [0.0, *ends_s]
    seconds = [(moments[end] - moments[begin]) / (end - begin) / batch_size for begin, end in pairwise(limits)]
    mean = ends_s[-1] / (n_batches * batch_size)
    return Tempo(spread_of(seconds, mean), n_batches * batch_size / n_groups)


def last_round_s(n_images: int, batch_size: int, n_servers: int, image_s: float) -> float:
    """Return the seconds for which some servers have nothing to do any more, beyond an even share for each.

    Parameters
    ----------
    n_servers
        What batches wait for: models, or task slots.
    image_s
        Seconds of one image, all servers busy.

    >>> last_round_s(160, 80, 4, 0.1)  # two of four have a batch of 80, for 4 × 80 × 0.1 s
    16.0
    """
    n_before = math.ceil(n_images / batch_size) - 1
    n_full_rounds, n_in_last = divmod(n_before, n_servers)
    largest = batch_size if n_in_last else min(batch_size, n_images - n_before * batch_size)
    return image_s * max(0, (n_full_rounds * batch_size + largest) * n_servers - n_images)
