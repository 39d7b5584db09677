"""Everything that needs a GPU, in one call: ``python -m benchmarks.gpu OUTPUT.json``, under 9 minutes on an H200.

Measures what the device and the cores can do alone, then whole jobs on a LocalCUDACluster, over the demo's drawings
many times over, and holds the one against the other; and checks that precisions agree, and that memory that runs out
loses no row. A section that fails is told, and costs no other. Ends with status 1 where a check or a section failed.
Nothing here has been run on a GPU yet.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks import gpu_device
from pipeline.demo.home import made_images, made_weights
from pipeline.demo.images import FIRST_UNUSABLE_NUMBER
from pipeline.running.provenance import versions

BUDGET_S = 500.0
"""Seconds after which no section begins."""

SAMPLE_S = 0.05
"""Between two looks at the device's utilisation."""

GOAL = 0.9
"""Of the smaller of model alone and decoding alone, and of the time that the GPU should be busy."""


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--folder", default="demo", show_default=True, type=click.Path(path_type=Path), help="The demo's folder.")
@click.option("--images", default=40_000, show_default=True, help="Images of a whole job.")
def main(output: Path, folder: Path, images: int) -> None:
    """Run, check and measure the GPU path; write the figures to OUTPUT."""
    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device here: nothing was run")
    began = time.monotonic()
    weights = made_weights(folder, click.echo).resolve()
    drawings = good_drawings(made_images(folder, click.echo))
    jpegs = [path.read_bytes() for path in drawings if path.read_bytes()[:2] == b"\xff\xd8"][:320]
    source = multiplied(drawings, folder / "many", images)
    late = lambda: time.monotonic() - began > BUDGET_S / 2  # noqa: E731  the rest is for the jobs
    sections: dict[str, Callable[[], Any]] = {
        "decoding": partial(gpu_device.decoding, weights, jpegs),
        "copies_gb_per_s": partial(gpu_device.copies, weights),
        "nvjpeg": partial(gpu_device.nvjpeg, jpegs),
        "out_of_memory": partial(gpu_device.out_of_memory, weights, jpegs),
        "job_bf16": partial(job, source, folder / "gpu-bf16", weights, "bf16"),
        "job_fp32": partial(job, source, folder / "gpu-fp32", weights, "fp32"),
        "job_fp16": partial(job, source, folder / "gpu-fp16", weights, "fp16"),
        "agreement": partial(agreements, folder),
        "model_alone": partial(gpu_device.model_alone, weights, late),
        "job_bf16_again": partial(job, source, folder / "gpu-bf16", weights, "bf16"),
        "job_bf16_more_threads": partial(
            job, source, folder / "gpu-bf16", weights, "bf16", "--threads-per-worker", str(2 * n_cores())
        ),
    }
    record = {"device": torch.cuda.get_device_name(), "cores": n_cores(), "versions": versions()}
    for name, section in sections.items():
        record[name] = guarded(section, began)
        click.echo(f"{name}: {json.dumps(record[name])[:500]}", err=True)
        output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    record["verdict"] = verdict(record)
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(record["verdict"], indent=2))
    if faults := faults_of(record):
        raise click.ClickException("; ".join(faults))


def guarded(section: Callable[[], Any], began: float) -> Any:
    """Return what a section measured, with its seconds, or why it has nothing to tell."""
    started = time.monotonic()
    if started - began > BUDGET_S:
        return {"skipped": f"{BUDGET_S:g} s were over"}
    try:
        return {"result": section(), "took_s": round(time.monotonic() - started, 1)}
    except Exception as error:  # noqa: BLE001  told, and the others go on
        return {"error": f"{type(error).__name__}: {str(error)[:2000]}"}


def job(source: Path, destination: Path, weights: Path, precision: str, *more: str) -> dict[str, Any]:
    """Run the command on this machine's GPU; return its images/s, and how busy the GPU was while it worked."""
    options = ("--cluster", "cuda", "--weights", str(weights), "--precision", precision, "--overwrite", *more)
    command = [sys.executable, "-m", "pipeline.run", str(source), str(destination), *options]
    started = time.monotonic()
    with utilisation() as samples:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr[-1500:]}")
    told = json.loads((destination / "run.json").read_text(encoding="utf-8"))
    busy = steady(samples)
    return {
        "images_per_s": round(told["counts"]["n_images"] / seconds, 1),
        "steady_images_per_s": round(told["counts"]["n_images"] / max(busy["span_s"], SAMPLE_S), 1),
        "gpu_busy": busy,
        "session": told["sessions"][-1],
        "last_lines": done.stdout.splitlines()[-12:],
    }


@contextmanager
def utilisation() -> Any:
    """Yield a list that fills up with (seconds, share of the time in which the GPU computed), by NVML."""
    import pynvml  # noqa: PLC0415  comes with dask-cuda

    pynvml.nvmlInit()
    handle, samples, is_over = pynvml.nvmlDeviceGetHandleByIndex(0), [], threading.Event()

    def look() -> None:
        while not is_over.wait(SAMPLE_S):
            samples.append((time.monotonic(), pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def steady(samples: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return how busy the GPU was between the first and the last time that it was at work. Pure.

    >>> steady([(0, 0), (1, 0.5), (2, 1.0), (3, 0.9), (4, 0)])
    {'mean': 0.8, 'span_s': 2.0}
    """
    at_work = [i for i, (_, share) in enumerate(samples) if share > 0]
    if not at_work:
        return {"mean": 0.0, "span_s": 0.0}
    within = samples[at_work[0] : at_work[-1] + 1]
    return {
        "mean": round(float(np.mean([share for _, share in within])), 3),
        "span_s": round(float(within[-1][0] - within[0][0]), 2),
    }


def agreements(folder: Path) -> dict[str, dict[str, float]]:
    """Return how far each precision's rows agree with those of fp32."""
    exact = rows_of(folder / "gpu-fp32")
    return {precision: agreement(rows_of(folder / f"gpu-{precision}"), exact) for precision in ("bf16", "fp16")}


def rows_of(destination: Path) -> dict[str, dict[str, Any]]:
    """Return a job's rows by image."""
    columns = ["image", "status", "class_index", "probability"]
    return {row["image"]: row for row in pq.read_table(destination / "outcomes", columns=columns).to_pylist()}


def agreement(rows: dict[str, dict[str, Any]], exact: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return how far two runs over the same images agree. Pure."""
    if rows.keys() != exact.keys():
        raise ValueError(f"{len(rows.keys() ^ exact.keys())} images are in one run only")
    good = [image for image, row in exact.items() if row["status"] == "ok"]
    same = [rows[image]["class_index"] == exact[image]["class_index"] for image in good]
    apart = [abs(rows[image]["probability"] - exact[image]["probability"]) for image in good]
    return {"class_index": float(np.mean(same)), "largest_probability_difference": float(np.max(apart))}


def verdict(record: dict[str, Any]) -> dict[str, Any]:
    """Return the job against the smaller of model alone and decoding alone, and against the goals. Pure."""
    results = {name: part["result"] for name, part in record.items() if isinstance(part, dict) and "result" in part}
    rows = [row for row in results.get("model_alone", []) if (row["precision"], row["form"]) == ("bf16", "graph")]
    alone = [row["images_per_s"] for row in rows if "images_per_s" in row]
    jobs = [results[name] for name in ("job_bf16", "job_bf16_again") if name in results]
    if not alone or not jobs or "decoding" not in results:
        return {"incomplete": True}
    model, decoding = max(alone), results["decoding"]["images_per_s"]
    best = max(jobs, key=lambda told: told["steady_images_per_s"])
    share = best["steady_images_per_s"] / min(model, decoding)
    busy = best["gpu_busy"]["mean"]
    return {
        "model_alone": model,
        "decoding_alone": decoding,
        "job_steady": best["steady_images_per_s"],
        "share_of_the_smaller": round(share, 3),
        "gpu_busy": busy,
        "goal_met": share >= GOAL and (busy >= GOAL or decoding < model),
    }


def faults_of(record: dict[str, Any]) -> list[str]:
    """Return, for people, the checks and sections that failed. Pure."""
    faults = [f"{name}: {part['error']}" for name, part in record.items() if isinstance(part, dict) and "error" in part]
    agreed = record.get("agreement", {}).get("result", {})
    faults += [
        f"{precision} and fp32 agree on {told['class_index']:.2%} of the images"
        for precision, told in agreed.items()
        if told["class_index"] < 0.99
    ]
    halved = record.get("out_of_memory", {}).get("result")
    if halved and (halved["rows"] != 640 or halved["same_class"] < 0.99):
        faults.append(f"memory that ran out changed rows: {halved}")
    return faults


def good_drawings(folder: Path) -> list[Path]:
    """Return the drawings that every decoder takes."""
    paths = sorted(path for path in folder.rglob("n*_*.*") if path.is_file())
    return [path for path in paths if int(path.stem.rpartition("_")[2]) < FIRST_UNUSABLE_NUMBER]


def multiplied(drawings: Sequence[Path], folder: Path, n_images: int) -> Path:
    """Return a folder with so many images, each drawing many times over under names of its own, by hard links."""
    for i in range(n_images):
        path = drawings[i % len(drawings)]
        link = folder / path.parent.name / f"{path.stem}{i // len(drawings):04d}{path.suffix}"
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
    return folder


def n_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
