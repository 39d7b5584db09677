"""One part as a small Dask graph.

::

    preprocess ─┐
    preprocess ─┴▶ reformat ─▶ infer ─┐
    preprocess ─┐                     ├▶ commit
    preprocess ─┴▶ reformat ─▶ infer ─┘

Keys read ``preprocess-<run>-<part>-<attempt>-<batch>-<chunk>``: Dask groups and colours tasks by the first word, and
queues the grouped ``preprocess`` tasks on the scheduler instead of filling the workers' memory with pixels.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import toolz
from dask import annotate, delayed
from dask.delayed import Delayed

from pipeline.engine import tasks
from pipeline.engine.packing import PackedRefs
from pipeline.engine.worker import Job
from pipeline.records import ImageRef, PartWork


@dataclass(frozen=True, slots=True)
class Batching:
    """How a part is cut into tasks."""

    batch_size: int = 80
    """Images in one stack."""

    images_per_task: int | None = None
    """Images that one `preprocess` task reads and decodes; None is a whole batch, 1 a task for each image."""


INFERS_AT_A_TIME = 4
"""Tasks that wait for one model, where only some workers have one: the next batch is there when one is done."""

_INFER_SHARE = 0.99 / INFERS_AT_A_TIME
_DECODE_SHARE = 1e-6
"""Of a worker's model resource: what is left beside the tasks that infer lets it decode in every slot."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a part's tasks run in a cluster of which only some workers have the model."""

    resource: str
    """The Dask resource of those that have it."""

    decodes_beside_model: bool
    """Whether those read and decode too, and nobody else does."""


@dataclass(frozen=True, slots=True, eq=False)
class PartGraph:
    """A part, ready to be computed."""

    work: PartWork

    commit: Delayed
    """Computes to the part's `pipeline.records.Receipt`."""

    batches: dict[str, int]
    """The number of images that each `infer` key accounts for."""

    infers: list[Delayed]


def part_graph(work: PartWork, job: Job, batching: Batching, placement: Placement | None = None) -> PartGraph:
    """Wire what is left of one part into a graph; without a placement each task may run on any worker."""
    name = f"{work.index:06d}"
    prefix = f"{job.run_id}-{name}-{work.attempt}"
    batches = list(toolz.partition_all(batching.batch_size, work.refs))
    infer = delayed(tasks.infer)
    with _decoding(placement):
        stacks = [_stack(refs, f"{prefix}-{i:02d}", work, job, batching) for i, refs in enumerate(batches)]
    with _inferring(placement):
        infers = [
            infer(stack, f"{name}-{i:02d}", job.plugin_name, dask_key_name=f"infer-{prefix}-{i:02d}")
            for i, stack in enumerate(stacks)
        ]
    commit = partial(tasks.commit, work.index, work.kept, plugin_name=job.plugin_name)
    committed = _gathering(commit, "commit")(*infers, dask_key_name=f"commit-{prefix}")
    sizes = {infer.key: len(refs) for infer, refs in zip(infers, batches, strict=True)}
    return PartGraph(work, committed, sizes, infers)


def part_of(key: str, run_id: str) -> int | None:
    """Return the number of the part that a key of this run belongs to, None for anybody else's key.

    >>> part_of("preprocess-20261120T101010-abc-000007-0-01-00", "20261120T101010-abc")
    7
    """
    _, is_ours, rest = key.partition(f"-{run_id}-")
    return int(rest.partition("-")[0]) if is_ours else None


def _decoding(placement: Placement | None) -> AbstractContextManager[None]:
    if placement is None or not placement.decodes_beside_model:
        return nullcontext()
    # Not by address: that would bind a part to workers that may die, and loosely bound tasks are stolen by others.
    return annotate(resources={placement.resource: _DECODE_SHARE})  # type: ignore[no-any-return]


def _inferring(placement: Placement | None) -> AbstractContextManager[None]:
    if placement is None:  # a resource takes tasks out of the scheduler's queue: only where there is need
        return nullcontext()
    return annotate(resources={placement.resource: _INFER_SHARE})  # type: ignore[no-any-return]


def _stack(refs: tuple[ImageRef, ...], suffix: str, work: PartWork, job: Job, batching: Batching) -> Delayed:
    reformat = _gathering(tasks.reformat, "reformat")
    chunks = [
        _preprocess(chunk, is_suspect=work.is_suspect)(job.plugin_name, dask_key_name=f"preprocess-{suffix}-{i:02d}")
        for i, chunk in enumerate(toolz.partition_all(batching.images_per_task or len(refs), refs))
    ]
    return reformat(*chunks, dask_key_name=f"reformat-{suffix}")


def _gathering(task: Callable[[Sequence[Any]], Any], name: str) -> Delayed:
    """Have a task that takes a list take each of its inputs by itself: a list is searched and optimised by Dask."""
    return delayed(partial(_gathered, task), name=name, traverse=False)


def _gathered(task: Callable[[Sequence[Any]], Any], *inputs: Any) -> Any:
    return task(inputs)


def _preprocess(chunk: tuple[ImageRef, ...], *, is_suspect: bool) -> Delayed:
    """Bind a chunk to its task before Dask sees it: as an argument, each field of each image would be searched."""
    return delayed(partial(tasks.preprocess, PackedRefs.pack(chunk), is_suspect), name="preprocess", traverse=False)
