"""Two models' answers to the same images. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.evaluation.answers import Answers, answers_of
from pipeline.evaluation.calibration import Calibration, calibration
from pipeline.evaluation.evaluation import class_names
from pipeline.evaluation.metrics import Share


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same N images of known truth: how often either, both or none is right."""

    n_both: int
    n_only_a: int
    n_only_b: int
    n_none: int

    @property
    def n(self) -> int:
        """Images."""
        return self.n_both + self.n_only_a + self.n_only_b + self.n_none

    @property
    def a(self) -> Share:
        """The accuracy of the first."""
        return Share(self.n_both + self.n_only_a, self.n)

    @property
    def b(self) -> Share:
        """The accuracy of the second."""
        return Share(self.n_both + self.n_only_b, self.n)

    @property
    def difference(self) -> float | None:
        """Accuracy of the second less that of the first, in [-1, 1]; None without any image."""
        return (self.n_only_b - self.n_only_a) / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference: Newcombe's method 10; (-1, 1) without any image.

        Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C: both Wilson intervals,
        with the correlation that comes of the same images.

        >>> low, high = Paired(n_both=36, n_only_a=12, n_only_b=2, n_none=0).interval  # example (a) there, turned round
        >>> f"{low:.4f} {high:.4f}"
        '-0.3404 -0.0569'
        """
        if not self.n:
            return -1.0, 1.0
        (low_a, high_a), (low_b, high_b) = self.a.interval, self.b.interval
        a, b, phi = self.a.n_hits / self.n, self.b.n_hits / self.n, self._phi
        below = (b - low_b) ** 2 - 2 * phi * (b - low_b) * (high_a - a) + (high_a - a) ** 2
        above = (high_b - b) ** 2 - 2 * phi * (high_b - b) * (a - low_a) + (a - low_a) ** 2
        return b - a - math.sqrt(max(0.0, below)), b - a + math.sqrt(max(0.0, above))

    @property
    def p_value(self) -> float:
        """McNemar's test, exact and two-sided: how likely so unequal a split is if both models are equally good.

        McNemar 1947, doi:10.1007/BF02295996: given their number, each image that only one answers rightly is as likely
        to be the first's as the second's.

        >>> round(Paired(n_both=0, n_only_a=1, n_only_b=9, n_none=0).p_value, 6)
        0.021484
        """
        n, fewer = self.n_only_a + self.n_only_b, min(self.n_only_a, self.n_only_b)
        if 2 * fewer == n:
            return 1.0
        k = np.arange(fewer + 1)
        log_ways = math.lgamma(n + 1) - _log_factorial(k) - _log_factorial(n - k)
        return min(1.0, 2 * float(np.exp(log_ways - n * math.log(2)).sum()))

    @property
    def _phi(self) -> float:
        """The correlation of being right, with the continuity correction that Newcombe's method 10 has."""
        e, f, g, h = self.n_both, self.n_only_a, self.n_only_b, self.n_none
        margins = (e + f) * (g + h) * (e + g) * (f + h)
        product = e * h - f * g
        corrected = max(product - self.n / 2, 0.0) if product > 0 else product
        return corrected / math.sqrt(margins) if margins else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two runs."""

    n_images: int
    """All that it has."""

    n_failed_alone: int
    """Images that it could not classify, and the other could."""

    rows: NDArray[np.int64]
    """(N,), where the images stand in its table."""

    answer: NDArray[np.int64]
    """(N,) class indices."""

    confidence: NDArray[np.float64]
    """(N,) in [0, 1]."""

    calibration: Calibration


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two runs on the N images of known truth that both classified, at the same version."""

    n_common: int
    """Images of both runs at the same version, classified or not."""

    a: Side
    b: Side

    truth: NDArray[np.int64]
    """(N,) class indices."""

    names: dict[int, str]
    """Of every class that occurs."""

    @property
    def paired(self) -> Paired:
        """How often either, both or none is right."""
        return _paired(self.a.answer == self.truth, self.b.answer == self.truth)

    @property
    def agreement(self) -> Share:
        """Of the images, those that got the same answer, right or wrong."""
        return Share(int(np.count_nonzero(self.a.answer == self.b.answer)), len(self.truth))

    @property
    def by_class(self) -> dict[int, Paired]:
        """The same as `paired` for each true class, by its index."""
        is_a, is_b = self.a.answer == self.truth, self.b.answer == self.truth
        own = {index: self.truth == index for index in np.unique(self.truth).tolist()}
        return {index: _paired(is_a[rows], is_b[rows]) for index, rows in own.items()}


def compare(outcomes_a: pa.Table, outcomes_b: pa.Table) -> Comparison:
    """Return what two tables of outcomes say on the images that both have, by name, ETag and size."""
    rows_a, rows_b = _common(outcomes_a, outcomes_b)
    is_ok_a, is_ok_b = _is_ok(outcomes_a)[rows_a], _is_ok(outcomes_b)[rows_b]
    answers_a, answers_b = answers_of(outcomes_a), answers_of(outcomes_b)
    at_a, at_b = _judged_by_both(rows_a, answers_a, rows_b, answers_b)
    return Comparison(
        n_common=len(rows_a),
        a=_side(len(outcomes_a), int(np.count_nonzero(is_ok_b & ~is_ok_a)), answers_a, at_a),
        b=_side(len(outcomes_b), int(np.count_nonzero(is_ok_a & ~is_ok_b)), answers_b, at_b),
        truth=answers_a.truth[at_a],
        names=class_names(outcomes_b) | class_names(outcomes_a),
    )


def only_one_right(comparison: Comparison, n: int) -> tuple[list[int], list[int]]:
    """Return at most `n` places in the N images that only the first run answered rightly, and that only the second did.

    Those that the other was most confident about come first.
    """
    a, b, truth = comparison.a, comparison.b, comparison.truth
    only_a, only_b = (a.answer == truth) & (b.answer != truth), (b.answer == truth) & (a.answer != truth)
    return _most_confident(only_a, b.confidence, n), _most_confident(only_b, a.confidence, n)


def _most_confident(wanted: NDArray[np.bool_], confidence: NDArray[np.float64], n: int) -> list[int]:
    found = np.flatnonzero(wanted)
    return found[np.argsort(-confidence[found], kind="stable")][:n].tolist()  # type: ignore[no-any-return]


def _common(outcomes_a: pa.Table, outcomes_b: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the same images in both tables, in the order of the first."""
    keys = ["image", "etag", "size_bytes"]
    numbered = [
        table.select(keys).append_column(name, pa.array(np.arange(len(table))))
        for name, table in (("row_a", outcomes_a), ("row_b", outcomes_b))
    ]
    joined = numbered[0].join(numbered[1], keys, join_type="inner").sort_by("row_a")
    return joined["row_a"].to_numpy(), joined["row_b"].to_numpy()


def _is_ok(outcomes: pa.Table) -> NDArray[np.bool_]:
    return pc.equal(outcomes["status"], "ok").to_numpy()  # type: ignore[no-any-return]


def _judged_by_both(
    rows_a: NDArray[np.int64], a: Answers, rows_b: NDArray[np.int64], b: Answers
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where among the answers of each the images stand that both could judge, by the same truth."""
    (at_a, is_a), (at_b, is_b) = _positions(a.rows, rows_a), _positions(b.rows, rows_b)
    judged = np.flatnonzero(is_a & is_b)
    at_a, at_b = at_a[judged], at_b[judged]
    agree = a.truth[at_a] == b.truth[at_b]
    return at_a[agree], at_b[agree]


def _positions(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each wanted number stands in an ascending array, and whether it stands there at all."""
    at = np.searchsorted(ascending, wanted)
    is_there = np.zeros(len(wanted), bool)
    is_within = at < len(ascending)
    is_there[is_within] = ascending[at[is_within]] == wanted[is_within]
    return at, is_there


def _side(n_images: int, n_failed_alone: int, answers: Answers, at: NDArray[np.int64]) -> Side:
    return Side(
        n_images=n_images,
        n_failed_alone=n_failed_alone,
        rows=answers.rows[at],
        answer=answers.answer[at],
        confidence=answers.confidence[at],
        calibration=calibration(answers.confidence[at], answers.is_correct[at]),
    )


def _paired(is_a: NDArray[np.bool_], is_b: NDArray[np.bool_]) -> Paired:
    return Paired(
        n_both=int(np.count_nonzero(is_a & is_b)),
        n_only_a=int(np.count_nonzero(is_a & ~is_b)),
        n_only_b=int(np.count_nonzero(is_b & ~is_a)),
        n_none=int(np.count_nonzero(~is_a & ~is_b)),
    )


def _log_factorial(k: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array([math.lgamma(i + 1) for i in k.tolist()])
