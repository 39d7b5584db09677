"""Whole jobs, this project's way against others', on one machine and one S3 server: ``make bench``.

All ways take turns, for several rounds, each as a process of its own over the same images and weights. What each is,
how it is measured and what bounds it stands in ``benchmarks/README.md``.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.answers import Answer, check_alike
from benchmarks.job import Job, run_job
from benchmarks.machine import competitors_versions, machine
from benchmarks.ratios import GOALS, Round
from benchmarks.server import rclone_server
from benchmarks.site import Site
from benchmarks.table import summary, table
from benchmarks.ways import BY_HAND, WAYS
from pipeline.demo.home import made_images, made_weights
from pipeline.demo.s3 import CREDENTIALS
from pipeline.running.provenance import versions
from pipeline.stages.precision import fastest_precision

N_WARM_UP = 8
"""Images of the jobs before the first round: they fetch packages and weights from the disk, and do not count."""

EAGER = [name for name, way in WAYS.items() if not way.is_compiled]
COMPILED = [name for name, way in WAYS.items() if way.is_compiled]

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--images", default=320, show_default=True, type=click.IntRange(min=N_WARM_UP), help="Images of a job.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Jobs of each way.")
@click.option("--ways", default=",".join(EAGER), show_default=True, help="Which ways, in which order.")
@click.option("--compiled", is_flag=True, help="And the ways whose model is compiled.")
@click.option("--folder", default="demo", show_default=True, help="Where the demo keeps drawings and weights.")
@click.option("--output", default=RESULTS / "bench.json", type=click.Path(path_type=Path), help="Where figures go.")
def main(images: int, rounds: int, ways: str, compiled: bool, folder: str, output: Path) -> None:
    """Measure whole jobs of several ways in turn; print a table, keep the figures as JSON."""
    names = [*_known(ways), *(COMPILED if compiled else ())]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: the server is ended
    with _site(Path(folder), images) as site:
        for name in names:
            if not WAYS[name].has_cold_cache:
                run_job(name, site, N_WARM_UP)
        circumstances = {"machine": machine(), "versions": versions() | competitors_versions()}
        measured: list[Round] = []
        for number in range(rounds):
            jobs = _round(_turned(names, number), site, images)
            measured.append({name: jobs[name].figures for name in names})
            record = circumstances | conclusions(measured, images)
            _keep(record, output)  # a later round may fail: what is measured is measured
    click.echo(table(record))


def conclusions(rounds: Sequence[Round], n_images: int) -> dict[str, Any]:
    """Return what the rounds so far tell, and their figures."""
    return {
        "n_images": n_images,
        "n_rounds": len(rounds),
        "precision": fastest_precision(),
        "summary": summary(rounds),
        "goals": [told for goal in GOALS if (told := goal.judged(rounds, n_images))],
        "rounds": rounds,
    }


def _keep(record: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _site(home: Path, n_images: int) -> Iterator[Site]:
    """Yield a full bucket on a running server, which this process's environment names."""
    weights = str(made_weights(home, click.echo).resolve())
    drawings = made_images(home, click.echo)
    with TemporaryDirectory(prefix="bench-", dir=home) as scratch:
        site = Site(Path(scratch) / "buckets", weights)
        site.fill(drawings, n_images)
        with rclone_server(site.root, Path(scratch) / "rclone.log") as endpoint:
            os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
            os.environ.pop("AWS_ENDPOINT_URL_S3", None)
            yield site


def _known(ways: str) -> list[str]:
    names = [name.strip() for name in ways.split(",")]
    if unknown := [name for name in names if name not in WAYS]:
        raise click.BadParameter(f"{unknown[0]} is no way; expected some of {', '.join(WAYS)}", param_hint="--ways")
    return names


def _turned(names: Sequence[str], number: int) -> list[str]:
    """Begin each round with another way: what comes after whom matters a little."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def _round(names: Sequence[str], site: Site, n_images: int) -> dict[str, Job]:
    jobs = {}
    for name in names:
        jobs[name] = run_job(name, site, n_images)
        click.echo(f"{name:<20} {_brief(jobs[name].figures)}", err=True)
    reference = jobs[BY_HAND].answers if BY_HAND in jobs else {}
    for name, job in jobs.items():
        if reference and job.answers and not WAYS[name].has_own_transform:
            job.figures["n_ties_answered_otherwise"] = _n_ties(name, job.answers, reference)
    return jobs


def _n_ties(name: str, answers: dict[str, Answer], reference: dict[str, Answer]) -> int:
    return check_alike(WAYS[name].title, answers, reference, fastest_precision())


def _brief(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {figures[name]}" for name in ("seconds", "steady_images_per_s", "first_batch_s"))


if __name__ == "__main__":
    main()
