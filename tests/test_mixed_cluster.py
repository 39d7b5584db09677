"""A cluster of which only some workers have the model: the others read and decode for them."""

from dataclasses import replace

import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_task_stream

from pipeline.engine.account import Account
from pipeline.engine.graph import Batching, Placement, part_graph
from pipeline.engine.worker import model_resource, prepared_workers, worker_facts
from pipeline.records import PartWork
from pipeline.storage import resolve_url
from tests.driving import draw_folder, drive, listing_of, new_job, refs_of, rows_of
from tests.stand_ins import LOADS, load_counted


@pytest.fixture
def mixed():
    loopback = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    workers = {
        "model": {"cls": Worker, "options": {"nthreads": 2, "resources": {"GPU": 1}} | loopback},
        "helper": {"cls": Worker, "options": {"nthreads": 2} | loopback},
    }
    cluster = SpecCluster(workers, {"cls": Scheduler, "options": loopback}, silence_logs=False)
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def job(tmp_path):
    return replace(new_job(resolve_url(str(tmp_path / "out")), load_counted), model_resource="GPU")


@pytest.fixture
def source(tmp_path):
    return draw_folder(tmp_path / "images", 50)


def workers_of(stream, prefix):
    return {task["worker"] for task in stream.data if task["key"].startswith(prefix)}


def address_of(client, name):
    workers = client.scheduler_info()["workers"]
    return next(address for address, worker in workers.items() if worker["name"] == name)


def test_workers_without_the_model_decode_for_the_one_that_has_it(mixed, job, source):
    LOADS.clear()

    with get_task_stream(mixed) as stream:
        _, tally, _ = drive(mixed, job, listing_of(source), part_size=4, batching=Batching(batch_size=2))

    assert tally.n_ok == len(rows_of(job.destination)) == 50
    assert len(LOADS) == 1
    assert workers_of(stream, "infer") == {address_of(mixed, "model")}
    assert workers_of(stream, "preprocess") == {address_of(mixed, "model"), address_of(mixed, "helper")}


def test_where_the_model_is_busy_enough_pixels_stay_beside_it(mixed, job, source):
    model = address_of(mixed, "model")
    placement = Placement("GPU", decodes_beside_model=True)
    graph = part_graph(PartWork(0, tuple(refs_of(source))), job, Batching(batch_size=5), placement)

    with prepared_workers(mixed, job), get_task_stream(mixed) as stream:
        mixed.gather(mixed.compute(graph.infers))

    assert workers_of(stream, "preprocess") == workers_of(stream, "infer") == {model}


def test_the_resource_counts_only_where_some_worker_has_it(mixed, client):
    assert model_resource(mixed, "GPU") == "GPU"
    assert model_resource(mixed, "TPU") is None
    assert model_resource(client, "GPU") is None


def test_the_verdict_hears_how_many_workers_have_the_model(mixed, job):
    with prepared_workers(mixed, job):
        facts = worker_facts(mixed, job)

    assert sorted(worker.has_model for worker in facts) == [False, True]
    assert [worker.n_slots for worker in facts] == [2, 2]


def test_the_verdict_hears_of_workers_that_never_commit(mixed, job, source):
    placement = Placement("GPU", decodes_beside_model=False)
    graph = part_graph(PartWork(0, tuple(refs_of(source))), job, Batching(batch_size=5), placement)
    account = Account()

    with prepared_workers(mixed, job):
        mixed.gather(mixed.compute(graph.infers))
        account.ended(worker_facts(mixed, job))
        account.ended(worker_facts(mixed, job))

    assert account.spent_s["infer"] > 0
    assert account.spent_s["decode"] > 0
