"""``python -m pipeline.plan``: what it says is what the run then does, and nothing is written or left anywhere."""

import json
import os
import re
import subprocess
import sys

import boto3
import pytest
from distributed import Client, LocalCluster

from pipeline.demo.s3 import fill_bucket
from pipeline.plan import main
from pipeline.run import main as run_main
from tests.cluster_state import left_as_found
from tests.command_line import TIMEOUT_S, keys_of, read_json, run

SIZES = ("--batch-size", "4", "--batches-per-part", "2", "--max-failure-rate", "0.2")
FORMATS = {".jpg": "JPEG", ".png": "PNG"}


def plan(*args, **environment):
    command = [sys.executable, "-m", "pipeline.plan", *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=os.environ | environment
    )


def contents_of(bucket):
    s3 = boto3.client("s3")
    return {key: s3.head_object(Bucket=bucket, Key=key)["ETag"] for key in keys_of(bucket)}


@pytest.fixture(scope="module")
def source(s3, drawings):
    """36 drawings of which 6 are no usable image."""
    fill_bucket("planned-dogs", drawings[:30] + drawings[-6:])
    return "s3://planned-dogs/Images"


@pytest.fixture(scope="module")
def options(weights):
    return ("--weights", str(weights), "--precision", "fp32", *SIZES)


@pytest.fixture(scope="module")
def planned(source, options, tmp_path_factory):
    """A plan of a new run: what it said, what it saved, and what it said meanwhile."""
    file, before = tmp_path_factory.mktemp("planned") / "plan.json", contents_of("planned-dogs")
    prices = ("--price-core-hour", "0.05", "--price-per-1000-get", "0.0004")
    done = plan(source, "s3://planned-dogs/out", *options, "--cluster", "cpu", "--save", str(file), *prices)
    assert done.returncode == 0, done.stderr
    assert contents_of("planned-dogs") == before != {}
    return done.stdout, file, done.stderr


@pytest.fixture(scope="module")
def carried_out(planned, source, options):
    """The run that was planned."""
    _, file, _ = planned
    done = run(source, "s3://planned-dogs/out", *options, "--cluster", "cpu", "--planned", str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout, read_json("s3://planned-dogs/out/run.json")


def test_nothing_is_written_not_even_a_probe_that_is_deleted_again(planned):
    _, _, meanwhile = planned

    assert re.search(r"^planning: this plan itself took \d+ s and \d+ GET, \d+ LIST$", meanwhile, re.MULTILINE)


def test_it_says_what_there_is_and_what_is_going_to_fail(planned):
    said, file, _ = planned
    told = json.loads(file.read_text())

    assert re.search(r"^images +36 images, [\d.]+ MB; by name \d+ \.", said, re.MULTILINE)
    assert re.search(r"^to do +36 images, [\d.]+ MB, in 5 parts$", said, re.MULTILINE)
    assert told["failures"]["n_images"]["all"] == {"expected": 6.0, "low": 6.0, "high": 6.0}
    assert told["failures"]["n_images"].keys() == {"decode", "all"}
    assert sum(told["sample"]["formats"].values()) == told["sample"]["n_images"] == 36
    assert told["sample"]["formats"]["JPEG"] > 20
    assert told["seconds"]["low"] <= told["seconds"]["expected"] <= told["seconds"]["high"]


def test_money_is_said_at_the_prices_that_were_given_and_the_others_are_named(planned):
    said, file, _ = planned
    cost = json.loads(file.read_text())["cost"]

    line = re.search(r"^money +(.*)$", said, re.MULTILINE)[1]
    assert "core-hours × 0.05" in line
    assert line.endswith("not priced: PUTs, LISTs, GB read")
    assert cost["items"].keys() == {"core-hour", "per-1000-get"}
    assert cost["total"]["expected"] == pytest.approx(sum(item["cost"]["expected"] for item in cost["items"].values()))


def test_the_requests_of_the_run_are_those_that_were_planned(planned, carried_out):
    _, file, _ = planned
    foreseen = json.loads(file.read_text())["requests"]["until_stored"]
    _, record = carried_out

    assert {kind: record["requests"].get(kind, 0) for kind in foreseen} == foreseen
    assert foreseen["read"] > 36
    assert set(record["requests"]) - set(foreseen) == {"bytes_read", "bytes_written"}


def test_the_run_says_beside_the_plan_what_it_took(carried_out):
    said, record = carried_out
    (session,) = record["sessions"]
    planned = session["planned"]

    line = re.search(r"^planned +(.*)$", said, re.MULTILINE)[1]
    assert line == planned["sentence"]
    assert re.fullmatch(r"[\d.]+( \([\d.]+-[\d.]+\))? s, (\d+ GET, .*); took [\d.]+ s, \2", line)
    assert planned["took_s"] == pytest.approx(session["timings_s"]["total"], abs=0.01)
    report = boto3.client("s3").get_object(Bucket="planned-dogs", Key="out/report.html")["Body"].read().decode()
    assert f"Planned: {line}." in report


def test_a_finished_run_has_nothing_to_plan_and_needs_no_worker(carried_out, source, options, capsys):
    status = main([source, "s3://planned-dogs/out", *options, "--cluster", "127.0.0.1:1"])

    assert status == 0
    assert capsys.readouterr().out == "every image has its row already: nothing to do\n"


@pytest.fixture
def somebodys_cluster():
    """Yield a client of a cluster that listens on loopback, its two workers inside this process."""
    settings = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", **settings)
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def test_of_a_run_that_is_there_only_what_is_missing_is_planned_and_a_cluster_is_left_as_it_was(
    carried_out, source, options, somebodys_cluster, capsys
):
    boto3.client("s3").delete_object(Bucket="planned-dogs", Key="out/outcomes/part-000001.parquet")
    client, contents = somebodys_cluster, contents_of("planned-dogs")

    with left_as_found(client):
        status = main([source, "s3://planned-dogs/out", *options, "--cluster", client.scheduler.address, "--json"])

    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert (told["listed"]["n_images"], told["to_do"]["n_images"], told["to_do"]["n_parts"]) == (36, 8, 1)
    assert told["workers"]["n_workers"] == 2
    assert contents_of("planned-dogs") == contents


# What cannot be planned


@pytest.fixture
def refused(capsys):
    """Run a command in this process; return its status and its one line."""

    def refused(command, *args):
        status = command([str(arg) for arg in args])
        stderr = capsys.readouterr().err
        assert re.fullmatch(r"error: [^\n]+\n", stderr), stderr
        return status, stderr.removeprefix("error: ").strip()

    return refused


def test_bad_input_is_said_in_one_line(refused, source, options, bucket):
    there = f"s3://{bucket}/out"

    assert refused(main, source)[0] == 2
    assert "'cheap' is not a valid float" in refused(main, source, there, "--price-gpu-hour", "cheap")[1]
    assert "-1.0 is not in the range x>=0" in refused(main, source, there, "--price-per-gb", "-1")[1]
    assert refused(main, source, there, "--planned", "p.json")[1].startswith("No such option '--planned'")
    assert refused(main, "s3://no-such-bucket/Images", there)[0] == 4
    assert refused(main, f"s3://{bucket}/Images", there) == (
        2,
        f"no image under s3://{bucket}/Images: expected names that end in .jpg .jpeg .png .webp, "
        "and that --include and --exclude admit",
    )
    assert "expected auto, cuda, cpu" in refused(main, source, there, *options, "--cluster", "tpu")[1]


def test_a_plan_of_another_run_is_refused_with_what_differs(refused, planned, source, options, bucket):
    _, file, _ = planned
    there, given = f"s3://{bucket}/out", [*options, "--planned", file]

    assert refused(run_main, source, there, *given, "--precision", "bf16") == (
        2,
        f"--planned {file} is of another run, which has precision fp32 (this command: bf16): "
        "plan this run anew, or leave --planned out",
    )
    assert "which has limit None (this command: 3)" in refused(run_main, source, there, *given, "--limit", "3")[1]
    elsewhere = refused(run_main, f"{source}/n02085620-Chihuahua", there, *given)
    assert "which has source s3://planned-dogs/Images (this command: " in elsewhere[1]
    assert keys_of(bucket) == []


SAVED = {
    "version": 1,
    "for": {},
    "seconds": {"expected": 2.0, "low": 1.0, "high": 3.0},
    "requests": {"until_stored": {"read": 3}},
}
DAMAGED = [
    {"version": 99},
    {"seconds": {"expected": "soon"}},
    {"seconds": {"expected": 0, "low": 0, "high": 0}},
    {"seconds": {"expected": float("nan"), "low": 1, "high": 2}},
    {"seconds": {"expected": -5, "low": -6, "high": -4}},
    {"requests": {"until_stored": {"read": "many"}}},
    {"requests": {"until_stored": 3}},
]


@pytest.mark.parametrize("content", ["", "[]", "{}", *(json.dumps(SAVED | damage) for damage in DAMAGED)])
def test_a_file_that_is_no_plan_is_refused(refused, tmp_path, content):
    file = tmp_path / "plan.json"
    file.write_text(content)

    assert refused(run_main, "s3://b/Images", "s3://b/out", "--planned", file) == (
        2,
        f"--planned {file} is no plan: expected what this version's python -m pipeline.plan --save writes",
    )
    assert "cannot be read" in refused(run_main, "s3://b/Images", "s3://b/out", "--planned", tmp_path / "none")[1]
