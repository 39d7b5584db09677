"""The one thread of a worker process that owns the model and its device.

Tasks hand it batches and wait; nothing else ever touches the model, so there is no lock around it and no second copy.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.spending import Spending
from pipeline.errors import ModelLoadError
from pipeline.records import ImageBatch, ModelSpec, Predict, Prediction
from pipeline.stages.architectures import torchvision_weights
from pipeline.stages.weights import fetch_weights
from pipeline.storage import StorageOptions, read_whole

logger = logging.getLogger("pipeline")

EMPTY = Prediction(
    class_index=np.empty((0, 5), np.int32),
    probability=np.empty((0, 5), np.float32),
    breed_class_index=np.empty(0, np.int32),
    breed_probability=np.empty(0, np.float32),
)


class InferenceThread:
    """Loads a model at once, in its own thread, and answers one batch after another.

    Parameters
    ----------
    load
        Returns the model; called exactly once, on this thread.
    n_threads
        Cores that the model may use. torch's number of threads belongs to the thread that sets it.
    spending
        Is told how long the thread was busy.
    """

    def __init__(self, load: Callable[[], Predict], n_threads: int, spending: Spending) -> None:
        self._spending = spending
        self._executor = ThreadPoolExecutor(1, "inference", _set_num_threads, (n_threads,))
        self._model: Future[Predict] = self._executor.submit(load)
        self._last: Future[Any] = self._model

    def predict(self, batch: ImageBatch) -> Prediction:
        """Return the model's answer to a batch.

        Raises
        ------
        ModelLoadError
            If the model could not be loaded.
        """
        if not batch.refs:
            return EMPTY
        answer = self._executor.submit(self._run, batch.pixels)
        self._last = answer
        return answer.result()

    @property
    def is_busy(self) -> bool:
        """Whether the thread still has something to do."""
        return not self._last.done()

    def close(self) -> None:
        """Answer what is running, drop what waits, and let the model go."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        del self._model

    def _run(self, pixels: NDArray[np.uint8]) -> Prediction:
        error = self._model.exception()
        if error is not None:
            raise ModelLoadError(f"cannot load the model: {type(error).__name__}: {error}") from error
        model = self._model.result()
        with self._spending.on("infer"):
            return model(pixels)


def load_classifier(spec: ModelSpec, options: StorageOptions) -> Predict:
    """Return the model that `spec` stands for on this process's device, its weights checked against their hash."""
    # torch takes seconds to import: paid here, on the inference thread, not by the worker's event loop.
    from pipeline.stages.model import Classifier, best_device, load_state_dict  # noqa: PLC0415

    named = torchvision_weights(spec.name, spec.weights)
    url = named.url if named else None
    data = fetch_weights(spec.weights, url, lambda own: read_whole(own, options), spec.weights_sha256)
    classifier = Classifier(spec, load_state_dict(data, spec.weights), best_device())
    logger.info("model loaded: %s in %s", spec.name, spec.precision)
    return classifier


def usable_cores(n_slots: int) -> int:
    """Return the cores for a model in a worker with so many task slots: never more than the process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, n_slots))


def _set_num_threads(n_threads: int) -> None:
    import torch  # noqa: PLC0415  as in load_classifier

    torch.set_num_threads(n_threads)
