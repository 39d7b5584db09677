"""The tasks that travel to the workers. Each wires stages together; none has logic of its own.

A task carries its images and the name of the run's plugin; everything else it finds on its worker.
"""

from collections.abc import Sequence
from itertools import chain

from pipeline.destination import part_name
from pipeline.engine.worker import current_plugin
from pipeline.records import ImageBatch, ImageFailure, ImageRef, Outcome, Sample, Tally
from pipeline.stages import batch as batch_stage
from pipeline.stages.decode import decode
from pipeline.stages.outcomes import encode_outcomes
from pipeline.stages.score import score, tally
from pipeline.storage import ReadFault, open_storage


def preprocess(refs: Sequence[ImageRef], plugin_name: str) -> list[Sample | ImageFailure]:
    """Read a chunk of images concurrently, each at its listed version, and decode them."""
    job = current_plugin(plugin_name).job
    storage = open_storage(refs[0].url, job.source_options)
    bodies = storage.read_many([(ref.url, ref.etag) for ref in refs])
    return [
        ImageFailure(ref, "read", body.reason) if isinstance(body, ReadFault) else decode(ref, body, job.transform)
        for ref, body in zip(refs, bodies, strict=True)
    ]


def reformat(chunks: Sequence[Sequence[Sample | ImageFailure]]) -> ImageBatch:
    """Stack the chunks of one batch."""
    return batch_stage.reformat(chain.from_iterable(chunks))


def infer(batch: ImageBatch, batch_id: str, plugin_name: str) -> list[Outcome]:
    """Have the worker's inference thread classify a batch, and score its answers."""
    inference = current_plugin(plugin_name).inference
    if inference is None:
        raise RuntimeError(f"the inference thread of {plugin_name} was never started")
    return score(batch, inference.predict(batch), batch_id)


def commit(batches: Sequence[Sequence[Outcome]], part: int, plugin_name: str) -> Tally:
    """Write a part of the outcomes table with one PUT, and return its counts."""
    job = current_plugin(plugin_name).job
    outcomes = list(chain.from_iterable(batches))
    job.destination.write(part_name(part), encode_outcomes(outcomes))
    return tally(outcomes)
