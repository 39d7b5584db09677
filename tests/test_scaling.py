"""Workers that come and go while a run goes on, and clusters that begin them only when there is work."""

import threading

import pytest
from distributed import Client, LocalCluster

from cluster.connect import ClusterOptions, connect
from pipeline.config import RunConfig
from pipeline.engine.graph import Batching
from pipeline.engine.worker import prepared_workers
from pipeline.running.provision import resolved_precision
from pipeline.stages.precision import fastest_precision
from pipeline.storage import resolve_url
from tests.driving import Watcher, draw_folder, drive, driver_of, listing_of, mark_complete, new_job, rows_of

N_IMAGES = 50


@pytest.fixture
def source(tmp_path):
    return draw_folder(tmp_path / "images", N_IMAGES)


@pytest.fixture
def job(tmp_path):
    return new_job(resolve_url(str(tmp_path / "out")))


@pytest.fixture
def elastic():
    """A cluster of no worker yet, whose scheduler others may join."""
    cluster = LocalCluster(
        n_workers=0,
        threads_per_worker=2,
        processes=False,
        host="127.0.0.1",
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
    )
    with cluster:
        yield cluster


class Eventful(Watcher):
    """Does something at the first commit, and lets the run wait until it is done."""

    def __init__(self, act):
        super().__init__()
        self._act = act

    def committed(self, tally):
        super().committed(tally)
        if len(self.tallies) == 1:
            self._act()


def drive_watched(client, job, source, watcher):
    driver = driver_of(client, job, watcher, batching=Batching(batch_size=2))
    with prepared_workers(client, job):
        return driver.run(listing_of(source), 4, mark_complete(job.destination))


def assert_every_image_has_its_own_row(job):
    answers = {row["image"].rpartition("_")[2]: row["class_index"] for row in rows_of(job.destination)}
    assert answers == {f"{i:03d}.png": 5 * i for i in range(N_IMAGES)}


def test_a_worker_that_joins_is_used_at_once(elastic, job, source):
    elastic.scale(1)
    with Client(elastic, set_as_default=False) as client:
        client.wait_for_workers(1)
        first = set(client.nthreads())

        def another():
            elastic.scale(2)
            client.wait_for_workers(2, timeout=30)

        watcher = Eventful(another)
        drive_watched(client, job, source, watcher)
        (late,) = set(client.nthreads()) - first
        spent = client.run(lambda dask_worker: dict(dask_worker.digests_total), workers=[late])[late]

    assert_every_image_has_its_own_row(job)
    assert {key[2] for key in spent if isinstance(key, tuple) and key[0] == "execute"} >= {"preprocess", "infer"}


def test_a_worker_that_leaves_is_missed_without_loss(elastic, job, source):
    elastic.scale(3)
    with Client(elastic, set_as_default=False) as client:
        client.wait_for_workers(3)

        def one_less():
            client.retire_workers(list(client.nthreads())[:1], close_workers=True)

        _, tally = drive_watched(client, job, source, Eventful(one_less))

    assert tally.n_images == N_IMAGES
    assert_every_image_has_its_own_row(job)


def test_an_adaptive_cluster_grows_from_nothing_and_shrinks_again(elastic, job, source):
    elastic.adapt(minimum=0, maximum=2, interval="50ms", wait_count=4)
    with connect(ClusterOptions(elastic.scheduler_address, min_workers=0)) as client:
        drive(client, job, listing_of(source), part_size=4, batching=Batching(batch_size=2))

        assert_every_image_has_its_own_row(job)
        _await(lambda: not client.nthreads())


def test_a_cluster_without_any_worker_is_asked_for_its_first(elastic):
    asked = threading.Event()

    def answer():
        asked.wait(30)
        elastic.scale(1)

    thread = threading.Thread(target=answer)
    thread.start()
    threading.Timer(1, asked.set).start()
    with connect(ClusterOptions(elastic.scheduler_address, min_workers=0)) as client:
        assert len(client.nthreads()) == 1
        thread.join()
        elastic.scale(0)
        _await(lambda: not client.nthreads())
        elastic.adapt(minimum=0, maximum=1, interval="50ms")  # they may be gone again when they are asked
        config = RunConfig("s3://b/Images", "s3://b/out", cluster=elastic.scheduler_address)
        assert resolved_precision(config, client) == fastest_precision()
        names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
        assert "fastest_precision" in names


def test_a_cluster_that_never_begins_a_worker_is_given_up(elastic, monkeypatch):
    monkeypatch.setattr("cluster.connect.ON_DEMAND_S", 0.5)

    with (
        pytest.raises(TimeoutError, match=r"no worker came to tcp://\S+ within 0.5 s, though there was a task for it"),
        connect(ClusterOptions(elastic.scheduler_address, min_workers=0)),
    ):
        pass


def _await(condition, timeout_s=30):
    done = threading.Event()
    for _ in range(int(timeout_s / 0.1)):
        if condition():
            return
        done.wait(0.1)
    raise AssertionError("it did not come to pass")
