"""Which classes are taken for which. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images of one class that were taken for another."""

    truth: int
    """Class index."""

    answer: int
    """Class index."""

    n: int

    n_truth: int
    """Images of the true class, however they were answered."""


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """Counts of every pair of truth and answer."""

    classes: tuple[int, ...]
    """The K class indices that occur, ascending."""

    counts: NDArray[np.int64]
    """(K, K): row *i*, column *j* is how many images of class *i* were answered with class *j*."""


def confusion_matrix(truth: NDArray[np.int64], answer: NDArray[np.int64]) -> ConfusionMatrix:
    """Return how often each class that occurs was answered with each.

    Parameters
    ----------
    truth, answer
        (N,) class indices; N may be 0.
    """
    classes, codes = np.unique(np.concatenate([truth, answer]), return_inverse=True)
    k = len(classes)
    counts = np.bincount(codes[: len(truth)] * k + codes[len(truth) :], minlength=k * k)
    return ConfusionMatrix(tuple(classes.tolist()), counts.reshape(k, k))


def most_confused(matrix: ConfusionMatrix, n: int) -> list[Confusion]:
    """Return the `n` most frequent confusions, the most frequent first, ties by the order of the classes."""
    wrong = matrix.counts.copy()
    np.fill_diagonal(wrong, 0)
    truths, answers = np.nonzero(wrong)
    order = np.argsort(-wrong[truths, answers], kind="stable")[:n]
    n_truth = matrix.counts.sum(axis=1)
    return [
        Confusion(matrix.classes[i], matrix.classes[j], int(wrong[i, j]), int(n_truth[i]))
        for i, j in zip(truths[order].tolist(), answers[order].tolist(), strict=True)
    ]
