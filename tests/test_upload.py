"""``--upload``: schedulers and workers that truly lack this package have it for the length of a run, and no longer."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest
from distributed import Client

from cluster.upload import uploaded
from pipeline.config import RunConfig
from pipeline.demo.s3 import fill_bucket
from pipeline.errors import ClusterError, UsageError
from pipeline.running.provision import asked_for, joined_workers
from pipeline.running.upload import NEEDS, SCHEDULER_NEEDS, this_package
from tests.by_hand import dask_by_hand
from tests.cluster_state import assert_same_state, left_as_found, state_of
from tests.command_line import read_outcomes, run
from tests.test_architecture import ROOT, imports_below, loaded_with
from tests.virtual_environments import environment

NOTHING_OF_OURS = {"PYTHONPATH": "", "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__STATUS__TASK_STREAM_LENGTH": "100"}


@pytest.fixture(scope="module")
def source(s3, drawings):
    fill_bucket("drawn-dogs", drawings)
    return "s3://drawn-dogs/Images"


@pytest.fixture(scope="module")
def strangers(s3, tmp_path_factory):
    """A scheduler and a worker in an environment without this package."""
    folder = tmp_path_factory.mktemp("strangers")
    python = environment(folder / "environment")
    with dask_by_hand(folder, 1, NOTHING_OF_OURS, python=str(python)) as cluster:
        yield cluster


@pytest.fixture
def watcher(strangers):
    """Somebody else's client, who sees what becomes of the cluster."""
    with Client(strangers.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        client.submit(int).result()  # every graph has the scheduler log that there was one
        _await(lambda: not state_of(client)["scheduler"]["tasks"])
        yield client


def config_of(cluster, **settings):
    return RunConfig("s3://b/Images", "s3://b/out", cluster=cluster.address, upload=True, **settings)


def joined(cluster, **settings):
    config = config_of(cluster, **settings)
    return joined_workers(config, asked_for(config))


def test_the_environment_of_these_tests_lacks_the_package(strangers, watcher):
    assert not any(watcher.run(_has_ours).values())


def _has_ours():
    from importlib.util import find_spec

    return find_spec("pipeline") is not None


_has_ours.__module__ = "__main__"  # so that it travels by value


def test_without_the_option_a_cluster_that_lacks_the_package_is_refused(strangers, watcher):
    config = RunConfig("s3://b/Images", "s3://b/out", cluster=strangers.address)

    with (
        left_as_found(watcher, with_modules=True),
        pytest.raises(UsageError, match=r"no dask-image-inference, here .* or give --upload"),
        joined_workers(config, asked_for(config)),
    ):
        pass


def test_a_run_brings_the_package_and_takes_it_away(strangers, watcher, source, s3, weights):
    destination = "s3://drawn-dogs/uploaded"
    options = ["--cluster", strangers.address, "--weights", str(weights), "--limit", "6", "--batch-size", "3"]

    with left_as_found(watcher, with_modules=True):
        done = run(source, destination, *options, "--precision", "fp32", "--upload", "--no-report")

    assert done.returncode == 0, done.stderr
    assert len(read_outcomes(s3, f"{destination}/outcomes")) == 6
    assert state_of(watcher, with_modules=True)["processes"]["the scheduler"]["modules"] == []


def test_every_process_has_the_package_in_the_meantime_those_that_join_late_too(strangers, watcher):
    with left_as_found(watcher, with_modules=True):
        with joined(strangers):
            late = strangers.add_worker()
            watcher.wait_for_workers(2, timeout=60)
            _await(lambda: list(watcher.run(_version).values()) == [this_package().version] * 2)
            assert watcher.run_on_scheduler(_version) == this_package().version
            assert set(watcher.run(_shape_decoded_apart).values()) == {(3, 8, 8)}
        late.terminate()
        late.wait(timeout=30)
        _await(lambda: len(watcher.nthreads()) == 1)


def _version():
    import sys

    try:
        from pipeline import __version__
    except ImportError:
        return None
    return f"{__version__}" if "upload" in sys.modules["pipeline"].__file__ else "installed"


_version.__module__ = "__main__"


def _shape_decoded_apart():
    """Decode an image in a child process, which has to find the package too."""
    import io

    from PIL import Image

    from pipeline.engine.isolation import decode_apart
    from pipeline.records import ImageRef, Transform

    image = io.BytesIO()
    Image.new("RGB", (12, 10)).save(image, "png")
    transform = Transform(resize_size=10, crop_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    (sample,) = decode_apart([(ImageRef("s3://b/1.png", "e", 1), image.getvalue())], transform)
    return sample.pixels.shape


_shape_decoded_apart.__module__ = "__main__"


def test_a_worker_that_joins_late_and_cannot_take_part_goes_again(strangers, watcher, tmp_path):
    python = environment(tmp_path / "poor", without=("stamina",))

    with left_as_found(watcher, with_modules=True), joined(strangers):
        late = strangers.add_worker(python=str(python))
        late.wait(timeout=60)
        assert set(watcher.run(_version).values()) == {this_package().version}

    assert "lacks stamina: install that there" in strangers.log.read_text()


def test_other_files_of_the_same_version_are_not_mixed_in(strangers, watcher):
    others = replace(this_package(), digest="0123456789abcdef")

    with left_as_found(watcher, with_modules=True), joined(strangers) as client:
        with pytest.raises(ConnectionError, match="the scheduler holds another upload of"), uploaded(client, others):
            pass
        assert set(client.run(_version).values()) == {this_package().version}


def test_two_uploads_share_one_copy_which_goes_with_the_last(strangers, watcher):
    with left_as_found(watcher, with_modules=True), joined(strangers) as first:
        with joined(strangers):
            pass
        assert set(first.run(_version).values()) == {this_package().version}
        assert first.run_on_scheduler(_version) == this_package().version


DRIVER = """
import time
from pipeline.config import RunConfig
from pipeline.destination import Destination
from pipeline.engine.worker import Job, prepared_workers
from pipeline.running.provision import asked_for, joined_workers
from pipeline.records import Transform
from pipeline.storage import StorageOptions

config = RunConfig("s3://b/Images", "s3://b/out", cluster="{address}", upload=True)
transform = Transform(resize_size=10, crop_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
destination = Destination("s3://b/out", StorageOptions())
job = Job("20261121T000000-killed", "f" * 64, destination, StorageOptions(), transform, int)
with joined_workers(config, asked_for(config)) as client, prepared_workers(client, job):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_the_package_goes_too_when_the_driver_is_killed(strangers, watcher):
    before = state_of(watcher, with_modules=True)
    script = DRIVER.format(address=strangers.address)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        try:
            assert driver.stdout.readline() == "ready\n"
            worker = next(iter(state_of(watcher)["workers"].values()))
            assert any("killed" in name for name in worker["plugins"])
        finally:
            driver.kill()

    assert_same_state(watcher, before, with_modules=True)


def test_packages_of_others_are_not_brought_but_named(strangers, watcher, tmp_path):
    python = environment(tmp_path / "poor", without=("obstore", "pillow"))
    worker = strangers.add_worker(python=str(python))
    try:
        watcher.wait_for_workers(2, timeout=60)
        with (
            left_as_found(watcher, with_modules=True),
            pytest.raises(ConnectionError, match=r"worker tcp://\S+ lacks pillow, obstore: install that there"),
            uploaded(watcher, this_package()),
        ):
            pass
        with pytest.raises(UsageError, match=r"worker tcp://\S+: no obstore, here .*1 more prob"), joined(strangers):
            pass
    finally:
        worker.terminate()
        worker.wait(timeout=30)
        _await(lambda: len(watcher.nthreads()) == 1)


def test_a_worker_that_has_another_version_keeps_it_and_is_refused(strangers, watcher, tmp_path):
    package = tmp_path / "other" / "pipeline"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0.0.9'\n")
    (tmp_path / "other" / "cluster").mkdir()
    (tmp_path / "other" / "cluster" / "__init__.py").write_text("")
    worker = strangers.add_worker(PYTHONPATH=str(package.parent))
    try:
        watcher.wait_for_workers(2, timeout=60)
        with (
            pytest.raises(ClusterError, match=r"has version 0\.0\.9 of this package \(in \S+other\), here it is"),
            joined(strangers),
        ):
            pass
        (tmp_path / "other" / "cluster" / "__init__.py").unlink()
        with pytest.raises(ClusterError, match="another package that is called pipeline"), joined(strangers):
            pass
    finally:
        worker.terminate()
        worker.wait(timeout=30)
        _await(lambda: len(watcher.nthreads()) == 1)


def test_what_is_sent_is_the_package_as_it_is_installed_without_caches(tmp_path):
    import io
    import zipfile

    parcel = this_package()

    names = zipfile.ZipFile(io.BytesIO(parcel.files)).namelist()
    assert {"pipeline/run.py", "cluster/connect.py", "pipeline/stages/imagenet_1k.csv"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.split("/")[0] not in ("pipeline", "cluster")]
    assert parcel == this_package()


def test_what_workers_need_is_what_the_tasks_import():
    imports = imports_below(ROOT)
    seen, waiting = set(), ["pipeline.engine.tasks", "pipeline.stages.model"]
    while waiting:
        module = waiting.pop()
        if module in imports and module not in seen and module != "pipeline":
            seen.add(module)
            waiting += [item.name for item in imports[module]]
    libraries = {item.library for module in seen for item in imports[module]}
    own = {"pipeline", "dask", "distributed", *sys.stdlib_module_names}

    assert set(NEEDS) == libraries - own
    assert set(SCHEDULER_NEEDS) == set(loaded_with("pipeline.engine.tasks", imports)) - own


def _await(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()
