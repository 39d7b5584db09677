"""A detached run whose driver loses its worker, and one that is asked to stop."""

import json
import subprocess
import sys
import time

import pytest
from distributed import Client

from pipeline.audience.beacon import PERIOD_S
from pipeline.verify import main as verify
from tests.by_hand import dask_by_hand
from tests.command_line import run

SLOW = ["--precision", "fp32", "--batch-size", "4", "--batches-per-part", "1"]
"""So that there are parts enough to be caught between."""


@pytest.fixture
def begun(tmp_path, drawings, weights):
    """A detached run that is under way, on two workers."""
    for number, (key, data) in enumerate(drawings[:96] * 3):
        path = tmp_path / "photos" / key.replace(".", f"_{number}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "dask").mkdir()
    with dask_by_hand(tmp_path / "dask", 2) as cluster:
        with Client(cluster.address) as client:
            client.wait_for_workers(2, timeout=60)
        command = [str(tmp_path / "photos"), str(tmp_path / "out"), *SLOW, "--weights", str(weights)]
        command += ["--cluster", cluster.address]
        done = run(*command, "--detach", "--overwrite")  # which another driver must not do once more
        assert done.returncode == 0, done.stderr
        yield cluster, command, tmp_path / "out"


def follow(out, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.attach", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_classified(out, n_images):
    deadline = time.monotonic() + 60
    while json.loads((out / "progress.json").read_text())["n_classified"] < n_images:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def process_of_driver(cluster):
    """Return the worker process that drives."""
    with Client(cluster.address) as client:
        tasks = client.processing()
    (address,) = [worker for worker, keys in tasks.items() if any(key.startswith("drive-") for key in keys)]
    return next(process for process in cluster.worker_processes() if listens_at(process, address))


def listens_at(process, address):
    return any(
        connection.status == "LISTEN" and address.endswith(f":{connection.laddr.port}")
        for connection in process.net_connections()
    )


def test_a_driver_that_loses_its_worker_is_begun_again_on_another_and_goes_on(begun):
    cluster, _, out = begun
    follower = follow(out)
    await_classified(out, 32)

    process_of_driver(cluster).kill()
    stdout, stderr = follower.communicate(timeout=200)

    assert follower.returncode == 0, stderr
    assert "the run was begun again on another worker" in stderr
    assert "288: 288 ok, 0 failed" in stdout
    last = json.loads((out / "progress.json").read_text())
    assert last["n_restarts"] == 1
    assert last["n_found"] > 0
    assert verify([str(out)]) == 0


def test_a_run_that_is_asked_to_stop_does_so_and_can_be_resumed(begun):
    _, command, out = begun
    await_classified(out, 8)

    asked = follow(out, "--stop")
    _, stderr = asked.communicate(timeout=60 + PERIOD_S)
    resumed = run(*command)

    assert asked.returncode == 130, stderr
    assert "to resume: python -m pipeline.run " in stderr
    assert resumed.returncode == 0, resumed.stderr
    assert verify([str(out)]) == 0
