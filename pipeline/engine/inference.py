"""The one thread of a worker process that owns the model and its device.

Tasks hand it batches and wait; nothing else ever touches the model, so there is no lock around it and no second copy.
What waits is merged or sliced into the device batches that the model likes; while it computes one, the next is copied.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from pipeline.engine.allocator import return_free_memory
from pipeline.engine.balance import LastAnswer
from pipeline.engine.merging import DeviceBatch, Request, Waiting
from pipeline.engine.one_by_one import pipelined
from pipeline.engine.spending import Spending
from pipeline.errors import ModelLoadError
from pipeline.records import ImageBatch, ModelForm, ModelSpec, Pipelined, Predict, Prediction, Running
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

POLL_S = 0.0005
"""How often a thread whose device computes looks up whether it is done, while nothing waits to be copied."""


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

    def __init__(self, load: Callable[[], Predict | Pipelined], n_threads: int, spending: Spending) -> None:
        self._spending = spending
        self._waiting = Waiting()
        self._running: deque[tuple[DeviceBatch, Running]] = deque()
        self._is_working = False
        self.last_answer: LastAnswer | None = None
        """See `pipeline.engine.balance`; None until the model has answered."""
        self._executor = ThreadPoolExecutor(1, "inference", _set_num_threads, (n_threads,))
        self._model: Future[Pipelined] = self._executor.submit(self._load, load)

    def predict(self, batch: ImageBatch) -> Prediction:
        """Return the model's answer to a batch.

        Raises
        ------
        ModelLoadError
            If the model could not be loaded.
        CancelledError
            If the thread was closed before this batch had its turn.
        """
        if not batch.refs:
            return EMPTY
        request = Request(batch.pixels)
        self._waiting.put(request)
        try:
            self._executor.submit(self._work_off, self._model)
        except RuntimeError:  # closed meanwhile: this request goes with the others
            self._waiting.drop()
        return request.answer.result()

    async def loaded(self) -> None:
        """Return once the model is loaded; raise what its loading raised."""
        await asyncio.wrap_future(self._model)

    @property
    def is_busy(self) -> bool:
        """Whether the thread is at something, or hangs in it."""
        return self._is_working

    def close(self) -> None:
        """Answer what is running, drop what waits, and let the model go."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._waiting.drop()
        del self._model

    def _load(self, load: Callable[[], Predict | Pipelined]) -> Pipelined:
        self._is_working = True
        try:
            return pipelined(load())
        finally:
            self._is_working = False

    def _work_off(self, loaded: Future[Pipelined]) -> None:
        """Answer everything that waits. Each request asks for this; one call does the work of several."""
        self._is_working = True
        try:
            while self._step(loaded):
                pass
        finally:
            self._is_working = False

    def _step(self, loaded: Future[Pipelined]) -> bool:
        """Begin one device batch, finish one, or wait a little; return False once there is nothing left to do."""
        error = loaded.exception()
        depth, shapes = (1, ()) if error else (loaded.result().depth, loaded.result().shapes)
        has_room = len(self._running) < depth
        batch = self._waiting.take(shapes) if has_room else None
        if batch is not None and error is not None:
            batch.fail(ModelLoadError(f"cannot load the model: {type(error).__name__}: {error}"))
        elif batch is not None:
            self._begin(loaded.result(), batch)
        elif not self._running:
            return False
        elif has_room and not self._running[0][1].is_done():
            self._waiting.wait(POLL_S)
        else:
            self._finish()
        return True

    def _begin(self, model: Pipelined, batch: DeviceBatch) -> None:
        try:
            self._running.append((batch, model.begin(batch.pixels)))
        except Exception as error:  # noqa: BLE001  it belongs to the tasks that wait
            batch.fail(error)

    def _finish(self) -> None:
        batch, running = self._running.popleft()
        try:
            batch.give(running.answer())
        except Exception as error:  # noqa: BLE001  as above
            batch.fail(error)
        spent_s = running.spent_s()
        for activity, seconds in spent_s.items():
            self._spending.add(activity, seconds)
        computed_s = self.last_answer[1] if self.last_answer else 0.0
        self.last_answer = (time.monotonic(), computed_s + spent_s.get("infer", 0.0))


def load_classifier(spec: ModelSpec, form: ModelForm, options: StorageOptions) -> Predict | Pipelined:
    """Return the model that `spec` stands for on this process's device, its weights checked against their hash."""
    # torch takes seconds to import: paid here, on the inference thread, not by the worker's event loop.
    from pipeline.stages.model import load_model, load_state_dict  # noqa: PLC0415

    model = load_model(spec, load_state_dict(weights_of(spec, options), spec.weights), form)
    return_free_memory()
    logger.info("model loaded: %s in %s", spec.name, spec.precision)
    return model


def weights_of(spec: ModelSpec, options: StorageOptions) -> bytes:
    """Return the bytes of a model's weights; raises `StorageError` where they cannot be had, or are others."""
    named = torchvision_weights(spec.name, spec.weights)
    url = named.url if named else None
    return fetch_weights(spec.weights, url, lambda own: read_whole(own, options), spec.weights_sha256).data


def usable_cores(n_slots: int) -> int:
    """Return the cores for a model in a worker with so many task slots: never more than the process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, n_slots))


def _set_num_threads(n_threads: int) -> None:
    import torch  # noqa: PLC0415  as in load_classifier

    torch.set_num_threads(n_threads)
