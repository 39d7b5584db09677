"""One destination holds one run: what is deleted, what is refused, what is left alone."""

import pytest

from pipeline.destination import Destination
from pipeline.errors import UsageError
from pipeline.storage import options_from_environment, resolve_url


@pytest.fixture
def destination(tmp_path):
    return Destination(resolve_url(str(tmp_path / "out")), options_from_environment())


OWN = [
    "plan/page-000000.parquet",
    "plan/_CLOSED",
    "outcomes/part-000000.parquet",
    "run.json",
    "_SUCCESS",
    "report.html",
]


def test_clearing_deletes_what_a_run_left_and_nothing_else(destination):
    for name in [*OWN, "notes.txt", "plan/budget.xlsx", "outcomes/other.txt", "planet/page-000000.parquet"]:
        destination.write(name, b"x")

    destination.clear()

    assert sorted(destination.names()) == [
        "notes.txt",
        "outcomes/other.txt",
        "plan/budget.xlsx",
        "planet/page-000000.parquet",
    ]


@pytest.mark.parametrize("name", ["outcomes/other.parquet", "plan/budget.xlsx"])
def test_what_no_run_wrote_among_the_outcomes_is_refused_even_to_overwrite(destination, name):
    for own in OWN:
        destination.write(own, b"x")
    destination.write(name, b"x")

    with pytest.raises(UsageError, match=f"{name}, which no run wrote"):
        destination.refuse_if_foreign()


def test_a_half_file_of_a_killed_worker_is_ours(destination):
    destination.write("outcomes/.part-000000.parquet.0123abcd.partial", b"x")

    destination.refuse_if_foreign()
    destination.clear()

    assert list(destination.names()) == []


@pytest.mark.parametrize("name", [*OWN, "anything.txt"])
def test_a_used_destination_is_refused(destination, name):
    destination.write(name, b"x")

    with pytest.raises(UsageError, match=f"already holds {name}"):
        destination.refuse_if_used()


def test_an_empty_folder_s_marker_and_our_own_probe_are_no_use(bucket):
    import boto3

    destination = Destination(f"s3://{bucket}/out", options_from_environment())
    boto3.client("s3").put_object(Bucket=bucket, Key="out/", Body=b"")
    destination.write("_probe-1a2b", b"")

    destination.refuse_if_used()


def test_the_probe_leaves_nothing(destination):
    destination.probe()

    assert list(destination.names()) == []
