"""One scheduler for several people: each has their own answers, and nobody finds anything of it afterwards."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from distributed import Client
from distributed.utils import color_of, key_split

from pipeline.engine.drive import Limits
from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.spending import Activity
from pipeline.engine.worker import prepared_workers
from pipeline.errors import ClusterError, FailureRateError, InterruptedRunError, StorageError
from pipeline.records import PartWork
from pipeline.storage import resolve_url
from tests.by_hand import dask_by_hand
from tests.cluster_state import left_as_found
from tests.driving import Watcher, draw_folder, drive, driver_of, listing_of, mark_complete, new_job, rows_of
from tests.stand_ins import load_darkest, load_never


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A scheduler and two worker processes, started by hand."""
    with dask_by_hand(tmp_path_factory.mktemp("shared"), 2) as cluster:
        yield cluster


@pytest.fixture
def person(shared):
    """Whoever else is on the cluster, and has worked there before."""
    with Client(shared.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.submit(int, key="theirs").result() == 0
        yield client


@pytest.fixture
def source(tmp_path):
    return draw_folder(tmp_path / "images", 50)


@pytest.fixture
def job(tmp_path):
    return new_job(resolve_url(str(tmp_path / "out")))


def run_as_another_client(shared, job, source, **settings):
    with Client(shared.address, set_as_default=False) as client:
        return drive(client, job, listing_of(source), **settings)


def answers_of(job):
    return {row["image"].rpartition("_")[2]: row["class_index"] for row in rows_of(job.destination)}


def test_a_run_leaves_a_shared_cluster_as_it_was(shared, person, job, source):
    with left_as_found(person):
        run_as_another_client(shared, job, source)

    assert len(rows_of(job.destination)) == 50


def test_two_at_once_with_different_weights_each_have_their_own_answers(shared, person, job, source, tmp_path):
    other = new_job(resolve_url(str(tmp_path / "other")), load_darkest, "e" * 64)

    with left_as_found(person), ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(run_as_another_client, shared, one, source, part_size=4, batching=Batching(batch_size=2))
            for one in (job, other)
        ]
        tallies = [run.result(timeout=120)[1] for run in both]

    assert [tally.n_ok for tally in tallies] == [50, 50]
    assert answers_of(job) == {f"{i:03d}.png": 5 * i for i in range(50)}
    assert answers_of(other) == {f"{i:03d}.png": 999 - 5 * i for i in range(50)}


def test_a_second_run_adds_nothing_to_what_dask_remembers_of_the_first(shared, person, job, source, tmp_path):
    run_as_another_client(shared, job, source)
    before = person.run_on_scheduler(remembered)

    run_as_another_client(shared, new_job(resolve_url(str(tmp_path / "again"))), source)

    assert person.run_on_scheduler(remembered) == before


def remembered(dask_scheduler):
    return sorted(dask_scheduler.task_prefixes)


def test_a_model_that_no_worker_can_load_ends_the_run_and_no_worker(shared, person, job, source):
    processes = {process.pid for process in shared.worker_processes()}

    with left_as_found(person), pytest.raises(ClusterError, match=r"no worker is left that can infer: .* cannot be"):
        run_as_another_client(shared, replace(job, load_model=load_never), source)

    assert {process.pid for process in shared.worker_processes()} == processes


def test_a_run_that_fails_on_its_images_or_its_listing_leaves_nothing(shared, person, job, source, tmp_path):
    def broken_listing():
        yield from list(listing_of(source)())[:30]
        raise StorageError("the bucket went away")

    for path in sorted((tmp_path / "images").rglob("*.png"))[:30]:
        path.write_bytes(b"")
    with left_as_found(person), pytest.raises(FailureRateError):
        run_as_another_client(shared, job, source, limits=Limits(max_failure_rate=0.1), part_size=10)
    with left_as_found(person), pytest.raises(StorageError), Client(shared.address, set_as_default=False) as client:
        drive(client, new_job(resolve_url(str(tmp_path / "second"))), broken_listing)


def test_a_run_that_is_interrupted_leaves_nothing(shared, person, job, source):
    stop = threading.Event()

    class Impatient(Watcher):
        def committed(self, _):
            stop.set()

    with left_as_found(person), Client(shared.address, set_as_default=False) as client:
        driver = driver_of(client, job, Impatient(), batching=Batching(batch_size=2), stop=stop)
        with pytest.raises(InterruptedRunError), prepared_workers(client, job):
            driver.run(listing_of(source), 4, mark_complete(job.destination))

    assert 0 < len(rows_of(job.destination)) <= 50


def test_the_scheduler_has_the_seconds_of_each_stage_by_activity(shared, person, job, source):
    run_as_another_client(shared, job, source)

    spent = Counter()
    for (context, prefix, activity, unit), seconds in person.run_on_scheduler(fine_metrics).items():
        if context == "execute" and unit == "seconds":
            spent[prefix, activity] += seconds

    stages = {"preprocess": {"read", "decode"}, "infer": {"wait"}, "commit": {"commit"}}
    assert {(stage, activity) for stage, activities in stages.items() for activity in activities} <= set(spent)
    assert {activity for activities in stages.values() for activity in activities} <= set(Activity.__args__)
    assert all(spent[stage, activity] > 0 for stage, activities in stages.items() for activity in activities)


def fine_metrics(dask_scheduler):
    return {key: value for key, value in dask_scheduler.cumulative_worker_metrics.items() if len(key) == 4}


def test_stages_have_names_that_dask_s_dashboard_shows_in_colours_of_their_own(job, source):
    work = PartWork(0, tuple(listing_of(source)()))

    names = {key_split(key) for key in dict(part_graph(work, job, Batching(batch_size=8)).commit.dask)}

    assert names == {"preprocess", "reformat", "infer", "commit"}
    assert len({color_of(name) for name in names}) == 4
