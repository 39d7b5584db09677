"""One part as a small Dask graph.

::

    preprocess ─┐
    preprocess ─┴▶ reformat ─▶ infer ─┐
    preprocess ─┐                     ├▶ commit
    preprocess ─┴▶ reformat ─▶ infer ─┘

Keys read ``preprocess-<run>-<part>-<batch>-<chunk>``: Dask groups and colours tasks by the first word, and queues the
grouped ``preprocess`` tasks on the scheduler instead of filling the workers' memory with pixels.
"""

from dataclasses import dataclass
from functools import partial

import toolz
from dask import delayed
from dask.delayed import Delayed

from pipeline.engine import tasks
from pipeline.engine.worker import Job
from pipeline.records import ImageRef, Part


@dataclass(frozen=True, slots=True)
class Batching:
    """How a part is cut into tasks."""

    batch_size: int = 80
    """Images in one stack."""

    images_per_task: int | None = None
    """Images that one `preprocess` task reads and decodes; None is a whole batch, 1 a task for each image."""


@dataclass(frozen=True, slots=True, eq=False)
class PartGraph:
    """A part, ready to be computed."""

    commit: Delayed
    """Computes to the part's `pipeline.records.Tally`."""

    batches: dict[str, int]
    """The number of images that each `infer` key accounts for."""

    infers: list[Delayed]


def part_graph(part: Part, job: Job, batching: Batching) -> PartGraph:
    """Wire one part's batches into a graph."""
    prefix = f"{job.run_id}-{part.index:06d}"
    batches = list(toolz.partition_all(batching.batch_size, part.refs))
    infers = [_batch_graph(refs, f"{prefix}-{i:02d}", job, batching) for i, refs in enumerate(batches)]
    commit = delayed(tasks.commit)(infers, part.index, job.plugin_name, dask_key_name=f"commit-{prefix}")
    return PartGraph(commit, {infer.key: len(refs) for infer, refs in zip(infers, batches, strict=True)}, infers)


def _batch_graph(refs: tuple[ImageRef, ...], suffix: str, job: Job, batching: Batching) -> Delayed:
    reformat, infer = delayed(tasks.reformat), delayed(tasks.infer)
    chunks = [
        _preprocess(chunk)(job.plugin_name, dask_key_name=f"preprocess-{suffix}-{i:02d}")
        for i, chunk in enumerate(toolz.partition_all(batching.images_per_task or len(refs), refs))
    ]
    batch = reformat(chunks, dask_key_name=f"reformat-{suffix}")
    batch_id = suffix.removeprefix(f"{job.run_id}-")
    return infer(batch, batch_id, job.plugin_name, dask_key_name=f"infer-{suffix}")


def _preprocess(chunk: tuple[ImageRef, ...]) -> Delayed:
    """Bind a chunk to its task before Dask sees it: as an argument, each field of each image would be searched."""
    return delayed(partial(tasks.preprocess, chunk), name="preprocess", traverse=False)
