"""How well each class is recognised. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import Share


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class against the rest."""

    class_index: int

    n: int
    """Images of this class."""

    n_answered: int
    """Images that were taken for it, rightly or not."""

    n_correct: int

    @property
    def recall(self) -> Share:
        """Of its images, those that were recognised: the accuracy of this class."""
        return Share(self.n_correct, self.n)

    @property
    def precision(self) -> Share:
        """Of the images that were taken for it, those that are."""
        return Share(self.n_correct, self.n_answered)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall, in [0, 1]; None for a class that is neither there nor answered."""
        n = self.n + self.n_answered
        return 2 * self.n_correct / n if n else None


def class_scores(truth: NDArray[np.int64], answer: NDArray[np.int64]) -> list[ClassScore]:
    """Return the score of every class that is the truth of an image or the answer to one, by class index.

    Parameters
    ----------
    truth, answer
        (N,) class indices; N may be 0.
    """
    n_classes = int(max(truth.max(initial=-1), answer.max(initial=-1))) + 1
    n = np.bincount(truth, minlength=n_classes)
    n_answered = np.bincount(answer, minlength=n_classes)
    n_correct = np.bincount(truth[truth == answer], minlength=n_classes)
    return [
        ClassScore(index, int(n[index]), int(n_answered[index]), int(n_correct[index]))
        for index in np.flatnonzero(n + n_answered).tolist()
    ]


def balanced_accuracy(scores: list[ClassScore]) -> float | None:
    """Return the mean recall of the classes that have images, each counting the same; None where none has.

    Brodersen et al. 2010, doi:10.1109/ICPR.2010.764.
    """
    recalls = [value for score in scores if (value := score.recall.value) is not None]
    return sum(recalls) / len(recalls) if recalls else None
