"""Whether the verdict is right: ``python -m benchmarks.verdicts`` makes each bottleneck by hand, then lifts it.

Every case runs on worker processes of this machine, with a bottleneck that is told in ``bottlenecks.py``; then it runs
once more with more of what the verdict named. The gain that came is held against the gain that was foretold: both are
of the steady throughput, but for a run bounded by its start-up, where the whole counts. Repeated in turn; the median of
the gains decides.
"""

import json
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import click
import numpy as np
from distributed import Client, LocalCluster
from PIL import Image

from benchmarks.bottlenecks import BATCH_SIZE, CASES, Case, Lift, load_model, slow_down, slowly
from benchmarks.machine import machine
from pipeline.destination import RUN_JSON, SUCCESS, Destination
from pipeline.engine.account import Account
from pipeline.engine.drive import Driver, Limits
from pipeline.engine.graph import Batching
from pipeline.engine.plan import PlanTotals
from pipeline.engine.worker import Job, prepared_workers, worker_facts
from pipeline.evaluation.verdict import Verdict
from pipeline.provenance import Stopwatch, told_session, versions
from pipeline.records import Tally, Transform
from pipeline.stages.listing import Selection, select
from pipeline.storage import open_storage, options_from_environment, resolve_url

TRANSFORM = Transform(resize_size=10, crop_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
TOLERANCE = 0.25
SIZES = {"small": (12, 10), "large": (3000, 2000)}


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
    verdict: Verdict


@click.command()
@click.option("--repeats", default=3, show_default=True, help="Pairs of runs for each case.")
@click.option("--only", default=None, help="The bottleneck to try, such as decode.")
def main(repeats: int, only: str | None) -> None:
    """Print a table and keep the figures."""
    circumstances = {"machine": machine(), "versions": versions()}
    with TemporaryDirectory() as folder:
        draw(Path(folder))
        told = [tried(Path(folder), case, lift, repeats) for case, lift in CASES if only in (None, case.bound_by)]
    if only is None:
        path = Path(__file__).parent / "results" / "verdicts.json"
        path.write_text(json.dumps(circumstances | {"cases": told}, indent=2) + "\n", encoding="utf-8")
    if not all(case["is_named"] and case["is_within"] for case in told):
        raise click.ClickException("a verdict was wrong")


def tried(folder: Path, case: Case, lift: Lift, repeats: int) -> dict[str, Any]:
    """Run a case and its lifted twin in turn; return what was foretold and what came."""
    pairs = [(run(folder, case), run(folder, replace(case, **lift(case)))) for _ in range(repeats)]
    foretold = median(before.verdict.gain for before, _ in pairs)
    gains = sorted(after.images_per_s / before.images_per_s for before, after in pairs)
    verdicts = [(before.verdict.bound_by, before.verdict.lever) for before, _ in pairs]
    told = {
        "made": case.bound_by,
        "verdict": str(pairs[0][0].verdict),
        "is_named": all(verdict == (case.bound_by, case.lever) for verdict in verdicts),
        "foretold": round(foretold, 2),
        "came": [round(gain, 2) for gain in gains],
        "is_within": abs(median(gains) / foretold - 1) <= TOLERANCE,
    }
    click.echo(f"{case.bound_by:<10} foretold {foretold:.2f} came {told['came']}  {told['verdict']}")
    return told


def run(folder: Path, case: Case) -> Run:
    """Run a case once, from its listing to its last part."""
    options = options_from_environment()
    destination = Destination(resolve_url(str(folder / f"out-{uuid4().hex[:8]}")), options)
    job = Job(f"run-{uuid4().hex[:6]}", "f" * 64, destination, options, TRANSFORM, partial(load_model, case))
    source = resolve_url(str(folder / case.images))
    refs = list(select(open_storage(source, options).list_pages(source), Selection(source)))[: case.n_images]
    destination.write_new_json(RUN_JSON, {"fingerprint": job.fingerprint})
    with _cluster(case) as cluster, Client(cluster, set_as_default=False) as client:
        client.run(slow_down, case)
        driver = Driver(client, job, Batching(BATCH_SIZE), Limits(), Silent(), threading.Event())
        with prepared_workers(client, job):
            stopwatch, mark = Stopwatch(), partial(_mark, destination)
            driver.run(lambda: slowly(case, refs), BATCH_SIZE * case.batches_per_part, mark)
            session = told_session(job.run_id, stopwatch, driver.account, worker_facts(client, job), "no: a stand-in")
            stopwatch.lap("compute")
    if session.verdict is None:
        raise click.ClickException(f"no verdict on {case}")
    return Run(_images_per_s(driver.account, case, stopwatch), session.verdict)


def _cluster(case: Case) -> LocalCluster:
    return LocalCluster(
        n_workers=case.workers,
        threads_per_worker=case.threads,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )


def draw(folder: Path) -> None:
    """Draw what every case needs: the large ones with grain, so that they are no smaller than photographs."""
    random = np.random.default_rng(1)
    for name, (width, height) in SIZES.items():
        breed = folder / name / "n02085620-Chihuahua"
        breed.mkdir(parents=True)
        image = Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8)).resize((width, height))
        first = breed / "n02085620_00000.jpg"
        image.save(first, quality=80)
        for i in range(1, max(2 * case.n_images for case, _ in CASES if case.images == name)):
            (breed / f"n02085620_{i:05d}.jpg").hardlink_to(first)


def _images_per_s(account: Account, case: Case, stopwatch: Stopwatch) -> float:
    if case.bound_by == "start-up":
        return account.n_scored / stopwatch.total_s
    if account.first_batch is None or account.last_commit is None:
        raise click.ClickException("nothing was classified")
    return (account.n_scored - account.n_first) / (account.last_commit - account.first_batch)


def _mark(destination: Destination, _totals: PlanTotals, _tally: Tally) -> None:
    destination.write(SUCCESS, b"")


if __name__ == "__main__":
    main()
