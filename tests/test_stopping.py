"""Ctrl-C and SIGTERM, once and twice, to the command as people type it."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from pipeline.demo.s3 import fill_bucket
from tests.command_line import command, keys_of, read_outcomes


@pytest.fixture(scope="module")
def source(s3, drawings):
    fill_bucket("drawn-dogs", drawings)
    return "s3://drawn-dogs/Images"


@pytest.fixture
def running(source, weights):
    """A run in mid-batch, with small parts so that some are committed soon."""
    destination = f"s3://drawn-dogs/stopped-{time.time_ns()}"
    args = command(
        source,
        destination,
        "--weights",
        str(weights),
        "--batch-size",
        "4",
        "--batches-per-part",
        "1",
        "--cluster",
        "cpu",
    )
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    prefix = destination.removeprefix("s3://drawn-dogs/") + "/outcomes/"
    deadline = time.monotonic() + 120
    while not keys_of("drawn-dogs", prefix) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    yield process, destination
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_what_is_in_flight_within_30_seconds(running, s3, number):
    process, destination = running

    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 130, stderr
    assert "error: stopped on request" in stderr
    assert stderr.splitlines()[-1].startswith("to resume: python -m pipeline.run s3://drawn-dogs/Images s3://")
    assert "--overwrite" not in stderr.splitlines()[-1]
    assert len(read_outcomes(s3, f"{destination}/outcomes")) % 4 == 0
    assert not [key for key in keys_of("drawn-dogs", destination.removeprefix("s3://drawn-dogs/")) if "_SUCCESS" in key]


def test_a_second_signal_stops_at_once(running):
    process, _ = running
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=15)

    assert process.returncode == 130
    assert not psutil.wait_procs(children, timeout=15)[1]
