"""SCENARIOS.md with a real ResNet50, real JPEGs and process workers: what is killed, hangs or fills up."""

import signal
import threading
import time

import boto3
import pandas as pd
import pytest
from distributed import Client
from distributed.chaos import KillWorker

from tests.by_hand import dask_by_hand
from tests.chaos.conftest import BUCKET, N_MANY, left_on
from tests.plain_loop import assert_equal_answers
from tests.poison import poisoned_jpeg

WORKER_S = 7
"""About what a worker that has died needs until its successor has done a part."""


@pytest.fixture(scope="module")
def doomed(the_server, tmp_path_factory):
    """A cluster that tests use up: first a worker of it, then its scheduler."""
    with dask_by_hand(tmp_path_factory.mktemp("doomed"), 2) as cluster:
        yield cluster


@pytest.fixture
def poison(source):
    """Put poisoned images among the others by (kind, breed folder) until the test is over."""
    client, keys = boto3.client("s3"), []

    def put(kind):
        keys.append(f"Images/n02099601-golden_retriever/{kind}.jpg")
        client.put_object(Bucket=BUCKET, Key=keys[-1], Body=poisoned_jpeg(kind, (500, 375)))
        return f"s3://{BUCKET}/{keys[-1]}"

    yield put
    for key in keys:
        client.delete_object(Bucket=BUCKET, Key=key)


def test_01_an_undisturbed_run_equals_a_plain_loop(undisturbed, plain_answers):
    rows = pd.DataFrame(undisturbed.rows)
    good = rows[rows["status"] == "ok"]

    assert rows["image"].nunique() == len(rows) == N_MANY
    assert set(good["etag"]) == set(plain_answers.index)
    assert_equal_answers(good, plain_answers)


def test_the_server_is_asked_for_each_image_once_and_for_no_head(undisturbed):
    reads = {key: n for (method, key), n in undisturbed.requests.items() if method == "GET" and key.startswith("Many/")}
    first, *others = sorted(reads)

    assert len(reads) == N_MANY
    assert reads[first] == 2  # it was also what showed, before any worker was there, that the source can be read
    assert {reads[key] for key in others} == {1}
    assert not [key for method, key in undisturbed.requests if method == "HEAD"]


def test_02_a_worker_killed_in_mid_batch_costs_one_more_load(command, many, shared, assert_whole):
    command = command.another(f"{many}/0")  # long enough for the new process to have its share
    n_loads = shared.n_loads()
    command.start(shared.address, "--min-workers", "2")
    command.await_parts(1)

    shared.worker_processes()[0].kill()
    status, said = command.end()

    assert status == 0, said
    assert_whole(command)
    assert shared.n_loads() - n_loads == 2 + 1  # both workers, and the new process
    assert left_on(shared.address) == []


def test_03_workers_that_die_all_the_time_cost_time_and_no_image(
    command, many, shared, undisturbed, assert_whole, capsys
):
    command, n_loads, began = command.another(many), shared.n_loads(), time.monotonic()
    with Client(shared.address, set_as_default=False) as client:
        client.register_plugin(KillWorker(delay=f"{4 * WORKER_S} s", mode="segfault"), name="kill")
        try:
            command.start(shared.address)
            command.await_parts(1)
            shared.worker_processes()[0].kill()  # chance may spare them all: one dies in any case
            status, said = command.end(timeout_s=3 * undisturbed.seconds)
        finally:
            command.close()
            client.unregister_worker_plugin("kill")
    with capsys.disabled():
        took = f"{(time.monotonic() - began) / undisturbed.seconds:.1f} times the undisturbed time"
        print(f"\n  {shared.n_loads() - n_loads - 2} workers died, {took}")

    assert status == 0, said
    assert shared.n_loads() - n_loads > 2
    assert_whole(command)


def test_04_a_worker_that_is_sent_away_takes_no_image_with_it(command, doomed, assert_whole):
    command.start(doomed.address, "--min-workers", "2")
    command.await_parts(1)

    doomed.workers[0].send_signal(signal.SIGTERM)
    status, said = command.end()

    assert status == 0, said
    assert_whole(command)


def test_05_an_image_that_kills_its_decoder_is_alone_to_blame(command, shared, poison, assert_whole):
    culprit = poison("segfault")  # other ways to die are those of tests/test_isolation.py

    status, said = command.run(shared.address, timeout_s=200)

    assert status == 0, said
    (row,) = [row for row in command.rows() if row["image"] == culprit]
    assert (row["status"], row["stage"]) == ("failed", "decode")
    assert "killed" in row["reason"]
    assert_whole(command)
    assert left_on(shared.address) == []


def test_06_a_driver_killed_and_begun_again_computes_no_part_twice(command, shared, assert_whole, capsys):
    stood = []
    for share in (0.1, 0.5, 0.9):
        command.start(shared.address, "--min-workers", "2")
        command.await_parts(max(1, round(9 * share)))
        command.kill()
        time.sleep(3)  # the scheduler forgets the client; what runs may still commit
        stood.append((share, command.n_parts(), command.objects("outcomes/")))

    status, said = command.run(shared.address)

    assert status == 0, said
    assert_whole(command)
    assert command.n_parts() == 9
    assert all(before.items() <= command.objects("outcomes/").items() for _, _, before in stood)
    with capsys.disabled():
        for share, n_puts, before in stood:
            print(f"\n  killed at {share:.0%}: {len(before)} of 9 parts stood, after {n_puts} PUTs", end="")
        print(f"\n  at the end {command.n_parts()} PUTs")


def test_07_a_scheduler_that_dies_ends_the_run_with_the_command_that_resumes_it(command, doomed, shared, assert_whole):
    command.start(doomed.address)
    command.await_parts(1)

    doomed.scheduler.kill()
    status, said = command.end(60)

    assert status == 5, said
    assert f"to resume: python -m pipeline.run {command.source} {command.destination}" in said
    status, said = command.run(shared.address)
    assert status == 0, said
    assert_whole(command)


def test_08_the_same_run_started_twice_makes_one_table(command, shared, assert_whole):
    twin = command.twin()
    command.start(shared.address)
    twin.start(shared.address)

    ends = [one.end() for one in (command, twin)]

    assert [status for status, _ in ends] == [0, 0], ends
    assert_whole(command)


def test_19_a_fast_bucket_does_not_fill_a_worker(command, many, tmp_path, assert_whole):
    command = command.another(f"{many}/0")
    with dask_by_hand(tmp_path, 1) as probe:
        (worker,) = _await_workers(probe, 1)
        idle = command.another()
        idle.start(probe.address, "--limit", "8", "--batch-size", "8")
        idle_bytes = 0  # with its model, which has seen one micro-batch
        while idle.process.poll() is None:
            idle_bytes = max(idle_bytes, worker.memory_info().rss)
            time.sleep(0.1)
        assert idle.end()[0] == 0
    folder = tmp_path / "limited"
    folder.mkdir()
    limit = idle_bytes + 600 * 2**20
    with dask_by_hand(folder, 1, worker_options=("--memory-limit", str(limit))) as cluster:
        (pid,) = [process.pid for process in _await_workers(cluster, 1)]
        seen, stop = [], threading.Event()
        watcher = threading.Thread(target=_watch_memory, args=(cluster.address, seen, stop))
        watcher.start()
        status, said = command.run(cluster.address, "--batch-size", "8")
        stop.set()
        watcher.join()
        still = [process.pid for process in cluster.worker_processes()]

    assert status == 0, said
    assert still == [pid], "the worker was restarted"
    assert {status for status, _ in seen} == {"running"}
    assert {spilled for _, spilled in seen} == {0}, f"limit {limit >> 20} MiB, idle {idle_bytes >> 20} MiB"
    assert_whole(command)


def _await_workers(cluster, n_workers):
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(n_workers, timeout=60)
    return cluster.worker_processes()


def _watch_memory(address, seen, stop):
    with Client(address, set_as_default=False) as client:
        while not stop.wait(0.2):
            for worker in client.run_on_scheduler(_worker_states):
                seen.append(worker)


def _worker_states(dask_scheduler):
    return [(str(state.status.name), state.memory.spilled) for state in dask_scheduler.workers.values()]


def test_27_a_decode_that_never_ends_costs_that_image_alone(command, shared, poison, assert_whole):
    culprit = poison("hang")

    status, said = command.run(shared.address, "--decode-timeout", "4", timeout_s=200)

    assert status == 0, said
    (row,) = [row for row in command.rows() if row["image"] == culprit]
    assert (row["stage"], row["reason"]) == ("decode", "decoding took longer than 4 s")
    assert_whole(command)


def test_28_a_bucket_that_fills_up_ends_the_run_and_a_second_one_finishes_it(command, shared, assert_whole):
    command.start(shared.address)
    command.await_parts(2)
    command.server.faults.add("status", method="PUT", key=f"{command.prefix}/", status=507)

    status, said = command.end(150)

    assert status == 4, said
    assert "outcomes/part-" in said
    assert "_SUCCESS" not in command.objects()
    command.server.faults.clear()
    status, said = command.run(shared.address)
    assert status == 0, said
    assert_whole(command)
