"""A plain function as a model that works through device batches: it takes each batch whole, and is done at once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Busy, Pipelined, Predict, Prediction, Running


def pipelined(model: Predict | Pipelined) -> Pipelined:
    """Return a model as the inference thread drives it."""
    return model if isinstance(model, Pipelined) else OneByOne(model)


class OneByOne:
    """Answers one batch at a time, as a model on the CPU does: its cores have nothing to do beside it.

    Parameters
    ----------
    predict
        Answers (N, 3, H, W) pixels.
    """

    depth = 1
    shapes = ()

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    def begin(self, pixels: Sequence[NDArray[np.uint8]]) -> Running:
        """Return the answer to one batch, computed already."""
        (batch,) = pixels
        began = time.perf_counter()
        prediction = self._predict(batch)
        return Done(prediction, time.perf_counter() - began)


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """An answer that is there; a `pipeline.records.Running`."""

    prediction: Prediction

    infer_s: float

    def is_done(self) -> bool:
        """Return True."""
        return True

    def answer(self) -> Prediction:
        """Return the answer."""
        return self.prediction

    def spent_s(self) -> Mapping[Busy, float]:
        """Return the seconds that the model took."""
        return {"infer": self.infer_s}
