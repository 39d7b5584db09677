"""Everything that needs a GPU, in one call: ``python benchmarks/gpu.py OUTPUT.json``.

Runs the demo on a LocalCUDACluster in bf16 and in fp32, checks its rows against each other, and measures the model
alone on ready pixels with CUDA events. Ends with status 1 where a check fails. Nothing here has been run on a GPU yet.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import torch

from pipeline.demo.home import made_weights
from pipeline.preflight import MODEL
from pipeline.records import ModelSpec
from pipeline.stages.architectures import transform_of
from pipeline.stages.model import Classifier, load_state_dict

BATCH_SIZE = 80
N_WARM_UP = 5
N_TIMED = 50


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--folder", default="demo", show_default=True, type=click.Path(path_type=Path), help="The demo's folder.")
def main(output: Path, folder: Path) -> None:
    """Run, check and measure the GPU path; write the figures to OUTPUT."""
    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device here: nothing was run")
    weights = made_weights(folder, click.echo)
    jobs = {precision: demo_job(folder, precision) for precision in ("bf16", "fp32")}
    record = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "jobs": {precision: job["timings_s"] | job["counts"] for precision, (job, _) in jobs.items()},
        "agreement": agreement(jobs["bf16"][1], jobs["fp32"][1]),
        "model_alone_images_per_s": {
            precision: model_alone(weights, precision) for precision in ("bf16", "fp16", "fp32")
        },
    }
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(record, indent=2))
    if record["agreement"]["class_index"] < 0.99:
        raise click.ClickException("bf16 and fp32 agree on fewer than 99 % of the images")


def demo_job(folder: Path, precision: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Run the demo on the GPUs; return its run.json, and its rows by image."""
    command = [
        sys.executable,
        "-m",
        "pipeline.demo",
        "--folder",
        str(folder),
        "--cluster",
        "cuda",
        "--precision",
        precision,
    ]
    subprocess.run(command, check=True)
    rows = pq.read_table(folder / "outcomes" / "outcomes").to_pylist()
    return json.loads((folder / "outcomes" / "run.json").read_text()), {row["image"]: row for row in rows}


def agreement(rows: dict[str, dict[str, Any]], exact: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return how far two runs over the same images agree."""
    if rows.keys() != exact.keys():
        raise click.ClickException("the two runs hold different images")
    good = [image for image, row in exact.items() if row["status"] == "ok"]
    same = [rows[image]["class_index"] == exact[image]["class_index"] for image in good]
    apart = [abs(rows[image]["probability"] - exact[image]["probability"]) for image in good]
    return {"class_index": float(np.mean(same)), "largest_probability_difference": float(np.max(apart))}


def model_alone(weights: Path, precision: str) -> float:
    """Return the images/s of the classifier on ready pixels in host memory, by CUDA events."""
    data = weights.read_bytes()
    spec = ModelSpec(MODEL, str(weights), "", transform_of(MODEL, str(weights)), precision)
    classifier = Classifier(spec, load_state_dict(data, str(weights)), "cuda")
    side = spec.transform.crop_size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, side, side, 3), np.uint8).transpose(0, 3, 1, 2)
    for _ in range(N_WARM_UP):
        classifier(pixels)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(N_TIMED):
        classifier(pixels)
    end.record()
    torch.cuda.synchronize()
    return round(N_TIMED * BATCH_SIZE / (begin.elapsed_time(end) / 1000), 1)


if __name__ == "__main__":
    main()
