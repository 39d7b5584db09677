"""Where the images of the next part are decoded, in a cluster of which only some workers have the model.

Beside the model costs no network. Everywhere lifts the throughput, for 12 MB of pixels a batch, as long as the models
wait for images: so it is done exactly then.
"""

from collections import deque

from pipeline.records import Receipt

BUSY = 0.9
"""A model that computes for this share of the time does not starve."""

_N_RECEIPTS = 8


class Balance:
    """Follows how busy the models are, by the latest receipts."""

    def __init__(self) -> None:
        self._latest: deque[tuple[float, float]] = deque(maxlen=_N_RECEIPTS)

    def committed(self, receipt: Receipt, now_s: float) -> None:
        """Take note of a part that was committed."""
        self._latest.append((now_s, receipt.spent_s.get("infer", 0.0)))

    def is_starving(self, n_models: int) -> bool:
        """Return whether so many models wait for images; so they do until the contrary is known."""
        if len(self._latest) < 2:
            return True
        span_s = self._latest[-1][0] - self._latest[0][0]
        infer_s = sum(seconds for _, seconds in self._latest) - self._latest[0][1]
        return infer_s < BUSY * span_s * n_models
