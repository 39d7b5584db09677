"""What a sample of images is by its bytes: the workers read them, since the client may be far from the store."""

from collections import Counter
from collections.abc import Sequence

import toolz
from distributed import Client, Future

from pipeline.engine.window import cause_of
from pipeline.engine.worker import Job
from pipeline.errors import ClusterError
from pipeline.records import ImageRef
from pipeline.stages.image_format import format_of
from pipeline.storage import ReadFault, StorageOptions, open_storage

_AT_ONCE = 16
"""Images in a worker's memory at a time, for each of its slots."""


def sniff(client: Client, job: Job, refs: Sequence[ImageRef], timeout_s: float) -> Counter[str]:
    """Return how many images have which format by their first bytes; one that cannot be read is ``unreadable``.

    Raises
    ------
    PipelineError
        If the store refuses, or the cluster is lost.
    """
    chunks = enumerate(toolz.partition_all(_AT_ONCE, refs))
    futures: list[Future] = [
        client.submit(formats_of, chunk, job.source_options, key=f"sniff-{job.run_id}-{i}", pure=False)
        for i, chunk in chunks
    ]
    try:
        return sum((_told(future, timeout_s) for future in futures), Counter[str]())
    finally:
        if client.status == "running":
            client.cancel(futures, force=True)


def formats_of(refs: Sequence[ImageRef], options: StorageOptions) -> Counter[str]:
    """Read some images, and return how many have which format."""
    bodies = open_storage(refs[0].url, options).read_many([(ref.url, ref.etag) for ref in refs])
    return Counter("unreadable" if isinstance(body, ReadFault) else format_of(body) for body in bodies)


def _told(future: Future, timeout_s: float) -> Counter[str]:
    try:
        future.exception(timeout=timeout_s)
    except TimeoutError as error:
        raise ClusterError(f"the workers read none of the sample within {timeout_s:g} s (--stall-timeout)") from error
    if future.status != "finished":
        raise cause_of(future)
    formats: Counter[str] = future.result(timeout=timeout_s)
    return formats
