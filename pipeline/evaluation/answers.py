"""Answers held against their truth, by column: what all metrics are made of. Pure."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The classified images whose truth is known, in the order of their table."""

    rows: NDArray[np.int64]
    """(N,), where each stands in the table."""

    truth: NDArray[np.int64]
    """(N,) class indices."""

    answer: NDArray[np.int64]
    """(N,) class indices, the most probable each."""

    confidence: NDArray[np.float64]
    """(N,), the answer's probability in [0, 1]."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """(N,), whether the answer is the truth."""
        return np.equal(self.answer, self.truth)


def answers_of(outcomes: pa.Table) -> Answers:
    """Return the answers among all classes.

    Parameters
    ----------
    outcomes
        With the columns of `pipeline.stages.outcomes.OUTCOMES_SCHEMA`, as any Parquet reader reads them.
    """
    return _known(outcomes, outcomes["correct"], "class_index", "probability")


def breed_answers_of(outcomes: pa.Table) -> Answers:
    """Return the answers among the 120 breeds of Stanford Dogs alone, for images of these; there may be none."""
    return _known(outcomes, outcomes["correct_breed"], "breed_class_index", "breed_probability")


def _known(outcomes: pa.Table, judged: pa.ChunkedArray, answer: str, confidence: str) -> Answers:
    rows = np.flatnonzero(_numpy(pc.is_valid(judged)))
    known = outcomes.select(["truth_index", answer, confidence]).take(pa.array(rows))
    return Answers(
        rows=rows,
        truth=_numpy(known["truth_index"]).astype(np.int64),
        answer=_numpy(known[answer]).astype(np.int64),
        confidence=_numpy(known[confidence]).astype(np.float64),
    )


def _numpy(column: pa.ChunkedArray) -> NDArray[np.generic]:
    values: NDArray[np.generic] = column.to_numpy()
    return values
