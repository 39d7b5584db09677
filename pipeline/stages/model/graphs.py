"""CUDA graphs: the launches of a forward pass are recorded once and replayed by one call.

A ResNet50 is more than a hundred launches, and between any two of them the inference thread may lose Python's lock to
the threads that decode. See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.stages.model.device import is_out_of_memory
from pipeline.stages.model.fixed_shapes import Forward, once_prepared

logger = logging.getLogger("pipeline")

N_WARM_UP = 2
"""Passes before the recording, in which libraries set themselves up and cuDNN chooses its algorithms."""

TOLERANCE = 0.05
"""Largest share of a probability by which a recording may differ from the pass that it recorded."""


class GraphRecorder:
    """Records forward passes; they share one pool of memory, so they must be replayed one after another.

    To be called, and the recordings replayed, on one stream that is not CUDA's default stream.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._is_given_up = False

    def __call__(self, forward: Forward, buffer: Tensor) -> Callable[[], Tensor]:
        """Return the recorded forward pass of a buffer, or the pass as it is where recording fails or changes answers.

        Its answer is overwritten by the next replay of any recording.
        """
        for _ in range(N_WARM_UP):
            expected = forward(buffer)
        if not self._is_given_up:
            try:
                replay = self._recorded(forward, buffer)
                if torch.allclose(replay()[:, 5:10], expected[:, 5:10], rtol=TOLERANCE, atol=1e-4):
                    return replay
                self._give_up("its answers differ")
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._give_up(f"{type(error).__name__}: {error}")
        return once_prepared(forward, buffer)

    def _recorded(self, forward: Forward, buffer: Tensor) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: the tasks beside us may allocate pinned memory meanwhile
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
        )
        with recording:
            answer = forward(buffer)

        def replay() -> Tensor:
            graph.replay()
            return answer

        return replay

    def _give_up(self, reason: str) -> None:
        self._is_given_up = True
        logger.warning("no CUDA graphs on this worker, which costs speed only: %s", " ".join(reason.split())[:200])
