"""The command as people type it: from S3 to S3, a real ResNet50, worker processes."""

import re

import boto3
import numpy as np
import pytest
import torch
from distributed import Client

from pipeline.demo.s3 import CREDENTIALS, fill_bucket
from tests.by_hand import dask_by_hand
from tests.cluster_state import left_as_found
from tests.command_line import keys_of, read_json, read_outcomes, run
from tests.plain_loop import assert_equal_answers


@pytest.fixture(scope="module")
def source(s3, drawings):
    fill_bucket("drawn-dogs", drawings)
    return "s3://drawn-dogs/Images"


@pytest.fixture(scope="module")
def finished(s3, source, weights):
    """One undisturbed run in fp32, and everything that is known of it."""
    destination = "s3://drawn-dogs/fp32"
    sizes = ["--batch-size", "20", "--batches-per-part", "2", "--max-failure-rate", "0.1"]
    done = run(source, destination, "--weights", str(weights), "--precision", "fp32", "--cluster", "cpu", *sizes)
    assert done.returncode == 0, done.stderr
    return done.stdout, destination, read_outcomes(s3, f"{destination}/outcomes")


def test_the_folder_alone_gives_one_row_per_image(finished, drawings):
    _, _, table = finished

    assert sorted(table["image"]) == sorted(f"s3://drawn-dogs/{key}" for key, _ in drawings)
    assert table["status"].value_counts().to_dict() == {"ok": 96, "failed": 6}
    assert table.loc[table["status"] == "failed", "stage"].tolist() == ["decode"] * 6


def test_success_is_marked_and_the_run_described(finished):
    _, destination, table = finished

    record = read_json(f"{destination}/run.json")

    assert "fp32/_SUCCESS" in keys_of("drawn-dogs", "fp32/_")
    assert (record["counts"]["n_images"], record["counts"]["n_failed"]) == (len(table), 6)
    assert record["fingerprint_of"]["precision"] == "fp32"
    assert re.fullmatch(r"[0-9a-f]{64}", record["fingerprint_of"]["weights_sha256"])
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_the_accuracy_printed_is_that_of_the_rows(finished):
    stdout, destination, table = finished
    good = table[table["status"] == "ok"]
    n_correct = int((good["class_index"] == good["truth_index"]).sum())
    n_top5 = sum(truth in top5 for truth, top5 in zip(good["truth_index"], good["top5_index"], strict=True))

    printed = re.findall(r"^(top-1|top-5).*; (\d+) of (\d+)\)$", stdout, re.MULTILINE)

    assert printed == [("top-1", str(n_correct), "96"), ("top-5", str(n_top5), "96")]
    assert read_json(f"{destination}/run.json")["accuracy"]["top1"]["n_hits"] == n_correct
    assert 5 < n_correct < 96


def test_rows_equal_a_plain_loop_in_fp32(finished, plain_answers):
    _, _, table = finished
    good = table[table["status"] == "ok"]

    assert len(good) == len(plain_answers) == 96
    assert_equal_answers(good, plain_answers)


def test_first_and_last_lines_tell_what_matters(finished):
    stdout, destination, _ = finished

    labels = [line.partition(" ")[0] for line in stdout.splitlines()]

    assert labels[:6] == ["dashboard", "run", "images", "model", "compiled", "destination"]
    assert f"outcomes     {destination}/outcomes" in stdout
    assert re.search(r"^dashboard +http://127\.0\.0\.1:\d+/status$", stdout, re.MULTILINE)
    assert re.search(r"^failed +\d+ in decode: truncated image$", stdout, re.MULTILINE)


def test_tuning_says_what_it_chose_and_leaves_the_config_as_it_was_asked_for(source, weights, s3):
    destination = "s3://drawn-dogs/tuned"
    options = ["--limit", "12", "--batch-size", "4", "--threads-per-worker", "2", "--images-per-task", "4"]
    options += ["--max-failure-rate", "1"]

    done = run(source, destination, "--weights", str(weights), "--cluster", "cpu", "--tune", *options)

    assert done.returncode == 0, done.stderr
    said = re.search(r"^tuned +(2 threads per worker, 4 images a task, device batch .*)$", done.stdout, re.MULTILINE)
    record = read_json(f"{destination}/run.json")
    (session,) = record["sessions"]
    assert session["tuning"]["sentence"] == said[1]
    assert [trial["device_batch"] for trial in session["tuning"]["trials"]] == [4, 2]
    assert all(trial["images_per_s"] > 0 for trial in session["tuning"]["trials"])
    assert session["requests"]["read"] > 12
    assert session["timings_s"]["tune"] > 0
    assert (record["config"]["tune"], record["config"]["threads_per_worker"]) == (True, 2)
    assert len(read_outcomes(s3, f"{destination}/outcomes")) == 12


def test_no_secret_is_left_behind(finished):
    stdout, _, _ = finished
    s3 = boto3.client("s3")

    for key in keys_of("drawn-dogs", "fp32/"):
        body = s3.get_object(Bucket="drawn-dogs", Key=key)["Body"].read()
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() not in body
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in stdout


def test_a_destination_of_other_settings_is_refused_with_what_differs(finished, source, weights, s3):
    _, destination, table = finished

    refused = run(source, destination, "--weights", str(weights), "--precision", "bf16")
    elsewhere = run("s3://drawn-dogs/Images/n02085620-Chihuahua", destination, "--weights", str(weights))

    assert (refused.returncode, elsewhere.returncode) == (2, 2)
    assert re.fullmatch(
        r"error: s3://drawn-dogs/fp32 holds run \S+, which has precision fp32 \(this command: bf16\): "
        r"give another destination, or --overwrite to begin anew\n",
        refused.stderr,
    )
    assert "which has source s3://drawn-dogs/Images (this command: s3://drawn-dogs/Images/n0" in elsewhere.stderr
    assert read_outcomes(s3, f"{destination}/outcomes").equals(table)


def summary_of(stdout):
    return [line for line in stdout.splitlines() if line.startswith(("top-", "of breeds", "failed"))]


def test_a_finished_run_needs_no_worker_to_find_that_nothing_is_to_do(finished, source, weights):
    stdout, destination, _ = finished
    before = read_json(f"{destination}/run.json")

    again = run(source, destination, "--weights", str(weights), "--cluster", "127.0.0.1:1", "--max-failure-rate", "0.1")

    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert summary_of(again.stdout) == summary_of(stdout) != []
    assert read_json(f"{destination}/run.json") == before


def test_bf16_agrees_with_fp32(finished, source, weights, s3):
    _, _, exact = finished
    destination = "s3://drawn-dogs/bf16"
    boto3.client("s3").put_object(Bucket="drawn-dogs", Key="bf16/outcomes/part-009999.parquet", Body=b"of another run")

    done = run(source, destination, "--weights", str(weights), "--precision", "bf16", "--overwrite", "--limit", "8",
               "--include", "n0208*/**", "--exclude", "*9000?.jpg", "--max-failure-rate", "1")  # fmt: skip

    assert done.returncode == 0, done.stderr
    table = read_outcomes(s3, f"{destination}/outcomes")
    both = table.merge(exact, on="image", suffixes=("", "_exact"))
    both = both[both["status"] == "ok"]
    assert 0 < len(table) <= 8
    assert table["image"].str.contains("/n0208").all()
    assert (both["class_index"] == both["class_index_exact"]).mean() >= 0.95


def test_more_failures_than_allowed_is_status_3_with_every_row_there(source, weights, s3):
    done = run(
        source, "s3://drawn-dogs/strict", "--weights", str(weights), "--include", "*9000?.jpg", "--cluster", "cpu"
    )

    assert done.returncode == 3, done.stderr
    assert re.search(
        r"^error: \d of \d images failed \(100.0%\), more than --max-failure-rate 5.0% allows$",
        done.stderr,
        re.MULTILINE,
    )
    assert "strict/_SUCCESS" in keys_of("drawn-dogs", "strict/")


@pytest.fixture
def scheduler_and_two_workers(tmp_path):
    with dask_by_hand(tmp_path, 2) as cluster:
        yield cluster.file, cluster.address


def test_a_cluster_started_by_hand_gives_the_same_rows(finished, source, weights, s3, scheduler_and_two_workers):
    _, _, local = finished
    file, address = scheduler_and_two_workers

    for name, cluster, n_images in (("by-file", str(file), 40), ("by-address", address, 10)):
        options = ["--weights", str(weights), "--precision", "fp32", "--cluster", cluster, "--min-workers", "2"]
        options += ["--limit", str(n_images), "--batch-size", "20", "--max-failure-rate", "0.1"]
        with Client(address, set_as_default=False) as watcher:
            watcher.wait_for_workers(2, timeout=60)
            with left_as_found(watcher):
                done = run(source, f"s3://drawn-dogs/{name}", *options)

        assert done.returncode == 0, done.stderr
        remote, expected = read_outcomes(s3, f"s3://drawn-dogs/{name}/outcomes"), local[:n_images]
        columns = ["image", "status", "class_index", "correct", "reason", "etag", "breed_class_index"]
        assert remote[columns].equals(expected[columns])
        assert np.allclose(remote["probability"], expected["probability"], atol=1e-4, equal_nan=True)
