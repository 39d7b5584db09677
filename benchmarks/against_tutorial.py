"""Whole jobs, the tutorial's way against this project's, on one machine and one S3 server.

``python benchmarks/against_tutorial.py`` fills the embedded S3 server with the demo's drawings (made at the first
time, like the weights), then runs both ways in turn, each as a process of its own. Seconds count from before a process
starts until it has ended: imports, cluster, model, work and goodbye. A ratio compares the two jobs of one pair, so that
a machine that is slower for a while slows both. Every job is checked: an outcome for each image, or no figure.

Two things differ by design, and are part of the answer. The tutorial crops to 250 x 250 pixels, 1.25 times the
arithmetic of this project's 224 x 224; and it always computes in fp32, where this project takes what the CPU is best
at. The images are those that both can use: the unusable ones, which would cost the tutorial 80 images each, are left
out, and all are called ``.jpg``, whatever they are inside, since the tutorial lists nothing else.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

import click
import psutil

from cluster.local import usable_cores
from pipeline.demo.home import made_images, made_weights, objects_below
from pipeline.demo.images import FIRST_UNUSABLE_NUMBER
from pipeline.demo.s3 import CREDENTIALS, fill_bucket, s3_server
from pipeline.destination import RUN_JSON
from pipeline.provenance import versions
from pipeline.stages.labels import categories
from pipeline.storage import join, options_from_environment, read_whole

BUCKET = "against-tutorial"
SOURCE = f"s3://{BUCKET}/dogs/Images"  # the tutorial finds truth and name by "dogs/Images/"
TUTORIAL_OUTCOMES = f"s3://{BUCKET}/outcomes-tutorial"
PROJECT_OUTCOMES = f"s3://{BUCKET}/outcomes-project"

N_WARM_UP = 8
"""Images of the jobs that go before the first pair: they fetch packages and weights from the disk, and do not count."""

HERE = Path(__file__).parent


@click.command()
@click.option("--images", default=720, show_default=True, type=click.IntRange(N_WARM_UP, 720), help="Take N images.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1), help="Pairs of jobs.")
@click.option("--folder", default="demo", show_default=True, help="Where the demo keeps drawings and weights.")
def main(images: int, repeats: int, folder: str) -> None:
    """Measure whole jobs, the tutorial's way and this project's in turn; print a table, keep the figures."""
    home = Path(folder)
    weights = str(made_weights(home, click.echo).resolve())
    drawings = made_images(home, click.echo)
    with s3_server() as endpoint:
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
        fill_bucket(BUCKET, _tutorial_objects(drawings, images))
        for job in (tutorial_job, project_job):
            job(weights, N_WARM_UP)
        circumstances = {"machine": machine(), "versions": versions()}
        pairs = [_measured_pair(weights, images) for _ in range(repeats)]
    record = circumstances | {"images": images, "repeats": repeats} | summary(pairs, images) | {"pairs": pairs}
    click.echo(table(record))
    path = HERE / "results" / "against_tutorial.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def tutorial_job(weights: str, n_images: int) -> dict[str, Any]:
    """Return the seconds of one job the tutorial's way, and what it said of itself."""
    script = str(HERE / "tutorial.py")
    seconds, output = _timed(script, SOURCE, TUTORIAL_OUTCOMES, "--weights", weights, "--limit", str(n_images))
    told = json.loads(output.splitlines()[-1])
    _check("the tutorial", told["outcomes_ok"], n_images)
    return {"seconds": seconds, "told": told}


def project_job(weights: str, n_images: int) -> dict[str, Any]:
    """Return the seconds of one job this project's way, and what it said of itself."""
    options = ("--weights", weights, "--limit", str(n_images), "--overwrite")
    seconds, _ = _timed("-m", "pipeline.run", SOURCE, PROJECT_OUTCOMES, *options)
    told = json.loads(read_whole(join(PROJECT_OUTCOMES, RUN_JSON), options_from_environment()))
    _check("pipeline.run", told["counts"]["n_ok"], n_images)
    return {"seconds": seconds, "told": {"timings_s": told["timings_s"], "fingerprint_of": told["fingerprint_of"]}}


def summary(pairs: list[dict[str, Any]], n_images: int) -> dict[str, Any]:
    """Return minimum, median and maximum of seconds, images/s and ratio. Pure.

    Parameters
    ----------
    pairs
        One job of either way each, in the order of their running.
    n_images
        Images of every job.
    """
    seconds = {way: [pair[way]["seconds"] for pair in pairs] for way in ("tutorial", "project")}
    return {
        "seconds": {way: _spread(values) for way, values in seconds.items()},
        "images_per_s": {way: _spread([n_images / value for value in values]) for way, values in seconds.items()},
        "tutorial_over_project": _spread([pair["tutorial"]["seconds"] / pair["project"]["seconds"] for pair in pairs]),
    }


def table(record: dict[str, Any]) -> str:
    """Return the figures for people. Pure."""
    machine_ = record["machine"]
    lines = [
        f"{record['images']} images, {record['repeats']} pairs of whole jobs on {machine_['cpu']}, "
        f"{machine_['cores']} cores, {machine_['ram_gib']} GiB (min / median / max)",
        f"{'':22}{'seconds':>25}{'images/s':>25}",
    ]
    for way, name in (("tutorial", "the tutorial's way"), ("project", "this project")):
        lines.append(f"{name:22}{_cells(record['seconds'][way])}{_cells(record['images_per_s'][way])}")
    lines.append(f"{'times as fast, by pair':22}{'':25}{_cells(record['tutorial_over_project'], 2)}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, and how busy it was with other things before."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _measured_pair(weights: str, n_images: int) -> dict[str, Any]:
    pair = {"tutorial": tutorial_job(weights, n_images), "project": project_job(weights, n_images)}
    click.echo("pair: " + ", ".join(f"{way} {job['seconds']:.1f} s" for way, job in pair.items()), err=True)
    return pair


def _timed(*args: str) -> tuple[float, str]:
    """Run Python with `args`; return the seconds that the whole process took, and its standard output."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise click.ClickException(f"{args} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return round(seconds, 2), done.stdout


def _check(who: str, n_outcomes: int, n_images: int) -> None:
    if n_outcomes != n_images:
        raise click.ClickException(f"{who} made {n_outcomes} good outcomes of {n_images} images: no fair comparison")


def _tutorial_objects(drawings: Path, n_images: int) -> Iterator[tuple[str, bytes]]:
    """Yield the tutorial's file of classes and the first good images, by key, all called ``.jpg``."""
    lines = [f"{index}: {name!r},\n" for index, name in enumerate(categories())]
    yield "dogs/imagenet1000_clsidx_to_labels.txt", "".join(lines).encode()
    good = ((PurePosixPath(key), data) for key, data in objects_below(drawings) if _number(key) < FIRST_UNUSABLE_NUMBER)
    for path, data in islice(good, n_images):
        yield f"dogs/{path.with_suffix('.jpg')}", data


def _number(key: str) -> int:
    """Return the number in a drawing's name.

    >>> _number("Images/n02085620-Chihuahua/n02085620_10002.jpg")
    10002
    """
    return int(PurePosixPath(key).stem.rpartition("_")[2])


def _spread(values: list[float]) -> dict[str, float]:
    return {name: round(of(values), 2) for name, of in (("min", min), ("median", median), ("max", max))}


def _cells(spread: dict[str, float], digits: int = 1) -> str:
    return f"{' / '.join(f'{value:.{digits}f}' for value in spread.values()):>25}"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
