"""The doctor: what it makes of what processes tell. Clusters that are sick for real are in tests/chaos."""

import json
from dataclasses import replace

import pytest

from pipeline.diagnosis import machines
from pipeline.diagnosis.connections import encryption
from pipeline.diagnosis.examination import at_once
from pipeline.diagnosis.findings import Level
from pipeline.diagnosis.questions import vitals
from pipeline.diagnosis.software import PACKAGES, packages, python
from pipeline.diagnosis.vitals import Cuda, Patient, Vitals
from pipeline.doctor import main

GIB = 1 << 30
HERE = Vitals(
    "client", **vitals(PACKAGES) | {"host": "alpha", "cores": list(range(16)), "libc": "glibc", "preloaded": ""}
)


SHARED = "worker tcp://10.0.0.0:4000, worker tcp://10.0.0.1:4000: they share GPU-0"


def worker(number=0, **changes):
    healthy = {
        "name": f"worker tcp://10.0.0.{number}:4000",
        "visible_gpus": [f"GPU-{number}"],
        "n_gpus": 2,
        "n_slots": 8,
        "memory_bytes": 32 * GIB,
        "host_memory_bytes": 64 * GIB,
        "has_nanny": True,
    }
    return replace(HERE, **healthy | changes)


def cluster(*workers, address="tls://10.0.0.9:8786", scheduler=None):
    asked_s = HERE.clock - 1, HERE.clock + 1
    return Patient(
        address, HERE, replace(scheduler or HERE, name="scheduler"), workers or (worker(0), worker(1)), asked_s
    )


def other(package, version):
    return {"packages": dict(HERE.packages) | {package: version}}


def test_nothing_is_wrong_with_a_healthy_cluster():
    found = at_once(cluster())

    assert [str(finding) for finding in found if finding.level is not Level.OK] == []
    assert len({finding.check for finding in found}) == len(found)


@pytest.mark.parametrize(
    ("check", "patient", "level", "words"),
    [
        (
            python,
            replace(cluster(), strangers={"scheduler": "3.10.2"}, scheduler=None),
            "problem",
            "scheduler: Python 3.10.2, here 3.",
        ),
        (packages, cluster(worker(0), worker(1, **other("torchvision", "0.2"))), "problem", "0.2, on most workers 0."),
        (packages, cluster(worker(**other("torch", "2.1"))), "warning", "most workers 2.1, which decides predictions"),
        (packages, cluster(worker(**other("pillow", None))), "problem", "no pillow; install pillow "),
        (packages, cluster(worker(**other("dask-image-inference", None))), "problem", "or give --upload"),
        (packages, cluster(worker(**other("s3fs", "2020.1"))), "warning", "s3fs 2020.1, here "),
        (
            packages,
            cluster(scheduler=replace(HERE, **other("distributed", "1"))),
            "problem",
            "scheduler: distributed 1,",
        ),
        (encryption, cluster(address="tcp://10.0.0.9:8786"), "warning", "takes tasks from whoever reaches it"),
        (encryption, cluster(address="tcp://gpu-box:8786"), "warning", "nothing is encrypted"),
        (
            machines.devices,
            cluster(*(worker(i, visible_gpus=["GPU-0"], n_gpus=1) for i in range(2))),
            "problem",
            SHARED,
        ),
        (machines.devices, cluster(worker(0)), "warning", "host alpha: 1 GPU of it without a worker"),
        (machines.memory, cluster(worker(memory_bytes=GIB // 2)), "problem", "a limit of 0.5 GiB"),
        (machines.memory, cluster(worker(memory_bytes=5 * GIB // 4)), "warning", "a limit of 1.2 GiB"),
        (machines.memory, cluster(worker(memory_bytes=0)), "warning", "no memory limit"),
        (
            machines.memory,
            cluster(worker(0, memory_bytes=60 * GIB), worker(1)),
            "warning",
            "may take 92.0 GiB, and it has 64",
        ),
        (machines.threads, cluster(worker(n_slots=1)), "warning", "start it with --nthreads 17"),
        (
            machines.threads,
            cluster(*(worker(i, n_slots=16) for i in range(3))),
            "warning",
            "48 task slots together for 16",
        ),
        (machines.allocator, cluster(worker(preloaded="/usr/lib/libjemalloc.so.2")), "warning", "libjemalloc.so.2"),
        (machines.allocator, cluster(worker(libc="")), "warning", "is not glibc's (unknown)"),
        (machines.clocks, cluster(worker(clock=HERE.clock + 61)), "warning", "its clock is 60 s ahead"),
        (machines.clocks, cluster(worker(clock=HERE.clock - 3601)), "problem", "its clock is 3,600 s behind"),
        (machines.nannies, cluster(worker(has_nanny=False)), "warning", "it has no nanny"),
    ],
)
def test_what_is_wrong_is_said_with_its_mend(check, patient, level, words):
    (finding,) = check(patient)

    assert finding.level == level
    assert words in str(finding)
    assert finding.mend
    assert "\n" not in str(finding)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "inproc://10.0.0.9/1/2", "tcp://localhost:1"]
)
def test_a_scheduler_that_only_this_machine_reaches_needs_no_encryption(address):
    (finding,) = encryption(cluster(address=address))

    assert finding.level is Level.OK


def test_a_gpu_that_torch_cannot_use_is_named_with_driver_and_cuda():
    fault = "RuntimeError: The NVIDIA driver on your system is too old"
    told = [Cuda("470.57", "13.0", None, fault), Cuda("580.1", "13.0", "NVIDIA H200", None)]

    (finding,) = machines.cuda(cluster(), told)

    assert str(finding).startswith(
        "worker tcp://10.0.0.0:4000: torch (CUDA 13.0) cannot use the GPU under driver 470.57: "
    )
    assert finding.level is Level.PROBLEM


def test_workers_that_have_the_same_share_a_line():
    (finding,) = machines.nannies(cluster(*(worker(i, has_nanny=False) for i in range(9))))

    assert len(finding.where) == 9
    assert "and 6 more: it has no nanny" in str(finding)


def test_a_cluster_of_this_machine_s_is_healthy(capsys):
    status = main(["--cluster", "cpu"])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0, lines
    assert {line.split()[0] for line in lines[:-1]} == {"ok"}
    assert lines[-1] == "in all       0 problems, 0 warnings, 12 passed checks"


def test_ends_that_cannot_be_used_are_found_from_here_too(tmp_path, capsys):
    (tmp_path / "images").mkdir()

    status = main([str(tmp_path / "images"), str(tmp_path / "out"), "--weights", str(tmp_path / "no.pth"), "--json"])

    told = json.loads(capsys.readouterr().out)
    problems = [finding for finding in told["findings"] if finding["level"] == "problem"]
    assert status == told["status"] == 2
    assert [(finding["check"], finding["where"]) for finding in problems] == [
        ("storage", ["client"]),
        ("weights", ["client"]),
    ]
    assert "no image under" in problems[0]["what"]
    assert [process["name"].split()[0] for process in told["processes"]] == ["client", "scheduler", "worker"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images"], "SOURCE images without a DESTINATION: give both, or neither"),
        (["--cluster", "nowhere"], "--cluster nowhere: expected auto, cuda, cpu, a scheduler's address"),
        (["--batch-size", "8"], "No such option"),
    ],
)
def test_bad_usage_is_one_line(arguments, words, capsys):
    assert main(arguments) == 2

    told = capsys.readouterr()
    assert words in told.err
    assert len(told.err.splitlines()) == 1


def test_a_scheduler_that_is_not_there_is_a_problem(capsys):
    assert main(["--cluster", "tcp://127.0.0.1:1"]) == 2

    assert capsys.readouterr().out.startswith(
        "problem      cluster      --cluster tcp://127.0.0.1:1: no scheduler answers"
    )
