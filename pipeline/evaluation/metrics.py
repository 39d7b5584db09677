"""Shares with the interval that they deserve. Pure."""

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of counts, such as an accuracy, with its 95 % interval."""

    n_hits: int

    n: int

    @property
    def value(self) -> float | None:
        """In [0, 1]; None where there is nothing to take a share of."""
        return self.n_hits / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953); (0, 1) for n = 0.

        >>> low, high = Share(561, 720).interval
        >>> f"{low:.3f} {high:.3f}"
        '0.747 0.808'
        """
        if not self.n:
            return 0.0, 1.0
        p, z2 = self.n_hits / self.n, Z_95 * Z_95
        centre = (p + z2 / (2 * self.n)) / (1 + z2 / self.n)
        margin = Z_95 / (1 + z2 / self.n) * math.sqrt(p * (1 - p) / self.n + z2 / (4 * self.n * self.n))
        # The formula's own ends, exactly: rounding would leave 2.8e-17 for none of seven.
        return 0.0 if self.n_hits == 0 else centre - margin, 1.0 if self.n_hits == self.n else centre + margin

    def __str__(self) -> str:
        if self.value is None:
            return "unknown: no image with a known truth was classified"
        low, high = self.interval
        return f"{self.value:.1%}  (95 % interval {low:.1%} to {high:.1%}; {self.n_hits:,} of {self.n:,})"
