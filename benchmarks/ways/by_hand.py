"""The best loop by hand, without an engine: what this project is held against.

It has all of this project's means but Dask: obstore in threads, its crop, its model (folded, micro-batches,
channels_last, bf16 where the hardware has it), its allocator's settings, its rows. Reading and decoding begin before
torch is imported, the model runs on the main thread with all cores, and the table is one object. What it lacks is what
an engine is for: it dies with its first fault, and it never resumes.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import toolz
from obstore.store import S3Store

from benchmarks.ways.command import BATCH_SIZE, COMPILED, MODEL, Task, Watch, command
from cluster.local import usable_cores
from pipeline.engine.allocator import mend_allocator
from pipeline.records import ImageFailure, ImageRef, Outcome, Sample
from pipeline.stages.architectures import transform_of
from pipeline.stages.batch import reformat
from pipeline.stages.classes import Classes
from pipeline.stages.decode import decode
from pipeline.stages.labels import wnid_of
from pipeline.stages.outcomes import encode_outcomes
from pipeline.stages.score import score

N_AHEAD = 3
"""Batches that are read and decoded before the model asks for them."""


def classify(task: Task, watch: Watch, is_compiled: bool) -> None:
    """Classify SOURCE's first N images in a loop with threads."""
    mend_allocator()
    store = S3Store(task.bucket, client_options={"allow_http": True})
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        load = partial(sample, store, task)
        coming = (
            [pool.submit(load, ref) for ref in refs] for refs in toolz.partition_all(BATCH_SIZE, listed(store, task))
        )
        ahead = deque(islice(coming, N_AHEAD))
        from benchmarks.ways.classifier import classifier  # noqa: PLC0415  torch: while the first batches are decoded

        model = classifier(task.weights, is_compiled=is_compiled)
        while ahead:
            batch = reformat(future.result() for future in ahead.popleft())
            ahead.extend(islice(coming, 1))
            outcomes += score(batch, model(batch.pixels), f"{len(outcomes):06d}", Classes())
            watch.classified(len(batch.refs))
    store.put(task.outcomes_key, encode_outcomes(outcomes, "by hand"), use_multipart=False)


def listed(store: S3Store, task: Task) -> Iterator[ImageRef]:
    """Yield the images in the order of their keys."""
    entries = (entry for page in store.list(task.prefix, chunk_size=1000) for entry in page)
    for entry in islice(entries, task.limit):
        url = f"s3://{task.bucket}/{entry['path']}"
        yield ImageRef(url, str(entry["e_tag"]).strip('"'), entry["size"], wnid_of(url))


def sample(store: S3Store, task: Task, ref: ImageRef) -> Sample | ImageFailure:
    """Read one image and decode it."""
    body = store.get(ref.url.removeprefix(f"s3://{task.bucket}/")).bytes()
    return decode(ref, bytes(body), transform_of(MODEL, task.weights))


main = command(classify, COMPILED)

if __name__ == "__main__":
    main()
