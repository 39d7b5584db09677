"""How fast a cluster is, tried on some of its workers."""

import threading

import pytest
from distributed import Client, LocalCluster

from pipeline.engine.graph import Batching
from pipeline.engine.trial import Extent, PaceTrial, TrialError
from pipeline.engine.worker import prepared_workers
from tests.driving import draw_folder, new_job, refs_of

N_WORKERS = 5


@pytest.fixture(scope="module")
def many():
    """A cluster of more workers than a trial takes."""
    cluster = LocalCluster(n_workers=N_WORKERS, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def drawn(folder):
    return list(refs_of(draw_folder(folder / "images", 20)))


def trial_on(client, job, refs, extent, told=None):
    return PaceTrial(client, job, Batching(batch_size=2), refs, 60.0, threading.Event(), extent, told)


def test_a_few_of_many_workers_stand_for_all(many, tmp_path):
    refs, job, told = drawn(tmp_path), new_job(f"file://{tmp_path}/out"), []

    with prepared_workers(many, job):
        pace = trial_on(many, job, refs, Extent(6, 3, n_workers=2), told.extend).run()

    assert (len(pace.workers), len(pace.others)) == (2, N_WORKERS - 2)
    assert len(pace.ends_s) >= 3 * 2
    assert len(pace.ends_s) % 2 == 0
    assert sorted(outcome.image for outcome in told) == [ref.url for ref in refs]
    assert all(worker.spent_s["read"] > 0 for worker in pace.workers)
    assert not any(worker.spent_s.get("read") for worker in pace.others)


def test_all_take_part_where_they_are_no_more(many, tmp_path):
    refs, job = drawn(tmp_path), new_job(f"file://{tmp_path}/out")

    with prepared_workers(many, job):
        pace = trial_on(many, job, refs, Extent(6, 1, n_workers=N_WORKERS)).run()

    assert (len(pace.workers), pace.others) == (N_WORKERS, ())


def test_a_worker_that_leaves_ends_the_trial_it_took_part_in(many, tmp_path):
    refs, job = drawn(tmp_path), new_job(f"file://{tmp_path}/out")

    with prepared_workers(many, job):
        trial = trial_on(many, job, refs, Extent(400, 1, n_workers=2), told=lambda _: leave(many))
        with pytest.raises(TrialError, match="a worker left that took part"):
            trial.run()


def leave(client):
    """Have the first worker leave, which takes part: they are chosen in order."""
    first = min(client.nthreads())
    if len(client.nthreads()) == N_WORKERS:
        client.retire_workers([first])
