"""What the engine itself costs per image, and whether that, or its memory, grows with the bucket.

``python -m benchmarks.scale`` carries 10 thousand, 100 thousand and 1 million images through the real listing, plan,
window, graphs, commits and resume, and plans and resumes 10 million. Only reading, decoding and the model are stand-ins
(``scale_stand_ins.py``), whose share of the processors is taken away: what is left is the engine's own. The client, the
scheduler and the one worker are processes of their own, and each phase of each size has new ones (``scale_phase.py``).
One small run goes before what is measured. Resuming 10 million goes on from outcomes that were never computed, but
written from the plan that the phase before has left.

Seconds are of one core, added up over all processes; memory is the peak of a process's resident set, libraries
included. Images of batches are 224 x 224 pixels, so that stacking moves the bytes that it moves in life.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pyarrow.parquet as pq

from benchmarks.machine import machine
from benchmarks.made_up import answered
from benchmarks.scale_phase import BATCHES_PER_PART, FINGERPRINT, PART_SIZE
from benchmarks.scale_stand_ins import TRANSFORM
from pipeline.destination import part_name

HERE = Path(__file__).parent
ENGINE = ("client", "scheduler", "worker")


GOAL_MS = 0.25
GOAL_GROWTH = 0.10
GOAL_MIB = 150


@click.command()
@click.option("--sizes", default="10_000,100_000,1_000_000", show_default=True, help="Images carried through all.")
@click.option(
    "--plan-sizes", default="1_000_000,10_000_000", show_default=True, help="Images planned and resumed only."
)
@click.option("--folder", type=click.Path(file_okay=False), help="Where all is written (default: a temporary folder).")
@click.option("--result", default=str(HERE / "results" / "scale.json"), show_default=True, help="Where figures go.")
def main(sizes: str, plan_sizes: str, folder: str | None, result: str) -> None:
    """Measure the engine's own cost per image and its memory, by the number of images; print a table."""
    began, circumstances = time.monotonic(), {"machine": machine(), "versions": versions(), "settings": settings()}
    click.echo(HEADING)
    runs = []
    for run in measured(numbers(sizes), numbers(plan_sizes), folder):
        click.echo(line(run))
        runs.append(run)
    goals = list(verdicts(runs))
    for goal in goals:
        click.echo(f"{'holds ' if goal['holds'] else 'MISSED'} {goal['goal']}: {goal['found']}")
    took = {"took_s": round(time.monotonic() - began)}
    Path(result).parent.mkdir(exist_ok=True)
    content = circumstances | took | {"runs": runs, "goals": goals}
    Path(result).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measured(sizes: list[int], plan_sizes: list[int], folder: str | None) -> Iterator[dict[str, Any]]:
    """Yield the figures of every phase of every size."""
    for n_images in sizes:
        with TemporaryDirectory(dir=folder) as place:
            for phase in ("everything", "resume", "finished"):
                yield carried_out(phase, n_images, place)
    for n_images in plan_sizes:
        with TemporaryDirectory(dir=folder) as place:
            yield carried_out("planning", n_images, place)
            make_outcomes(Path(place) / "out")
            yield carried_out("resume", n_images, place, goes_on_from="planning")


def carried_out(phase: str, n_images: int, place: str, goes_on_from: str = "everything") -> dict[str, Any]:
    """Return what one phase told, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_phase", phase, str(n_images), place]
    paths = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | paths)
    if done.returncode:
        raise click.ClickException(f"{phase} of {n_images:,} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    per_image_us = {name: round(seconds / n_images * 1e6, 2) for name, seconds in told["cpu_s"].items()}
    engine_us = round(sum(per_image_us.get(name, 0) for name in ENGINE), 2)
    about = {"phase": phase, "n_images": n_images, "goes_on_from": goes_on_from}
    return about | told | {"us_per_image": per_image_us, "engine_us_per_image": engine_us}


def make_outcomes(destination: Path) -> None:
    """Write made-up outcomes of every planned image."""
    (destination / "outcomes").mkdir(exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(_make_outcomes_of, destination.glob("plan/page-*.parquet")))


def _make_outcomes_of(path: Path) -> None:
    page, destination = pq.read_table(path), path.parent.parent
    rows = answered(page.drop_columns("part")).replace_schema_metadata({b"fingerprint": FINGERPRINT})
    for begin in range(0, len(page), PART_SIZE):
        part = page["part"][begin].as_py()
        pq.write_table(rows.slice(begin, PART_SIZE), destination / part_name(part), compression="zstd")


def verdicts(runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the figures say of each goal. Pure."""
    whole = [run for run in runs if run["phase"] == "everything"]
    for run in whole[-1:]:
        ms = run["engine_us_per_image"] / 1000
        yield verdict(f"at most {GOAL_MS} ms of one core per image", ms <= GOAL_MS, f"{ms:.3f} ms")
    for phase in ("everything", "planning", "resume", "finished"):
        by_size = {run["n_images"]: run for run in runs if run["phase"] == phase}
        if len(by_size) > 1:
            yield _flatness(phase, [by_size[n_images] for n_images in sorted(by_size)[-2:]])
    if len(whole) > 1:
        yield from (_memory(process, whole) for process in ("client", "scheduler"))


def verdict(goal: str, holds: bool, found: str) -> dict[str, Any]:
    """Return one goal and what was found."""
    return {"goal": goal, "holds": holds, "found": found}


def _flatness(phase: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    costs = [run["engine_us_per_image"] for run in runs]
    growth = max(costs) / min(costs) - 1
    told = ", ".join(f"{run['n_images']:,}: {run['engine_us_per_image']:.1f} us" for run in runs)
    return verdict(f"{phase} flat within {GOAL_GROWTH:.0%}", growth <= GOAL_GROWTH, f"{growth:.1%} apart ({told})")


def _memory(process: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    few, many = runs[0], runs[-1]
    more = many["peak_mib"][process] - few["peak_mib"][process]
    goal = f"{process} memory at {many['n_images']:,} within {GOAL_MIB} MiB of that at {few['n_images']:,}"
    return verdict(goal, more <= GOAL_MIB, f"{more:+d} MiB")


HEADING = (
    f"{'':<10} {'':>11} {'':>8} {'':>9} | {'us of one core per image':<35} | {'peak MiB':<23}\n"
    f"{'phase':<10} {'images':>11} {'wall s':>8} {'images/s':>9} | {'client':>7} {'scheduler':>9} {'worker':>7} "
    f"{'engine':>8} | {'client':>6} {'scheduler':>9} {'worker':>6}"
)


def line(run: dict[str, Any]) -> str:
    """Return one measurement for people. Pure."""
    us, mib = run["us_per_image"], run["peak_mib"]
    return (
        f"{run['phase']:<10} {run['n_images']:>11,} {run['wall_s']:>8.1f} {run['n_images'] / run['wall_s']:>9,.0f} | "
        f"{us['client']:>7.1f} {us.get('scheduler', 0):>9.1f} {us.get('worker', 0):>7.1f} "
        f"{run['engine_us_per_image']:>8.1f} | "
        f"{mib['client']:>6} {mib.get('scheduler', 0):>9} {mib.get('worker', 0):>6}"
    )


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as 10_000,100_000, ascending. Pure."""
    return sorted(int(number) for number in text.split(",") if number.strip())


def settings() -> dict[str, Any]:
    """Return how the images are cut."""
    from benchmarks.scale_cluster import N_SLOTS  # noqa: PLC0415

    size = PART_SIZE // BATCHES_PER_PART
    return {"batch_size": size, "batches_per_part": BATCHES_PER_PART, "slots": N_SLOTS, "pixels": TRANSFORM.crop_size}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the figures."""
    names = ("dask", "distributed", "pyarrow", "numpy", "fsspec")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


if __name__ == "__main__":
    main()
