"""The doctor on clusters that are sick for real: processes that lack, limit or cannot reach what a run needs."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from distributed import Client

from benchmarks.server import rclone_server
from pipeline.demo.s3 import CREDENTIALS
from pipeline.doctor import main
from tests.by_hand import dask_by_hand
from tests.command_line import run
from tests.virtual_environments import another_python, environment

OTHER_TORCHVISION = "torchvision==0.28.0"
OTHER_DASK = "dask==2026.7.0"


def installed(folder, *packages):
    """Install packages into a folder of their own, without what they need."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
    done = subprocess.run([*pip, str(folder), *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot install {packages}: {done.stderr.strip().splitlines()[-1]}")
    return folder


def of_another_version(folder):
    """Return an interpreter of another minor version with Dask, and nothing else of ours."""
    subprocess.run([another_python(), "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"distributed=={version('distributed')}"], check=True)
    return python


@pytest.fixture(scope="module")
def store(tmp_path_factory, drawings, no_settings_of_the_users_own):
    """An S3 server that asks for keys, with an image; it is this process's."""
    folder = tmp_path_factory.mktemp("store")
    for key, data in drawings[:2]:
        path = folder / "buckets" / "photos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "buckets" / "results").mkdir()
    former = {name: os.environ.get(name) for name in (*CREDENTIALS, "AWS_ENDPOINT_URL")}
    with rclone_server(folder / "buckets", folder / "rclone.log") as endpoint:
        os.environ.update(CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint})
        yield "s3://photos", "s3://results/out"
    for name, value in former.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def pythons(tmp_path_factory):
    """Interpreters whose packages are others."""
    folder = tmp_path_factory.mktemp("pythons")
    here = Path(__file__).parent.parent.parent
    torchvision = installed(folder / "other-torchvision", OTHER_TORCHVISION)
    dask = installed(folder / "other-dask", OTHER_DASK)
    others = {"another Python": of_another_version(folder / "python")} if another_python() else {}
    return others | {
        "without the package": environment(folder / "without"),
        "another torchvision": environment(folder / "torchvision", without=["torchvision"], paths=[torchvision, here]),
        "another Dask": environment(folder / "dask", without=["dask"], paths=[dask, here]),
    }


SICK = {
    "healthy": ((), {}),
    "one thread": (("--nthreads", "1"), {}),
    "no nanny": (("--no-nanny",), {}),
    "little memory": (("--memory-limit", "700MiB"), {}),
    "no memory limit": (("--memory-limit", "0"), {}),
    "other keys": ((), {"AWS_ACCESS_KEY_ID": "somebody-elses", "AWS_SECRET_ACCESS_KEY": "not-of-this-store"}),
    "no keys": ((), {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}),
    "no cache": ((), {"TORCH_HOME": "/proc/none"}),
}
"""Options and environment of workers that have a name each."""


@pytest.fixture(scope="module")
def diagnosis(tmp_path_factory, store, weights, pythons):
    """What the doctor finds on one cluster of workers with a sickness each, by check and by worker."""
    with dask_by_hand(tmp_path_factory.mktemp("dask"), 0) as sick:
        for name, (options, settings) in SICK.items():
            sick.add_worker("--name", name, *options, **settings)
        for name, python in pythons.items():
            sick.add_worker("--name", name, python=str(python))
        with Client(sick.address) as client:
            client.wait_for_workers(len(SICK) + len(pythons), timeout=60)
            names = {address: told["name"] for address, told in client.scheduler_info(n_workers=-1)["workers"].items()}
        command = ["doctor", *store, "--cluster", sick.address, "--weights", str(weights), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", f"pipeline.{command[0]}", *command[1:]], capture_output=True, text=True, check=False
        )
        refused = run(*store, "--cluster", sick.address, "--weights", str(weights))
    assert done.returncode == 2, done.stderr
    told = {}
    for finding in json.loads(done.stdout)["findings"]:
        for process in finding["where"]:
            key = finding["check"], names.get(process.removeprefix("worker "), process)
            told.setdefault(key, []).append((finding["level"], f"{finding['what']}; {finding['mend']}"))
    return told, refused


@pytest.mark.parametrize(
    ("check", "worker", "level", "words"),
    [
        ("threads", "one thread", "warning", "one task slot: nothing is read or decoded while the model computes"),
        ("nannies", "no nanny", "warning", "it has no nanny"),
        ("memory", "little memory", "problem", "a limit of 0.7 GiB"),
        ("memory", "no memory limit", "warning", "no memory limit"),
        ("source", "other keys", "problem", "give the worker AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile"),
        ("destination", "other keys", "problem", "an instance role that may write and delete there"),
        ("source", "no keys", "problem", "give the worker AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile"),
        ("weights", "no cache", "problem", "cannot write the weights cache"),
        ("packages", "without the package", "problem", "no dask-image-inference, here "),
        ("imports", "without the package", "problem", "ModuleNotFoundError: No module named 'pipeline'"),
        ("packages", "another torchvision", "problem", "torchvision 0.28.0, on most workers 0.29"),
        ("packages", "another Dask", "problem", "dask 2026.7.0, here 2026.7.1"),
        ("python", "another Python", "problem", f"; start it with Python 3.{sys.version_info.minor}"),
    ],
)
def test_each_sickness_is_found_and_its_mend_is_said(diagnosis, check, worker, level, words):
    told, _ = diagnosis
    if worker == "another Python" and not another_python():
        pytest.skip("there is no other version of Python on this machine")

    assert any(found == level and words in text for found, text in told.get((check, worker), [])), told


def test_a_healthy_worker_beside_them_has_nothing(diagnosis):
    told, _ = diagnosis

    assert [check for check, worker in told if worker == "healthy"] == []


def test_a_run_refuses_such_a_cluster_in_the_doctor_s_words(diagnosis):
    _, refused = diagnosis

    assert refused.returncode == 2
    error = refused.stderr.splitlines()[-1]
    assert error.startswith("error: worker tcp://")
    assert "more problems: ask pipeline.doctor" in error


def test_a_worker_that_hangs_is_named_and_does_not_hold_up_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.diagnosis.examination.ANSWER_S", 3.0)
    with dask_by_hand(tmp_path, 2) as cluster:
        with Client(cluster.address) as client:
            client.wait_for_workers(2, timeout=60)
        hung = cluster.worker_processes()[0]
        hung.send_signal(signal.SIGSTOP)
        try:
            status = main(["--cluster", cluster.address])
        finally:
            hung.send_signal(signal.SIGCONT)

    lines = capsys.readouterr().out.splitlines()
    assert status == 2
    assert lines[0].startswith("problem      answers      worker tcp://")
    assert "no answer within 3 s" in lines[0]
    assert any(
        line.startswith("ok           packages     the same on client, scheduler and 1 worker") for line in lines
    )


def test_a_plain_scheduler_that_others_can_reach_is_warned_of(tmp_path, capsys):
    addresses = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == 2]
    reachable = next((address for address in addresses if not address.startswith("127.")), None)
    if reachable is None:
        pytest.skip("this machine has no address but its loopback's")
    file = tmp_path / "scheduler.json"
    command = ["dask", "scheduler", "--host", reachable, "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL)
    try:
        while not file.exists():
            time.sleep(0.1)
        main(["--cluster", str(file)])
    finally:
        scheduler.terminate()
        scheduler.wait(15)

    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("warning      encryption   scheduler: tcp://") for line in lines)
    assert any(line.startswith("problem      workers      tcp://") and "has 0 workers" in line for line in lines)
