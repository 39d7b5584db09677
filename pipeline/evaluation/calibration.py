"""Whether a model is as often right as it claims, and what is gained by leaving out what it is unsure of. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import Share

N_BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose confidence lies in an interval."""

    low: float
    """Exclusive, but for 0."""

    high: float
    """Inclusive."""

    accuracy: Share

    mean_confidence: float | None
    """In [0, 1]; None where there is no image."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A reliability diagram and the error that it comes to (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

    bins: tuple[Bin, ...]
    """Of equal width, ascending."""

    expected_error: float | None
    """The mean distance between accuracy and confidence, weighted by images, in [0, 1]; None without any."""

    mean_confidence: float | None
    """In [0, 1]; above the accuracy, a model is overconfident. None without any image."""


def calibration(confidence: NDArray[np.float64], is_correct: NDArray[np.bool_], n_bins: int = N_BINS) -> Calibration:
    """Return how confidence and accuracy agree, in bins of equal width.

    Parameters
    ----------
    confidence
        (N,) in [0, 1]; N may be 0.
    is_correct
        (N,)
    """
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    number = np.searchsorted(edges[1:-1], confidence)
    n = np.bincount(number, minlength=n_bins)
    n_correct = np.bincount(number[is_correct], minlength=n_bins)
    total = np.bincount(number, weights=confidence, minlength=n_bins)
    bins = tuple(
        Bin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            accuracy=Share(int(n_correct[i]), int(n[i])),
            mean_confidence=float(total[i] / n[i]) if n[i] else None,
        )
        for i in range(n_bins)
    )
    if not len(confidence):
        return Calibration(bins, None, None)
    return Calibration(bins, float(np.abs(n_correct - total).sum() / n.sum()), float(confidence.mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """What is left, and how much of it is right, if answers below a threshold are left out.

    Selective classification (Geifman and El-Yaniv 2017, https://arxiv.org/abs/1705.08500). Each array is (T,): an entry
    for each of the T confidences that occur, ascending.
    """

    threshold: NDArray[np.float64]
    """Answers at least as confident are kept."""

    n_kept: NDArray[np.int64]

    n_correct: NDArray[np.int64]
    """Of those that are kept."""

    @property
    def coverage(self) -> NDArray[np.float64]:
        """Share of the answers that are kept."""
        return np.divide(self.n_kept, max(1, self.n_kept.max(initial=0)))

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Of those that are kept."""
        return np.divide(self.n_correct, self.n_kept)

    def threshold_for(self, accuracy: float) -> float | None:
        """Return the lowest threshold that keeps answers of at least this accuracy, None where there is none.

        >>> coverage([0.9, 0.8, 0.7], [True, False, True]).threshold_for(0.9)
        0.9
        """
        (good,) = np.nonzero(self.accuracy >= accuracy)
        return float(self.threshold[good[0]]) if len(good) else None


def coverage(confidence: NDArray[np.float64], is_correct: NDArray[np.bool_]) -> Coverage:
    """Return what each threshold keeps.

    Parameters
    ----------
    confidence
        (N,) in [0, 1]; N may be 0.
    is_correct
        (N,)
    """
    confidence, is_correct = np.asarray(confidence, np.float64), np.asarray(is_correct, np.bool_)
    threshold, number = np.unique(confidence, return_inverse=True)
    n = np.bincount(number, minlength=len(threshold))
    n_correct = np.bincount(number[is_correct], minlength=len(threshold))
    return Coverage(threshold, np.cumsum(n[::-1])[::-1], np.cumsum(n_correct[::-1])[::-1])
