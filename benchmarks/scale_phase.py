"""One phase of ``benchmarks.scale`` in a process of its own, which is the client.

``python -m benchmarks.scale_phase PHASE N_IMAGES FOLDER`` prints the figures as JSON.

everything
    Lists, plans, carries out and commits so many images into FOLDER.
planning
    Lists and plans only, and reads each page as a driver does.
resume
    Begins again on what FOLDER holds, less its last part: holds listing, plan and outcomes against each other, and does
    that part.
finished
    Finds that there is nothing to do, as the same command does once a run is marked as complete.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from distributed import Client

from benchmarks import scale_stand_ins as stand_ins
from benchmarks.scale_cluster import OwnCluster, cpu_s, own_cluster, peak_mib
from pipeline.destination import OUTCOMES_FOLDER, RUN_JSON, SUCCESS, Destination
from pipeline.engine.drive import Driver, Limits
from pipeline.engine.finished import finished_tally
from pipeline.engine.graph import Batching
from pipeline.engine.plan import Planner, PlanTotals
from pipeline.engine.worker import Job, prepared_workers
from pipeline.records import ImageRef, Tally
from pipeline.stages.listing import Selection, select
from pipeline.storage import StorageOptions, resolve_url

FINGERPRINT = "f" * 64
BATCHES_PER_PART = 16
PART_SIZE = BATCHES_PER_PART * Batching().batch_size


class Figures:
    """What a phase took, of each process, beyond its stand-ins."""

    def __init__(self, cluster: OwnCluster | None, client: Client | None) -> None:
        self._cluster, self._client, self._process = cluster, client, psutil.Process()
        self._began_s, self._before = time.monotonic(), self._cpu_s()

    def told(self) -> dict[str, Any]:
        """Return seconds by the clock and of processors since the beginning, and the peaks of memory."""
        after = self._cpu_s()
        spent = {name: round(after[name] - self._before[name], 3) for name in after}
        peaks = self._cluster.peak_mib() if self._cluster else {}
        wall_s = round(time.monotonic() - self._began_s, 2)
        return {"wall_s": wall_s, "cpu_s": spent, "peak_mib": {"client": peak_mib(self._process.pid)} | peaks}

    def _cpu_s(self) -> dict[str, float]:
        ours = {"client": cpu_s(self._process) - stand_ins.spent_s(), "stand-ins": stand_ins.spent_s()}
        if self._cluster is None or self._client is None:
            return ours
        theirs, stood_in = self._cluster.cpu_s(), sum(self._client.run(stand_ins.spent_s).values())
        return ours | {
            "scheduler": theirs.scheduler,
            "worker": theirs.worker - stood_in,
            "stand-ins": ours["stand-ins"] + stood_in,
        }


def everything(n_images: int, folder: Path) -> dict[str, Any]:
    """Carry a run from its listing to its mark."""
    with _prepared(folder) as (cluster, client):
        figures = Figures(cluster, client)
        _drive(client, _destination(folder), n_images)
        return figures.told()


def planning(n_images: int, folder: Path) -> dict[str, Any]:
    """List and plan, each page read as soon as it is there."""
    _plan_and_look(folder)
    figures = Figures(None, None)
    _plan(n_images, _destination(folder))
    return figures.told()


def resume(n_images: int, folder: Path) -> dict[str, Any]:
    """Do the last part of a run whose other parts are there."""
    destination = _destination(folder)
    destination.delete([SUCCESS, max(destination.etags(OUTCOMES_FOLDER))])
    with _prepared(folder) as (cluster, client):
        figures = Figures(cluster, client)
        n_scored = _drive(client, destination, n_images)
        _assert_equal(0 < n_scored <= PART_SIZE, True)
        return figures.told()


def finished(n_images: int, folder: Path) -> dict[str, Any]:
    """Find that nothing is left to do."""
    _plan_and_look(folder)
    figures = Figures(None, None)
    tally = finished_tally(_listing(n_images)(), _destination(folder), FINGERPRINT)
    _assert_equal(tally and tally.n_ok, n_images)
    return figures.told()


PHASES = {phase.__name__: phase for phase in (everything, planning, resume, finished)}


@contextmanager
def _prepared(folder: Path) -> Iterator[tuple[OwnCluster, Client]]:
    """Yield a cluster and its client after one small run: what is paid once per process is paid."""
    with (
        own_cluster(folder / f"cluster-{uuid4().hex}") as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        _drive(client, _destination(folder / f"warm-up-{uuid4().hex}"), PART_SIZE)
        yield cluster, client


def _drive(client: Client, destination: Destination, n_images: int) -> int:
    """Carry a run to its end as the command does; return how many images were scored."""
    destination.write_new_json(RUN_JSON, {"fingerprint": FINGERPRINT})
    run_id = f"20261120T000000-{uuid4().hex[:6]}"
    job = Job(run_id, FINGERPRINT, destination, StorageOptions(), stand_ins.TRANSFORM, stand_ins.load_model)

    def conclude(_totals: PlanTotals, _tally: Tally) -> None:
        destination.write(SUCCESS, b"")

    driver = Driver(client, job, Batching(), Limits(), _Silent(), threading.Event())
    with prepared_workers(client, job):
        totals, tally = driver.run(_listing(n_images), PART_SIZE, conclude)
    _assert_equal((totals.n_images, tally.n_images, tally.n_ok), (n_images,) * 3)
    return driver.account.n_scored


def _plan(n_images: int, destination: Destination) -> None:
    woken = threading.Event()
    with Planner(_listing(n_images)(), destination, PART_SIZE, woken.set) as planner:
        while not planner.is_exhausted:
            if planner.next_page() is None:
                woken.wait(0.05)
                woken.clear()
        _assert_equal(planner.totals.n_images, n_images)


def _plan_and_look(folder: Path) -> None:
    """Plan one part, elsewhere, and find that it is to be done: what is paid once per process is paid."""
    destination = _destination(folder / f"warm-up-{uuid4().hex}")
    _plan(PART_SIZE, destination)
    _assert_equal(finished_tally(_listing(PART_SIZE)(), destination, FINGERPRINT), None)


class _Silent:
    """Watches a run and says nothing."""

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None: ...

    def found(self, n_images: int) -> None: ...

    def classified(self, n_images: int) -> None: ...

    def committed(self, tally: Tally) -> None: ...


def _listing(n_images: int) -> Callable[[], Iterator[ImageRef]]:
    return lambda: select(stand_ins.list_pages(n_images), Selection(stand_ins.SOURCE))


def _destination(folder: Path) -> Destination:
    return Destination(resolve_url(str(folder / "out")), StorageOptions())


def _assert_equal(found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"expected {expected}, found {found}")


if __name__ == "__main__":
    _, phase_, n_images_, folder_ = sys.argv
    print(json.dumps(PHASES[phase_](int(n_images_), Path(folder_))))
