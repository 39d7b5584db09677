"""What a local cluster of GPUs is asked for, where there is none: dask-cuda's own class is a stand-in here."""

import sys
from types import SimpleNamespace

import pytest

from cluster import local


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
