"""The tutorial, tuned by hand: still s3fs, Delayed and batches of 80, without what made it slow.

One ``preprocess`` task reads and transforms a whole batch (a task for each image moves tensors of 0.6 MB between the
workers); the transform is the one that belongs to the weights; each worker loads the model once; the forward pass is
`benchmarks.ways.resnet.tuned`; the graph is computed as it is, without a detour over ``map`` and ``gather``. Outcomes
are a Parquet object for each batch.
"""

import io

import dask
import s3fs
import toolz
import torch
from dask.distributed import Client, LocalCluster, as_completed
from PIL import Image
from torch import Tensor
from torchvision.models import ResNet50_Weights

from benchmarks.ways.command import Task, Watch, command
from benchmarks.ways.resnet import shared
from benchmarks.ways.rows import encode_rows


@dask.delayed
def preprocess(paths: list[str]) -> Tensor:
    """Read images and transform them: (N, 3, 224, 224) float32."""
    transform = ResNet50_Weights.IMAGENET1K_V2.transforms()
    bodies = s3fs.S3FileSystem().cat(paths)
    return torch.stack([transform(Image.open(io.BytesIO(bodies[path])).convert("RGB")) for path in paths])


@dask.delayed
def run_batch_to_s3(paths: list[str], images: Tensor, weights: str, outcomes: str) -> int:
    """Classify a batch, write its outcomes and return the number of its images."""
    rows = encode_rows([f"s3://{path}" for path in paths], shared(weights)(images))
    s3fs.S3FileSystem().pipe_file(outcomes, rows)
    return len(paths)


def classify(task: Task, watch: Watch) -> None:
    """Classify SOURCE's first N images with Dask, as the tutorial does, tuned by hand."""
    with LocalCluster() as cluster, Client(cluster) as client:
        paths = s3fs.S3FileSystem().glob(f"{task.source}/*/*.jpg")[: task.limit]
        batches = [list(batch) for batch in toolz.partition_all(80, paths)]
        graph = [
            run_batch_to_s3(batch, preprocess(batch), task.weights, f"{task.destination}/outcomes/{number:06d}.parquet")
            for number, batch in enumerate(batches)
        ]
        for _, n_images in as_completed(client.compute(graph), with_results=True):
            watch.classified(n_images)


main = command(classify)

if __name__ == "__main__":
    main()
