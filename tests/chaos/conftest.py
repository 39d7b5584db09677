"""What the scenarios stand on.

================  =======  =====================================================================================
fixture           lives    what it is
================  =======  =====================================================================================
``server``        session  moto's S3 server in this process behind a layer of faults; clean before each test
``source``        session  URL of a folder with 32 good drawings and 4 unusable ones
``many``          session  URL of a folder with 250 images: all drawings, and copies of them
``command``       test     starts ``python -m pipeline.run`` on the source and a new destination
``shared``        session  a scheduler and two workers by hand, which many tests share; what they kill comes again
``undisturbed``   session  a run on ``many`` that nothing happened to: its rows and its time
================  =======  =====================================================================================
"""

import io
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pyarrow.parquet as pq
import pytest
from distributed import Client

from pipeline.demo.s3 import CREDENTIALS, fill_bucket
from pipeline.verify import main as verify
from tests.by_hand import dask_by_hand
from tests.faulty_s3 import faulty_s3
from tests.poison import poison_environment

BUCKET = "chaos"
SMALL = ["--precision", "fp32", "--max-failure-rate", "0.3", "--batch-size", "2", "--batches-per-part", "2"]
N_GOOD, N_UNUSABLE = 32, 4
"""So the plan has 9 parts."""

N_MANY = 250

TOLERANCE = 1e-3


@pytest.fixture(scope="session")
def the_server(no_settings_of_the_users_own):
    with faulty_s3() as server:
        os.environ.update(CREDENTIALS | {"AWS_ENDPOINT_URL": server.endpoint})
        yield server


@pytest.fixture
def server(the_server):
    the_server.faults.clear()
    the_server.log.clear()
    yield the_server
    the_server.faults.clear()


@pytest.fixture(scope="session")
def source(the_server, drawings, weights):
    fill_bucket(BUCKET, [*drawings[:N_GOOD], *drawings[-N_UNUSABLE:]])
    boto3.client("s3").put_object(Bucket=BUCKET, Key="weights.pth", Body=weights.read_bytes())
    return f"s3://{BUCKET}/Images"


@pytest.fixture(scope="session")
def many(source, drawings):
    named = ((f"Many/{copy}/{key}", data) for copy in count() for key, data in drawings)
    fill_bucket(BUCKET, islice(named, N_MANY))
    return f"s3://{BUCKET}/Many"


@pytest.fixture(scope="session")
def shared(the_server, tmp_path_factory):
    with dask_by_hand(tmp_path_factory.mktemp("shared"), 2, poison_environment()) as cluster:
        yield cluster


class Command:
    """``python -m pipeline.run``, again and again on one destination."""

    def __init__(self, server, source: str, folder: Path, weights: str) -> None:
        self.server, self.source, self.folder, self.weights = server, source, folder, weights
        self.prefix = f"out-{uuid4().hex[:8]}"
        self.destination = f"s3://{BUCKET}/{self.prefix}"
        self.process: subprocess.Popen[str] | None = None

    def another(self, source: str | None = None) -> "Command":
        """Return a command that does the same for a destination of its own, or for another source."""
        return Command(self.server, source or self.source, self.folder, self.weights)

    def twin(self) -> "Command":
        """Return a command that does the same for the same destination."""
        twin = self.another()
        twin.destination, twin.prefix = self.destination, self.prefix
        return twin

    def start(self, cluster: str, *options: str) -> None:
        args = [self.source, self.destination, "--weights", self.weights, "--cluster", cluster]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.run", *args, *SMALL, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def end(self, timeout_s: float = 120) -> tuple[int, str]:
        """Wait for the end; return the exit status and all that was said."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end within {timeout_s} s: {self.process.communicate()}") from None
        return self.process.returncode, stdout + stderr

    def run(self, cluster: str, *options: str, timeout_s: float = 120) -> tuple[int, str]:
        self.start(cluster, *options)
        return self.end(timeout_s)

    def n_parts(self) -> int:
        """Return how many parts were put so far."""
        return self.server.count("PUT", f"{self.prefix}/outcomes/")

    def await_parts(self, n_parts: int) -> None:
        assert self.is_at(n_parts), (self.n_parts(), self.end())

    def is_at(self, n_parts: int, timeout_s: float = 60) -> bool:
        """Return True once so many parts were put, False if the command has ended before."""
        deadline = time.monotonic() + timeout_s
        while self.n_parts() < n_parts and time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        """End what still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def image_keys(self) -> list[str]:
        """Return the keys of the source's images."""
        prefix = self.source.removeprefix(f"s3://{BUCKET}/") + "/"
        found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
        return [entry["Key"] for entry in found]

    def objects(self, folder: str = "") -> dict[str, str]:
        found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/{folder}")
        return {entry["Key"].removeprefix(f"{self.prefix}/"): entry["ETag"] for entry in found.get("Contents", [])}

    def rows(self) -> list[dict]:
        """Return every row, as a stranger reads the plain glob."""
        client, rows = boto3.client("s3"), []
        for name in self.objects("outcomes/"):
            body = client.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}")["Body"].read()
            rows += pq.read_table(io.BytesIO(body)).to_pylist()
        return rows


@pytest.fixture
def command(server, source, tmp_path, weights):
    command = Command(server, source, tmp_path, str(weights))
    yield command
    command.close()


@dataclass(frozen=True)
class Undisturbed:
    """What a run comes to if nothing happens."""

    rows: list[dict]
    seconds: float
    """Of the whole command."""

    requests: Counter[tuple[str, str]]
    """What the server was asked for meanwhile, by method and key."""

    @property
    def by_content(self) -> dict[str, dict]:
        """The rows by ETag."""
        return {row["etag"]: row for row in self.rows}


@pytest.fixture(scope="session")
def undisturbed(the_server, many, shared, tmp_path_factory):
    folder, weights = tmp_path_factory.mktemp("undisturbed"), f"s3://{BUCKET}/weights.pth"
    command, began, n_before = Command(the_server, many, folder, weights), time.monotonic(), len(the_server.log)
    # Without the report, which reads some images once more, the requests are those of the run alone.
    status, said = command.run(shared.address, "--min-workers", "2", "--no-report")
    seconds = time.monotonic() - began
    assert status == 0, said
    requests = Counter((request.method, request.key) for request in the_server.log[n_before:])
    return Undisturbed(command.rows(), seconds, requests)


@pytest.fixture
def assert_whole(undisturbed, capsys):
    """Assert the invariant: by the project's own `verify`, by a stranger's reading, and against undisturbed answers."""

    answers = undisturbed.by_content

    def check(command: Command) -> None:
        rows = command.rows()
        assert Counter(row["image"] for row in rows) == Counter(f"s3://{BUCKET}/{key}" for key in command.image_keys())
        assert "_SUCCESS" in command.objects()
        assert verify([command.destination, "--source", command.source]) == 0, capsys.readouterr()
        for row in rows:
            if row["etag"] in answers:  # by content: images may be copied, and poisoned ones have no answer
                assert_same_answer(row, answers[row["etag"]])

    return check


def assert_same_answer(row: dict, expected: dict) -> None:
    told = ("status", "stage", "reason")
    assert [row[name] for name in told] == [expected[name] for name in told]
    if row["status"] == "ok":
        best, second = expected["top5_probability"][:2]
        assert row["class_index"] == expected["class_index"] or best - second < TOLERANCE
        assert abs(row["probability"] - expected["probability"]) < TOLERANCE


def left_on(address: str) -> list[str]:
    """Return what runs have left on a scheduler: tasks, and plugins of ours."""
    deadline = time.monotonic() + 10  # of a client that was killed the scheduler hears after a while
    with Client(address, set_as_default=False) as client:
        while (left := client.run_on_scheduler(_left)) and time.monotonic() < deadline:
            time.sleep(0.2)
    return left


def _left(dask_scheduler: Any) -> list[str]:
    plugins = [name for name in (*dask_scheduler.worker_plugins, *dask_scheduler.plugins) if "pipeline" in name]
    return [*map(str, dask_scheduler.tasks), *plugins]


def pytest_addoption(parser):
    parser.addoption("--seeds", type=int, default=20, help="Random schedules to run.")
    parser.addoption("--first-seed", type=int, default=None, help="Begin with this one (default: any).")


def pytest_configure(config):
    if config.getoption("--first-seed") is None:  # tests run in several processes, which have to agree on it
        config.option.first_seed = int(os.environ.setdefault("CHAOS_FIRST_SEED", str(random.randrange(10**6))))


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--first-seed")
        metafunc.parametrize("seed", range(first, first + metafunc.config.getoption("--seeds")))
