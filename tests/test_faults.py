"""Faults of devices, models and clusters: what the driver does about them. Plain functions stand in for the model."""

import os
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from distributed import Client, LocalCluster

from cluster.connect import ClusterOptions, connect
from cluster.remote import join_cluster
from pipeline.config import RunConfig
from pipeline.destination import part_name
from pipeline.engine.drive import Limits
from pipeline.errors import ClusterError, DeviceError, UsageError
from pipeline.records import Prediction
from pipeline.running.provision import asked_for, joined_workers
from pipeline.storage import resolve_url
from tests.by_hand import dask_by_hand
from tests.driving import draw_folder, drive, listing_of, new_job, rows_of
from tests.stand_ins import brightest


@pytest.fixture
def source(tmp_path):
    return draw_folder(tmp_path / "images", 24)


@pytest.fixture
def job(tmp_path):
    return new_job(resolve_url(str(tmp_path / "out")))


@pytest.fixture
def processes():
    """A client of two worker processes under nannies."""
    cluster = LocalCluster(n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def load_sick_once(mark):
    """Load a model whose device fails for good, in the first process that asks for an answer."""

    def answer(pixels):
        try:
            mark.open("x").write(str(os.getpid()))
        except FileExistsError:
            if mark.read_text() != str(os.getpid()):
                return brightest(pixels)
        raise DeviceError("CUDA error: device-side assert triggered")

    return answer


def test_21_a_device_that_failed_for_good_gets_its_process_replaced_and_its_parts_done(
    processes, job, source, tmp_path
):
    mark = tmp_path / "sick"
    before = set(processes.run(os.getpid).values())

    _, tally, _ = drive(processes, replace(job, load_model=partial(load_sick_once, mark)), listing_of(source))

    assert tally.n_ok == 24
    assert int(mark.read_text()) in before
    _await(lambda: len(processes.nthreads()) == 2)
    assert int(mark.read_text()) not in set(processes.run(os.getpid).values())


RELEASED = threading.Event()


def load_that_never_answers():
    def answer(pixels):
        RELEASED.wait(60)
        return brightest(pixels)

    return answer


def test_27_a_forward_pass_that_never_ends_ends_the_run_and_leaves_the_cluster_s_state(
    own_client, job, source, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    try:
        with pytest.raises(ClusterError, match=r"nothing was done for 2 s .* its state is in (cluster-dump-\S+)"):
            drive(
                own_client,
                replace(job, load_model=load_that_never_answers),
                listing_of(source),
                limits=Limits(stall_timeout_s=2),
            )
    finally:
        RELEASED.set()

    (dump,) = tmp_path.glob("cluster-dump-*")
    assert dump.stat().st_size > 1000
    assert rows_of(job.destination) == []


def load_beyond_int16():
    def answer(pixels):
        good = brightest(pixels)
        return Prediction(
            np.where(np.arange(5) == 4, 70_000, good.class_index).astype(np.int32),
            good.probability,
            good.breed_class_index,
            good.breed_probability,
        )

    return answer


def test_10_an_exception_while_a_part_is_made_leaves_nothing_under_its_name(client, job, source):
    with pytest.raises(Exception, match="70000"):
        drive(client, replace(job, load_model=load_beyond_int16), listing_of(source))

    assert part_name(0) not in job.destination.etags("outcomes")
    assert not job.destination.is_marked()


@pytest.fixture
def other_versions(tmp_path):
    """The environment of a Dask of another version."""
    metadata = tmp_path / "site" / "dask-2020.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dask\nVersion: 2020.1.0\n")
    return {"PYTHONPATH": str(metadata.parent)}


def test_22_a_cluster_of_other_versions_is_refused_by_name(tmp_path, other_versions):
    with dask_by_hand(tmp_path, 1, other_versions) as other:
        config = RunConfig("images", "out", cluster=other.address)

        with (
            pytest.raises(
                UsageError, match=r"^scheduler, worker tcp://.*: dask 2020\.1\.0, here 2\d.*; install dask 2\d"
            ),
            joined_workers(config, asked_for(config)),
        ):
            pass


def test_22_a_cluster_with_too_few_workers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.connect.FIRST_WORKERS_S", 1.0)
    with dask_by_hand(tmp_path, 0) as empty:
        options = ClusterOptions(empty.address, min_workers=3)

        with pytest.raises(TimeoutError, match="0 of the 3 workers of --min-workers came"), connect(options):
            pass


@pytest.mark.parametrize("content", ["", "[]", '{"workers": {}}', '"tcp://127.0.0.1:8786"'])
def test_a_file_that_names_no_scheduler_is_refused(tmp_path, content):
    (tmp_path / "notes.txt").write_text(content)

    with (
        pytest.raises(ValueError, match="this file names no scheduler's address"),
        join_cluster(f"{tmp_path}/notes.txt"),
    ):
        pass


def _await(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()
