"""One run of a bottleneck made by hand, on worker processes of this machine. Effects: files, processes."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import numpy as np
from distributed import Client, Nanny, Scheduler, SpecCluster
from PIL import Image

from benchmarks.bottlenecks import BATCH_SIZE, RESOURCE, Case, load_model, received_bytes, slow_down, slowly
from cluster.local import frugal_processes
from pipeline.destination import RUN_JSON, SUCCESS, Destination
from pipeline.engine.account import Account
from pipeline.engine.drive import Driver, Limits
from pipeline.engine.graph import Batching
from pipeline.engine.plan import PlanTotals
from pipeline.engine.worker import Job, prepared_workers, worker_facts
from pipeline.evaluation.verdict import Verdict
from pipeline.records import Tally, Transform
from pipeline.running.provenance import Stopwatch, told_session
from pipeline.stages.listing import Selection, select
from pipeline.storage import open_storage, options_from_environment, resolve_url

SIZES = {"small": (12, 10), "large": (3000, 2000)}

_LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


class Silent:
    """Nobody watches."""

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """Do nothing."""

    def found(self, n_images: int) -> None:
        """Do nothing."""

    def classified(self, n_images: int) -> None:
        """Do nothing."""

    def committed(self, tally: Tally) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case."""

    images_per_s: float
    """In steady state; of the whole run where it is bound by its start-up."""

    verdict: Verdict

    received_bytes: int
    """That the workers with a model had from the others."""


def draw(folder: Path, n_images: dict[str, int]) -> None:
    """Draw so many images of each size: the large ones with grain, so that they are no smaller than photographs."""
    random = np.random.default_rng(1)
    for name, n in n_images.items():
        width, height = SIZES[name]
        breed = folder / name / "n02085620-Chihuahua"
        breed.mkdir(parents=True)
        image = Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8))
        first = breed / "n02085620_00000.jpg"
        image.save(first, quality=80)
        for i in range(1, n):
            (breed / f"n02085620_{i:05d}.jpg").hardlink_to(first)


def run_case(folder: Path, case: Case) -> Run:
    """Run a case once, from its listing to its last part, on what `draw` has drawn.

    Raises
    ------
    click.ClickException
        If it ends without a verdict.
    """
    job = _job(folder, case)
    source = resolve_url(str(folder / case.images))
    pages = open_storage(source, job.source_options).list_pages(source)
    refs = list(select(pages, Selection(source, limit=case.n_images)))
    with _cluster(case) as client:
        client.run(slow_down, case)
        driver = Driver(client, job, Batching(BATCH_SIZE), Limits(), Silent(), threading.Event())
        with prepared_workers(client, job):
            stopwatch, mark = Stopwatch(), partial(_mark, job.destination)
            driver.run(lambda: slowly(case, refs), BATCH_SIZE * case.batches_per_part, mark)
            workers = worker_facts(client, job)
            driver.account.ended(workers)
            session = told_session(job.run_id, stopwatch, driver.account, workers, "no: a stand-in")
            stopwatch.lap("compute")
        received = sum(client.run(received_bytes).values())
    if session.verdict is None:
        raise click.ClickException(f"no verdict on {case}")
    return Run(_images_per_s(driver.account, case, stopwatch), session.verdict, received)


def _job(folder: Path, case: Case) -> Job:
    options = options_from_environment()
    destination = Destination(resolve_url(str(folder / f"out-{uuid4().hex[:8]}")), options)
    transform = Transform(resize_size=case.crop_size, crop_size=case.crop_size, mean=(0.5,) * 3, std=(0.2,) * 3)
    resource = RESOURCE if case.helpers else None
    job = Job(
        run_id=f"run-{uuid4().hex[:6]}",
        fingerprint="f" * 64,
        destination=destination,
        source_options=options,
        transform=transform,
        load_model=partial(load_model, case),
        model_resource=resource,
    )
    destination.write_new_json(RUN_JSON, {"fingerprint": job.fingerprint})
    return job


@contextmanager
def _cluster(case: Case) -> Iterator[Client]:
    """Yield a client of workers that are named by their numbers; the first ones have the model."""
    with_model = {"nthreads": case.threads, "resources": {RESOURCE: 1}} | _LOOPBACK
    helper = {"nthreads": case.threads} | _LOOPBACK
    options = [*(with_model,) * case.workers, *(helper,) * case.helpers]
    workers: dict[int, Any] = {number: {"cls": Nanny, "options": own} for number, own in enumerate(options)}
    with (
        frugal_processes(),
        SpecCluster(workers, {"cls": Scheduler, "options": _LOOPBACK}, silence_logs=logging.ERROR) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(len(workers), timeout=60)
        yield client


def _images_per_s(account: Account, case: Case, stopwatch: Stopwatch) -> float:
    if case.bound_by == "start-up":
        return account.n_scored / stopwatch.total_s
    if account.first_batch is None or account.last_commit is None:
        raise click.ClickException("nothing was classified")
    return (account.n_scored - account.n_first) / (account.last_commit - account.first_batch)


def _mark(destination: Destination, _totals: PlanTotals, _tally: Tally) -> None:
    destination.write(SUCCESS, b"")
