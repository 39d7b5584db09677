"""A number that is expected, with the range that it should lie in. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.metrics import Z_95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % range; the range contains the number.

    >>> print(2 * Estimate(52.0, 48.0, 57.0))
    104 (96-114)
    """

    expected: float

    low: float

    high: float

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """Return a number that is known."""
        return cls(value, value, value)

    def __add__(self, other: "Estimate") -> "Estimate":
        """Return the sum of two that go up and down together: its range is no narrower than theirs."""
        return Estimate(self.expected + other.expected, self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> "Estimate":
        """Return a multiple, by a factor that is not negative."""
        return Estimate(self.expected * factor, self.low * factor, self.high * factor)

    __rmul__ = __mul__

    def at_least(self, least: float) -> "Estimate":
        """Return the same where it is no less than something else lets it be."""
        return Estimate(max(self.expected, least), max(self.low, least), max(self.high, least))

    def __str__(self) -> str:
        return self.words(1.0)

    def words(self, unit: float) -> str:
        """Return it for people, in units of so many."""
        expected, low, high = (value / unit for value in (self.expected, self.low, self.high))
        digits = max(0, 1 - math.floor(math.log10(expected))) if 0 < expected < 10 else 0
        told = [f"{value:,.{digits}f}" for value in (expected, low, high)]
        return told[0] if len(set(told)) == 1 else f"{told[0]} ({told[1]}-{told[2]})"


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of a few measurements, and how much they differ."""

    mean: float

    deviation: float
    """Standard deviation of the measurements."""

    n: int
    """How many there are; at least two."""

    def mean_of_next(self, n_next: float) -> Estimate:
        """Return the mean of the next measurements, if nothing changes: the t prediction interval, never below 0.

        Hahn and Meeker, Statistical Intervals, 1991, section 4.8: the mean of the next m lies within
        t · s · sqrt(1/n + 1/m) of the mean of these n.
        """
        margin = t_95(self.n - 1) * self.deviation * math.sqrt(1 / self.n + 1 / max(n_next, 1.0))
        return Estimate(self.mean, max(0.0, self.mean - margin), self.mean + margin)


def spread_of(values: Sequence[float], mean: float) -> Spread:
    """Return the spread of measurements around their mean, which may be weighted."""
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Spread(mean, math.sqrt(variance), len(values))


def t_95(degrees: int) -> float:
    """Return the 97.5th percentile of Student's t distribution, within 1 % from two degrees of freedom on.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.

    >>> [f"{t_95(degrees):.2f}" for degrees in (4, 9, 10**6)]
    ['2.78', '2.26', '1.96']
    """
    z, z2 = Z_95, Z_95 * Z_95
    terms = (
        z * (z2 + 1) / 4,
        z * ((5 * z2 + 16) * z2 + 3) / 96,
        z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384,
        z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, 1))
