"""What a driver's session had to work with, and where its time went: the figures behind the verdict."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.records import Receipt, WorkerFacts


@dataclass
class Account:
    """Adds up what receipts tell and what the driver sees; all times are this process's monotonic clock's."""

    first_batch: float | None = None
    """When the first batch was classified."""

    last_commit: float | None = None
    n_scored: int = 0
    n_first: int = 0
    """Images of the first batch: what was done for them was done before there was a steady state."""

    listing_s: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    """What the workers asked of their stores, by kind, as far as they have told."""

    spent_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """What the workers spent, in seconds by activity, as far as they have told."""

    def classified(self, n_images: int) -> None:
        """Take note of a batch that was classified."""
        if self.first_batch is None:
            self.first_batch, self.n_first = time.monotonic(), n_images
        self.n_scored += n_images

    def committed(self, receipt: Receipt) -> None:
        """Take note of a part that was committed."""
        self.last_commit = time.monotonic()
        self._add(receipt)

    def ended(self, workers: Iterable[WorkerFacts]) -> None:
        """Take note of what the workers did that no receipt told of: some never commit."""
        for worker in workers:
            self._add(worker)

    def starved(self, seconds: float) -> None:
        """Take note that workers had nothing to do because the listing had not come far enough."""
        if self.first_batch is not None:
            self.listing_s += seconds

    def _add(self, told: Receipt | WorkerFacts) -> None:
        self.requests.update(told.requests)
        for activity, seconds in told.spent_s.items():
            self.spent_s[activity] += seconds
