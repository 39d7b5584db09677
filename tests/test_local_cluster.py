"""Local clusters. There is no GPU here: what one of GPUs is asked for is told by a stand-in for dask-cuda's class."""

import os
import sys
from types import SimpleNamespace

import dask
import psutil
import pytest

from cluster import forkserver, local
from cluster.connect import ClusterOptions, connect
from cluster.forkserver import start_forkserver

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")


@pytest.fixture
def asked(monkeypatch):
    """Return what dask-cuda was asked for."""
    settings = {}
    monkeypatch.setitem(sys.modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=settings.update))
    monkeypatch.setattr(local, "count_gpus", lambda: 2)
    monkeypatch.setattr(local, "usable_cores", lambda: 16)
    return settings


def test_each_gpu_gets_its_share_of_the_cores_for_decoding_and_slots_for_tasks_that_wait(asked):
    local.local_cuda_cluster(None, None)

    assert (asked["n_workers"], asked["threads_per_worker"]) == (2, 8 + local.WAITING_SLOTS)


def test_what_was_asked_for_is_what_there_is(asked):
    local.local_cuda_cluster(1, 5)

    assert (asked["n_workers"], asked["threads_per_worker"]) == (1, 5)


def test_dask_cuda_takes_the_threads_by_this_name():
    import inspect

    from dask_cuda import LocalCUDACluster

    assert inspect.signature(LocalCUDACluster).parameters["threads_per_worker"].default == 1


def test_more_workers_than_gpus_are_refused(asked):
    with pytest.raises(ValueError, match="--workers 3: this machine has 2 GPUs"):
        local.local_cuda_cluster(3, None)

    assert asked == {}


def test_everything_local_listens_on_loopback_only():
    before = listening()

    with connect(ClusterOptions("cpu", workers=1)):
        opened = listening() - before

    assert opened
    assert {host for _, host, _ in opened} == {"127.0.0.1"}


@pytest.fixture
def no_forkserver(monkeypatch):
    """Hide the process to fork from, if there is one, and what the test starts from what comes after."""
    monkeypatch.setattr(forkserver, "_environment", None)


@on_linux
def test_workers_are_forked_from_a_process_that_has_imported_everything(no_forkserver):
    start_forkserver(["pipeline.stages.model"])
    with connect(ClusterOptions("cpu", workers=2)) as client:
        before = client.run(parentage)
        client.restart_workers([next(iter(before))])  # what takes its place has not to begin anew either
        after = client.run(parentage)

    (parent,) = {parent for parent, _ in [*before.values(), *after.values()]}
    assert "multiprocessing.forkserver" in " ".join(psutil.Process(parent).cmdline())
    assert all(has_torch for _, has_torch in [*before.values(), *after.values()])


@on_linux
def test_workers_see_what_the_environment_says_now(no_forkserver, monkeypatch):
    start_forkserver(["pipeline.stages.model"])
    monkeypatch.setenv("AWS_PROFILE", "new")

    with connect(ClusterOptions("cpu", workers=1)) as client:
        seen = client.run(os.getenv, "AWS_PROFILE")

    assert list(seen.values()) == ["new"]


def test_dask_s_own_setting_of_how_to_start_workers_is_kept(no_forkserver):
    with dask.config.set({"distributed.worker.multiprocessing-method": "fork"}):
        start_forkserver(["pipeline.stages.model"])

    assert forkserver._environment is None


def test_dask_looks_at_itself_less_often_unless_the_user_said_how_often():
    profile, tick = "distributed.worker.profile.interval", "distributed.admin.tick.interval"

    with dask.config.set({tick: "30ms"}), connect(ClusterOptions("cpu", workers=1)) as client:
        on_worker = client.run(lambda: (dask.config.get(profile), dask.config.get(tick)))

    assert list(on_worker.values()) == [("100ms", "30ms")]
    assert dask.config.get(profile) == "10ms"


def parentage():
    """Return a worker's parent, and whether it had torch before anybody asked for it."""
    return os.getppid(), "torch" in sys.modules


def listening():
    """Return the process, host and port of each socket on which this process or one below it listens."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = {(p.pid, c) for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return {(pid, connection.laddr.ip, connection.laddr.port) for pid, connection in found}
