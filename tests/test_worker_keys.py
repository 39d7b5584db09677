"""Endpoint, region and payer travel to the workers, keys never do: a worker without any is told how to get them."""

import re
from dataclasses import replace

import pytest
from distributed import Client

from pipeline.demo.s3 import CREDENTIALS, fill_bucket
from pipeline.errors import StorageError
from pipeline.storage import options_from_environment
from tests.by_hand import dask_by_hand
from tests.driving import draw_folder, drive, listing_of, new_job, rows_of
from tests.faulty_s3 import faulty_s3

NO_KEYS = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "") | {"AWS_CONFIG_FILE": "/dev/null"}
NO_PLACE = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"), "")
ADVICE = (
    "no credentials found; .*; keys never travel with a run: give the workers AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, a profile, or an instance role of their own"
)


@pytest.fixture(scope="module")
def server():
    """An S3 server that remembers what it was asked, and by whom."""
    with pytest.MonkeyPatch.context() as environment, faulty_s3() as server:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": "eu-west-3"}).items():
            environment.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def source(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_folder(folder / "images", 12)
    files = sorted((folder / "images").rglob("*.png"))
    fill_bucket("dogs", [(f"Images/{path.parent.name}/{path.name}", path.read_bytes()) for path in files])
    return "s3://dogs/Images"


@pytest.fixture(scope="module")
def without_keys(server, tmp_path_factory):
    """A client of a worker that has no keys, and is told no place either."""
    folder = tmp_path_factory.mktemp("keyless")
    environment = NO_KEYS | NO_PLACE | {"HOME": str(folder), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none")}
    with dask_by_hand(folder, 1, environment) as cluster, Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        yield client


@pytest.fixture(scope="module")
def with_keys(server, tmp_path_factory):
    """A client of a worker that has keys of its own, and is told no place."""
    folder = tmp_path_factory.mktemp("keyed")
    environment = CREDENTIALS | NO_PLACE
    with dask_by_hand(folder, 1, environment) as cluster, Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        yield client


def test_a_worker_without_keys_that_reads_is_told_how_to_get_them(without_keys, source):
    job = new_job("s3://dogs/unread")

    with pytest.raises(
        StorageError, match=rf"^worker on 127\.0\.0\.1: cannot read s3://dogs/\S+ at http\S+: {ADVICE}$"
    ):
        drive(without_keys, job, listing_of(source))


def test_a_worker_without_keys_that_writes_is_told_how_to_get_them(without_keys, server, tmp_path):
    job = new_job("s3://dogs/unwritten")
    local = draw_folder(tmp_path / "images", 4)

    with pytest.raises(
        StorageError, match=rf"^worker on 127\.0\.0\.1: cannot read s3://dogs/unwritten/\S+ .*{ADVICE}$"
    ):
        drive(without_keys, job, listing_of(local))


def test_endpoint_region_and_payer_reach_the_workers(with_keys, source, server):
    options = options_from_environment(requester_pays=True)
    job = replace(new_job("s3://dogs/paid"), source_options=options)
    n_before = len(server.log)

    drive(with_keys, job, listing_of(source))

    requests = [request for request in server.log[n_before:] if request.key.startswith("Images/")]
    read = [request.headers for request in requests if request.method == "GET"]
    written = [request.headers for request in server.log[n_before:] if request.key.startswith("paid/outcomes/part")]
    assert len(rows_of(job.destination)) == len(read) == 12
    assert {headers.get("HTTP_X_AMZ_REQUEST_PAYER") for headers in read} == {"requester"}
    assert {re.search(r"/\d+/([^/]+)/s3/", headers["HTTP_AUTHORIZATION"])[1] for headers in read} == {"eu-west-3"}
    assert written
    assert {headers.get("HTTP_X_AMZ_REQUEST_PAYER") for headers in written} == {None}
