"""Decoding alone, in as many threads as there are cores, of bytes that are in memory."""

from concurrent.futures import ThreadPoolExecutor

from obstore.store import S3Store

from benchmarks.ways.by_hand import listed
from benchmarks.ways.command import MODEL, Task, Watch, command
from cluster.local import usable_cores
from pipeline.records import ImageRef
from pipeline.stages.architectures import transform_of
from pipeline.stages.decode import decode


def classify(task: Task, watch: Watch) -> None:
    """Read SOURCE's first N images into memory, then decode them."""
    store = S3Store(task.bucket, client_options={"allow_http": True})
    refs = list(listed(store, task))
    bodies = [bytes(store.get(ref.url.removeprefix(f"s3://{task.bucket}/")).bytes()) for ref in refs]
    transform = transform_of(MODEL, task.weights)

    def crop(ref: ImageRef, body: bytes) -> None:
        decode(ref, body, transform)

    with ThreadPoolExecutor(usable_cores()) as pool:
        watch.classified(0)
        n_decoded = sum(1 for _ in pool.map(crop, refs, bodies))
        watch.classified(n_decoded)


main = command(classify)

if __name__ == "__main__":
    main()
