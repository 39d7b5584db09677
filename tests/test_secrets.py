"""The secret key, and a password in a URL, searched for in everything that a run writes, says or sends."""

import logging
import os
import pickle
from contextlib import ExitStack

import pytest

from pipeline.demo.s3 import CREDENTIALS, fill_bucket
from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.worker import PipelinePlugin
from pipeline.records import PartWork
from pipeline.storage import open_storage
from tests.driving import draw_folder, drive, listing_of, new_job, refs_of

SECRETS = (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_ACCESS_KEY_ID"])


@pytest.fixture
def source(bucket, tmp_path):
    draw_folder(tmp_path / "images", 12)
    files = sorted((tmp_path / "images").rglob("*.png"))
    fill_bucket(bucket, [(f"Images/{path.parent.name}/{path.name}", path.read_bytes()) for path in files])
    return f"s3://{bucket}/Images"


def assert_free_of_secrets(text):
    assert not [secret for secret in SECRETS if secret in text]


def test_25_nothing_that_travels_holds_a_key(source, bucket):
    job = new_job(f"s3://{bucket}/out")
    graph = part_graph(PartWork(0, tuple(refs_of(source))), job, Batching())

    travelling = pickle.dumps([dict(graph.commit.dask), PipelinePlugin(job), job, job.destination])

    assert job.destination.url.encode() in travelling  # what is searched is there
    assert_free_of_secrets(travelling.decode("latin1"))
    assert_free_of_secrets(repr((job, graph.commit.dask, open_storage(source, job.source_options))))


def test_25_nothing_that_is_written_or_logged_holds_a_key(client, source, bucket, caplog):
    job = new_job(f"s3://{bucket}/out")
    with ExitStack() as stack:
        for name in (None, "pipeline", "distributed"):
            stack.enter_context(caplog.at_level(logging.DEBUG, name))
        drive(client, job, listing_of(source))

    for name in job.destination.names():
        assert_free_of_secrets(job.destination.read(name).decode("latin1"))
    told = [record.getMessage() for record in caplog.records if not record.name.startswith(("aiobotocore", "botocore"))]
    assert any("committed" in line for line in told)
    assert_free_of_secrets("\n".join(told))


def test_25_a_dump_of_the_cluster_s_state_holds_no_key(own_client, source, bucket, tmp_path):
    job = new_job(f"s3://{bucket}/out")
    drive(own_client, job, listing_of(source))

    own_client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")

    (dump,) = tmp_path.glob("dump*")
    assert "scheduler" in dump.read_text()
    assert_free_of_secrets(dump.read_text())
    assert os.environ["AWS_SECRET_ACCESS_KEY"] in SECRETS
