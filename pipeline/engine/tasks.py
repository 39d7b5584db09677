"""The tasks that travel to the workers. Each wires stages together; none has logic of its own.

A task carries its images and the name of the run's plugin; everything else it finds on its worker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from distributed import get_worker

from pipeline.destination import part_name
from pipeline.engine.isolation import decode_apart, decode_in_time
from pipeline.engine.worker import PipelinePlugin, current_plugin
from pipeline.errors import DeviceError, ModelLoadError, StorageError, UsageError, WorkerUnfitError
from pipeline.records import ImageBatch, ImageFailure, ImageRef, Outcome, Receipt, Sample
from pipeline.stages import batch as batch_stage
from pipeline.stages.outcomes import encode_outcomes, tally_of
from pipeline.stages.score import score
from pipeline.storage import ReadFault, counted_for, is_without_keys, open_storage, requests_since_last

GIVE_KEYS = (
    "keys never travel with a run: give the workers AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, "
    "or an instance role of their own"
)


def preprocess(refs: Sequence[ImageRef], is_suspect: bool, plugin_name: str) -> list[Sample | ImageFailure]:
    """Read a chunk of images concurrently, each at its listed version, and decode them.

    Parameters
    ----------
    is_suspect
        Whether one of them may kill the process that decodes it: a child process does.
    """
    plugin = current_plugin(plugin_name)
    with plugin.spending.on("read"), _on_behalf_of(plugin):
        storage = open_storage(refs[0].url, plugin.job.source_options)
        bodies = storage.read_many([(ref.url, ref.etag) for ref in refs])
    with plugin.spending.on("decode"):
        read = [(ref, body) for ref, body in zip(refs, bodies, strict=True) if isinstance(body, bytes)]
        decode = decode_apart if is_suspect else decode_in_time
        decoded = iter(decode(read, plugin.job.transform, plugin.job.decode_s))
    return [
        ImageFailure(ref, "read", body.reason) if isinstance(body, ReadFault) else next(decoded)
        for ref, body in zip(refs, bodies, strict=True)
    ]


def reformat(chunks: Sequence[Sequence[Sample | ImageFailure]]) -> ImageBatch:
    """Stack the chunks of one batch."""
    return batch_stage.reformat(chain.from_iterable(chunks))


def infer(batch: ImageBatch, batch_id: str, plugin_name: str) -> list[Outcome]:
    """Have the worker's inference thread classify a batch, and score its answers.

    Raises
    ------
    WorkerUnfitError
        If this worker has no model, or its device has failed for good.
    """
    plugin = current_plugin(plugin_name)
    if plugin.inference is None:
        raise RuntimeError(f"the inference thread of {plugin_name} was never started")
    try:
        with plugin.spending.on("wait"):
            prediction = plugin.inference.predict(batch)
        return score(batch, prediction, batch_id, plugin.classes)
    except ModelLoadError as error:
        raise WorkerUnfitError(get_worker().address, str(error), False) from error
    except DeviceError as error:
        raise WorkerUnfitError(get_worker().address, str(error), True) from error


def commit(part: int, kept: bytes, batches: Sequence[Sequence[Outcome]], plugin_name: str) -> Receipt:
    """Write a part of the outcomes table, the rows that stay and the new ones, with one PUT.

    Raises
    ------
    UsageError
        If the destination was taken over by a run whose predictions something else decides, or that judges by others'
        labels.
    """
    plugin = current_plugin(plugin_name)
    job = plugin.job
    with plugin.spending.on("commit"), _on_behalf_of(plugin):
        if job.destination.judged_by() != (job.fingerprint, job.labels):
            raise UsageError(f"{job.destination.url} was taken over by another run; what it holds now is left alone")
        data = encode_outcomes(chain.from_iterable(batches), job.fingerprint, kept, job.labels)
        etag = job.destination.write(part_name(part), data)
    return Receipt(part, etag, tally_of(data), requests_since_last(job.plugin_name), plugin.spending.since_last())


@contextmanager
def _on_behalf_of(plugin: PipelinePlugin) -> Iterator[None]:
    """Ask a store for a run; its faults say on which host they came, and a worker without keys how it gets them."""
    try:
        with counted_for(plugin.name):
            yield
    except StorageError as error:
        advice = f"; {GIVE_KEYS}" if is_without_keys(error.__cause__) else ""
        raise StorageError(f"worker on {get_worker().ip}: {error}{advice}") from error
