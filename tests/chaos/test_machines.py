"""The recipe for several machines, line by line as cluster/README.md gives it, on machines with an address each."""

import io
import re
import shlex
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest

from pipeline.demo.s3 import CREDENTIALS, fill_bucket
from tests.machines import Machine, network, why_there_is_no_network

README = Path(__file__).parents[2] / "cluster" / "README.md"
SCHEDULER, WORKERS, DESK = "10.0.0.7", ("10.0.0.8", "10.0.0.9"), "10.0.0.5"
N_GOOD, N_UNUSABLE = 58, 6
SMALL = ["--precision", "fp32", "--max-failure-rate", "0.1", "--batch-size", "4", "--batches-per-part", "2"]
N_PARTS = 8
END_S = 240

MISSING = why_there_is_no_network()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def recipe():
    """Return (address, command) for each line of the recipe, which begins with the machine's address."""
    text = README.read_text(encoding="utf-8").partition("\n## Several machines")[2].partition("\n## ")[0]
    lines = re.findall(r"^(10\.0\.0\.\d+)\$ (.+)$", text, re.MULTILINE)
    return [(address, shlex.split(command)) for address, command in lines]


@pytest.fixture(scope="module")
def desk(drawings, weights, tmp_path_factory):
    """The machine of whoever runs the job, with an S3 server; on the others the recipe's commands are at work."""
    folder = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch, network([SCHEDULER, *WORKERS, DESK], folder) as machines:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://{DESK}:9000"}).items():
            patch.setenv(name, value)
        machines[DESK].start(["python", "-m", "moto.server", "--host", DESK, "--port", "9000"])
        for address, command in recipe()[:-1]:
            machines[address].start(command)
        desk = Desk(machines, folder)
        desk.fill([*drawings[:N_GOOD], *drawings[-N_UNUSABLE:], ("weights.pth", weights.read_bytes())])
        yield desk


class Desk:
    """Where the last command of the recipe is typed, and the bucket looked at."""

    def __init__(self, machines: dict[str, Machine], folder: Path) -> None:
        self.machines, self._own, self._folder = machines, machines[DESK], folder

    def fill(self, objects) -> None:
        with self._own.inside():
            await_port(DESK, 9000)
            fill_bucket("drawn", objects)

    def run(self, name: str, *options: str) -> subprocess.Popen:
        """Start the recipe's last command with SOURCE and DESTINATION filled in."""
        address, command = recipe()[-1]
        assert address == DESK
        named = {"SOURCE": "s3://drawn/Images", "DESTINATION": f"s3://drawn/{name}", "python": sys.executable}
        command = [named.get(word, word) for word in command]
        with self._own.inside():
            return subprocess.Popen(
                [*command, "--weights", "s3://drawn/weights.pth", *SMALL, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self._folder,
            )

    def parts(self, name: str) -> list[str]:
        """Return the keys of a run's parts so far."""
        with self._own.inside():
            found = boto3.client("s3").list_objects_v2(Bucket="drawn", Prefix=f"{name}/outcomes/")
        return [entry["Key"] for entry in found.get("Contents", [])]

    def rows(self, name: str) -> list[dict]:
        """Return every row of a run."""
        rows = []
        for key in self.parts(name):
            with self._own.inside():
                body = boto3.client("s3").get_object(Bucket="drawn", Key=key)["Body"].read()
            rows += pq.read_table(io.BytesIO(body)).to_pylist()
        return rows

    def verify(self, name: str) -> str:
        command = [sys.executable, "-m", "pipeline.verify", f"s3://drawn/{name}", "--source", "s3://drawn/Images"]
        with self._own.inside():
            return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout


def await_port(host, port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens at {host}:{port}")


def ended(process, timeout_s):
    """Return the exit status of a command, and all that it said."""
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"no end within {timeout_s} s: {process.communicate()[0]}") from None
    return process.returncode, said


def answers_of(desk, name):
    """Return what a run says of each image, once it is proven that it says it of all, and blames none that is good."""
    rows = desk.rows(name)
    assert Counter(row["status"] for row in rows) == {"ok": N_GOOD, "failed": N_UNUSABLE}
    assert len({row["image"] for row in rows}) == N_GOOD + N_UNUSABLE
    assert {row["stage"] for row in rows if row["status"] == "failed"} == {"decode"}
    assert "every planned image has exactly one row" in desk.verify(name)
    return {row["image"]: (row["status"], row["class_index"], row["reason"]) for row in rows}


@pytest.fixture(scope="module")
def undisturbed(desk):
    """What the run says, and its answers, if nothing happens."""
    status, said = ended(desk.run("undisturbed"), END_S)
    assert status == 0, said
    return said, answers_of(desk, "undisturbed")


def test_the_recipe_s_commands_make_a_cluster_that_does_the_job(desk, undisturbed):
    said, _ = undisturbed

    assert f"http://{SCHEDULER}:8787/status" in said
    assert len(desk.parts("undisturbed")) == N_PARTS


def test_a_machine_that_is_cut_off_in_mid_run_costs_time_and_no_image(desk, undisturbed, capsys):
    process = desk.run("cut-off")
    while len(desk.parts("cut-off")) < 2 and process.poll() is None:
        time.sleep(0.1)

    desk.machines[WORKERS[0]].cut_off()
    n_before, began = len(desk.parts("cut-off")), time.monotonic()
    status, said = ended(process, END_S)
    with capsys.disabled():
        print(f"\n  cut off after {n_before} of {N_PARTS} parts; the others took {time.monotonic() - began:.0f} s")

    assert 2 <= n_before < N_PARTS
    assert status == 0, said
    assert answers_of(desk, "cut-off") == undisturbed[1]
