"""A DataLoader loop, as in the blog post "Accelerate Batched Image Inference in PyTorch"; ``--tuned`` by hand.

The post holds its images in memory; here the dataset gets each from S3, by boto3, with one client for each of the
DataLoader's processes. Batch size and number of workers are the post's own, and as it says "it should not exceed the
number of CPU cores". For its "some infer transform" stands the one that belongs to the weights. Tuned, the forward pass
is `benchmarks.ways.resnet.tuned`, and the batches are smaller: their activations stay nearer to the cores.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import boto3
import click
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models import ResNet50_Weights

from benchmarks.ways.command import Task, Watch, command
from benchmarks.ways.resnet import Forward, plain, tuned
from benchmarks.ways.rows import encode_rows
from cluster.local import usable_cores


@dataclass(frozen=True, slots=True)
class Settings:
    """What the post calls the parameters that impact the speed most, and the model."""

    batch_size: int
    num_workers: int
    forward: Callable[[str], Forward]


BLOG_POST = Settings(batch_size=64, num_workers=4, forward=plain)
TUNED = Settings(batch_size=16, num_workers=4, forward=tuned)


class InferDataset(Dataset[Tensor]):
    """The images of a bucket, transformed."""

    def __init__(self, bucket: str, keys: list[str]) -> None:
        self._bucket, self._keys = bucket, keys
        self._transform = ResNet50_Weights.IMAGENET1K_V2.transforms()

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, idx: int) -> Tensor:
        body = client().get_object(Bucket=self._bucket, Key=self._keys[idx])["Body"].read()
        image: Tensor = self._transform(Image.open(io.BytesIO(body)).convert("RGB"))
        return image


@cache
def client() -> Any:
    """Return this process's client: one that was used before a fork must not be used after it."""
    return boto3.client("s3")


def classify(task: Task, watch: Watch, is_tuned: bool) -> None:
    """Classify SOURCE's first N images in a DataLoader loop."""
    settings = TUNED if is_tuned else BLOG_POST
    keys = listed(task)
    loader = DataLoader(
        InferDataset(task.bucket, keys),
        batch_size=settings.batch_size,
        shuffle=False,
        num_workers=min(settings.num_workers, usable_cores()),
        pin_memory=torch.cuda.is_available(),
    )
    forward = settings.forward(task.weights)
    answers = []
    for images in loader:
        answers.append(forward(images))
        watch.classified(len(images))
    rows = encode_rows([f"s3://{task.bucket}/{key}" for key in keys], torch.cat(answers))
    client().put_object(Bucket=task.bucket, Key=task.outcomes_key, Body=rows)


def listed(task: Task) -> list[str]:
    """Return the keys of the images, sorted."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=task.bucket, Prefix=task.prefix)
    keys = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
    return list(islice(keys, task.limit))


main = command(classify, click.Option(["is_tuned", "--tuned"], is_flag=True, help="Tune it by hand."))

if __name__ == "__main__":
    main()
