"""One job of one way, as a process of its own: its seconds, its cores, what it told, and what it left. Effects."""

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import click
import psutil

from benchmarks.answers import Answer, answers_below, check_complete, tutorial_names_below
from benchmarks.site import Site
from benchmarks.ways import TUTORIAL, WAYS

ROOT = Path(__file__).parent.parent

_PR_SET_CHILD_SUBREAPER = 36
"""From Linux's ``prctl.h``: orphans become the children of this process."""

_ORPHANS_END_S = 10.0
"""Seconds that processes have to end once the one that started them has ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one job told of itself."""

    figures: dict[str, Any]
    """See `figures_of`."""

    answers: dict[str, Answer]
    """By image; empty where the way has none, or others by design."""


def run_job(name: str, site: Site, n_images: int) -> Job:
    """Run one way over the first images of the site, check what it left, and clear it away.

    Raises
    ------
    click.ClickException
        If it fails, or leaves anything but an outcome for each image.
    """
    way, place = WAYS[name], f"{name}-{uuid4().hex[:8]}"
    folder = site.folder(place)
    options = ("--weights", site.weights, "--limit", str(n_images), *way.arguments)
    started, used = time.time(), _cpu_seconds()
    with _adopted_orphans(), _environment(has_cold_cache=way.has_cold_cache) as environment:
        told = _run(environment, f"benchmarks.ways.{way.module}", site.source, site.destination(place), *options)
        ended = time.time()
    if name != TUTORIAL and not told["batches"]:
        raise click.ClickException(f"{way.title} told of no batch")
    figures = figures_of(started, ended, _cpu_seconds() - used, told.get("batches", []), n_images)
    if not way.is_job:
        return Job(figures | {"images_per_s": None, "first_batch_s": None}, {})
    answers = {} if name == TUTORIAL else answers_below(folder)
    check_complete(way.title, set(answers) or tutorial_names_below(folder), site.images()[:n_images])
    figures |= told_by_run_json(folder)
    shutil.rmtree(folder)
    return Job(figures, answers)


def figures_of(
    started: float, ended: float, cpu_s: float, batches: list[tuple[float, int]], n_images: int
) -> dict[str, Any]:
    """Return a job's figures. Pure.

    Parameters
    ----------
    started, ended
        Of the process, in seconds since the epoch.
    cpu_s
        Of the process and its children.
    batches
        When each batch's answer was known, in seconds since the epoch, and its number of images.
    n_images
        Of the whole job.

    Returns
    -------
    dict[str, Any]
        ``seconds`` and ``images_per_s`` of the whole process, ``cores_busy`` on average, ``first_batch_s`` from the
        process's start, and ``steady_images_per_s`` between the first and the last batch; None what is not known.
    """
    figures: dict[str, Any] = {
        "seconds": round(ended - started, 2),
        "images_per_s": round(n_images / (ended - started), 3),
        "cores_busy": round(cpu_s / (ended - started), 2),
        "first_batch_s": round(batches[0][0] - started, 2) if batches else None,
        "steady_images_per_s": None,
    }
    if len(batches) > 1:
        n_later, seconds = sum(n for _, n in batches[1:]), batches[-1][0] - batches[0][0]
        figures["steady_images_per_s"] = round(n_later / seconds, 3)
    return figures


def told_by_run_json(folder: Path) -> dict[str, Any]:
    """Return what this project's own record tells of the time, where there is one."""
    path = folder / "run.json"
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return {"run_json": {"timings_s": record["timings_s"], "verdict": record["sessions"][-1].get("verdict")}}


@contextmanager
def _environment(*, has_cold_cache: bool) -> Iterator[dict[str, str]]:
    """Yield the environment of a job; with a cold cache its user's cache is empty, but for torch's own weights."""
    with TemporaryDirectory(prefix="bench-cache-") as empty:
        torch_home = os.environ.get("TORCH_HOME") or str(Path("~/.cache/torch").expanduser())
        cold = {"XDG_CACHE_HOME": empty, "TORCH_HOME": torch_home} if has_cold_cache else {}
        yield dict(os.environ) | cold


def _run(environment: dict[str, str], module: str, *args: str) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode:
        raise click.ClickException(f"{module} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@contextmanager
def _adopted_orphans() -> Iterator[None]:
    """Wait for what a job's process leaves behind, too: only of a child that was waited for is its time known."""
    others = set(psutil.Process().children())
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    yield
    psutil.wait_procs(set(psutil.Process().children()) - others, timeout=_ORPHANS_END_S)


def _cpu_seconds() -> float:
    """Return the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
