"""Local clusters. There is no GPU here: what one of GPUs is asked for is told by a stand-in for dask-cuda's class."""

import sys
from types import SimpleNamespace

import psutil
import pytest

from cluster import local
from cluster.connect import ClusterOptions, connect


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


def listening():
    """Return the process, host and port of each socket on which this process or one below it listens."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = {(p.pid, c) for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return {(pid, connection.laddr.ip, connection.laddr.port) for pid, connection in found}
