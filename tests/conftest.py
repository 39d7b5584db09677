"""The fixtures, from the ground up.

=================  =======  ==================================================================================
fixture            lives    what it is
=================  =======  ==================================================================================
``s3``             session  moto's S3 server, a process on loopback; the AWS variables of this process name it
``bucket``         test     a new, empty bucket on it; yields its name
``weights``        session  path of a ResNet50's state dict that knows the drawings, its probabilities spread
``drawings``       session  (key, bytes) of 102 objects as the demo draws them: 96 good ones, 6 unusable
``plain_answers``  session  what a loop in one process answers to the good drawings, by ETag
``client``         session  client of a Dask cluster inside this process: 2 workers of 2 threads
``own_client``     test     the same, for tests that do the cluster harm
=================  =======  ==================================================================================
"""

import hashlib
import os
import threading
import time
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
import torch
from distributed import Client, LocalCluster
from filelock import FileLock

from pipeline.demo import images as demo_images
from pipeline.demo import weights as demo_weights
from pipeline.demo.images import FIRST_UNUSABLE_NUMBER, demo_objects
from pipeline.demo.s3 import CREDENTIALS, s3_server
from tests.plain_loop import plain_loop

BEGUN_FIRST = ("test_run.py", "test_stopping.py", "test_storage_faults.py", "test_faults.py")
"""The files that take longest: where files are shared out among processes, none of these should be the last."""

AWS = {name for name in os.environ if name.startswith("AWS_")}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in BEGUN_FIRST)


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_users_own():
    """Keep the user's AWS and Dask settings, and torch's cache of weights, out of every test."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DASK_"))]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session")
def s3(no_settings_of_the_users_own):
    with s3_server() as endpoint:
        os.environ.update(CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint})
        yield endpoint


@pytest.fixture
def bucket(s3):
    name = f"test-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def weights(pytestconfig) -> Path:
    """Made in half a minute, and kept beside pytest's other caches for as long as what makes them is the same."""
    made_by = b"".join(Path(module.__file__).read_bytes() for module in (demo_images, demo_weights))
    name = hashlib.sha256(made_by + torch.__version__.encode()).hexdigest()[:16]
    path = pytestconfig.cache.mkdir("weights") / f"resnet50-drawn-{name}.pth"
    with FileLock(f"{path}.lock"):  # tests run in several processes
        if not path.exists():
            demo_weights.make_weights(path, n_fit_per_breed=2)
    return path


@pytest.fixture(scope="session")
def drawings() -> list[tuple[str, bytes]]:
    objects = list(demo_objects(n_per_breed=1))
    is_unusable = [int(key.rpartition("_")[2].partition(".")[0]) >= FIRST_UNUSABLE_NUMBER for key, _ in objects]
    good = [item for item, bad in zip(objects, is_unusable, strict=True) if not bad]
    unusable = [item for item, bad in zip(objects, is_unusable, strict=True) if bad]
    return good[:96] + unusable[:6]


@pytest.fixture(scope="session")
def plain_answers(drawings, weights):
    return plain_loop(drawings, weights)


@pytest.fixture(scope="session")
def client():
    cluster = LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def own_client():
    cluster = LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    """Fail a test that leaves an inference thread or a planner running."""
    yield
    deadline = time.monotonic() + 5
    while (ours := our_threads()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not ours


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("inference", "planner"))]
