"""The tutorial's own way of doing the job: what this project is measured against.

Graph and steps are those of Saturn Cloud's "Batch Inference with PyTorch", its mistakes included; only what could not
run was repaired:

- Lines that our copy of the text lacks (decorators, appends, ``return``, ``client.map``, the list of transforms) are
  filled in from the words around them.
- Outcomes are written as one JSON object per batch: the text says that they go back to S3 and not how. They are
  returned here too.
- Weights come from a state dict, still for every batch: ``pretrained=True`` needs the internet and is no longer taken.
- ``LocalCluster()`` takes the place of SaturnCluster, which needs an account; it is new, so neither is there a wait for
  six workers.
- S3 is read with credentials, not ``anon=True``: a public bucket could not take the outcomes. Places come from the
  command line; the file of classes is expected where the tutorial has it, beside the folder ``Images``.
- ``main`` is guarded: a script's workers import it when they start. Its results are counted, not plotted.

Like the tutorial it needs a SOURCE that ends in ``dogs/Images``, lists nothing but ``*/*.jpg``, and loses 80 images
to a broken one. It prints one line of JSON; its seconds count from the start of the process to the last outcome.
"""

import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import click
import dask
import psutil
import s3fs
import toolz
import torch
from dask.distributed import Client, LocalCluster
from PIL import Image
from torch import Tensor
from torchvision import models, transforms

CLASSES = "imagenet1000_clsidx_to_labels.txt"
"""One line for each of ImageNet's 1,000 classes, by class index: ``151: 'Chihuahua',``."""

s3 = s3fs.S3FileSystem()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dask.delayed
def preprocess(path: str, fs: Any = __builtins__) -> list[Any]:
    """Ingest an image directly from S3, transform it, and extract the ground truth and identifier from its path."""
    transform = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(250), transforms.ToTensor()])

    with fs.open(path, "rb") as f:
        img = Image.open(f).convert("RGB")
        nvis = transform(img)

    truth = re.search("dogs/Images/n[0-9]+-([^/]+)/n[0-9]+_[0-9]+.jpg", path).group(1)
    name = re.search("dogs/Images/n[0-9]+-[a-zA-Z-_]+/(n[0-9]+_[0-9]+).jpg", path).group(1)
    return [name, nvis, truth]


@dask.delayed
def reformat(batch: list[list[Any]]) -> list[Any]:
    """Structure the dataset to allow inference in batches: names, (N, 3, 250, 250) float32 on the device, labels."""
    flat_list = list(batch)
    tensors = [x[1] for x in flat_list]
    names = [x[0] for x in flat_list]
    labels = [x[2] for x in flat_list]
    tensors = torch.stack(tensors).to(device)
    return [names, tensors, labels]


def evaluate_pred_batch(batch: Tensor, gtruth: list[str], classes: list[bytes]) -> tuple[list[Any], list[str]]:
    """Return human readable predictions; the percentages are those of image 0 (a mistake of the tutorial's)."""
    _, indices = torch.sort(batch, descending=True)
    percentage = torch.nn.functional.softmax(batch, dim=1)[0] * 100
    preds = []
    labslist = []
    for i in range(len(batch)):
        pred = [(classes[idx], percentage[idx].item()) for idx in indices[i][:1]]
        preds.append(pred)
        labs = gtruth[i]
        labslist.append(labs)
    return (preds, labslist)


def is_match(label: str, pred: list[tuple[bytes, float]]) -> bool:
    """Evaluate a human readable prediction against ground truth: by substring (a mistake of the tutorial's)."""
    return re.search(label.replace("_", " "), str(pred).replace("_", " ")) is not None


@dask.delayed
def run_batch_to_s3(iteritem: list[Any], classes_path: str, weights: str, destination: str) -> list[dict[str, Any]]:
    """Accept the result of preprocessing, generate inferences, evaluate, and write the outcomes to S3."""
    names, images, truelabels = iteritem
    with s3.open(classes_path) as f:
        classes = [line.strip() for line in f.readlines()]

    resnet = models.resnet50()
    resnet.load_state_dict(torch.load(weights, weights_only=True))
    resnet = resnet.to(device)

    with torch.no_grad():
        resnet.eval()
        pred_batch = resnet(images)
        preds, labslist = evaluate_pred_batch(pred_batch, truelabels, classes)

        outcomes = []
        for j in range(len(images)):
            match = is_match(labslist[j], preds[j])
            outcome = {"name": names[j], "ground_truth": labslist[j], "prediction": preds[j], "evaluation": match}
            outcomes.append(outcome)
    with s3.open(f"{destination}/{names[0]}.json", "wb") as f:
        f.write(json.dumps(outcomes, default=bytes.decode).encode())
    return outcomes


def classify(client: Client, paths: list[str], places: dict[str, str]) -> tuple[list[dict[str, Any]], list[Exception]]:
    """Return the outcomes of the batches that went well, and the errors of the others."""
    batch_breaks = [list(batch) for batch in toolz.partition_all(80, paths)]
    image_batches = [[preprocess(x, fs=s3) for x in y] for y in batch_breaks]
    image_batches = [reformat(result) for result in image_batches]

    # The function is delayed too: map only has the workers make a Delayed of each batch, gather fetches those, and
    # compute is what runs them.
    futures = client.map(run_batch_to_s3, image_batches, **places)
    futures_gathered = client.gather(futures)
    futures_computed = client.compute(futures_gathered, sync=False)

    results = []
    errors = []
    for fut in futures_computed:
        try:
            result = fut.result()
        except Exception as e:  # noqa: BLE001  the tutorial's own
            errors.append(e)
            logging.error(e)  # noqa: TRY400  likewise
        else:
            results.extend(result)
    return results, errors


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--weights", required=True, type=click.Path(exists=True), help="State dict of torchvision's ResNet50.")
@click.option("--limit", type=click.IntRange(min=1), help="Take the first N images.")
def main(source: str, destination: str, weights: str, limit: int | None) -> None:
    """Classify SOURCE/*/*.jpg the tutorial's way and write the outcomes of each batch to DESTINATION."""
    source = source.rstrip("/")
    places = {
        "classes_path": f"{source.rpartition('/')[0]}/{CLASSES}",
        "weights": str(Path(weights).resolve()),
        "destination": destination.rstrip("/"),
    }
    with LocalCluster() as cluster, Client(cluster) as client:
        paths = s3.glob(f"{source}/*/*.jpg")[:limit]
        results, errors = classify(client, paths, places)
        seconds = time.time() - psutil.Process().create_time()
    true_preds = [x["evaluation"] for x in results if x["evaluation"]]
    report = {
        "images": len(paths),
        "seconds": round(seconds, 2),
        "images_per_s": round(len(paths) / seconds, 2),
        "outcomes_ok": len(results),
        "outcomes_missing": len(paths) - len(results),
        "batches_in_error": len(errors),
        "called_a_match": len(true_preds),
    }
    click.echo(json.dumps(report))


if __name__ == "__main__":
    main()
