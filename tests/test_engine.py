"""The engine on a real cluster inside this process, real storage, and a plain function in the model's place."""

import io
import json
import sys
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.engine import profiler
from pipeline.engine.allocator import mend_allocator
from pipeline.engine.drive import Limits
from pipeline.engine.graph import Batching, part_graph
from pipeline.engine.inference import usable_cores
from pipeline.engine.worker import PipelinePlugin, prepared_workers
from pipeline.errors import ClusterError, FailureRateError, InterruptedRunError, StorageError
from pipeline.records import ImageRef, PartWork
from pipeline.storage import resolve_url
from tests.driving import Watcher, draw_folder, drive, driver_of, listing_of, mark_complete, new_job, refs_of, rows_of
from tests.stand_ins import (
    LOADS,
    N_THREADS,
    load_and_count_threads,
    load_counted,
    load_never,
    load_not_a_number,
)


@pytest.fixture
def source(tmp_path):
    return draw_folder(tmp_path / "images", 50)


@pytest.fixture
def job(tmp_path):
    return new_job(resolve_url(str(tmp_path / "out")))


def test_every_image_has_one_row_with_its_own_answer(client, job, source):
    totals, tally, _ = drive(client, job, listing_of(source))

    rows = rows_of(job.destination)
    assert Counter(row["image"] for row in rows) == Counter(ref.url for ref in refs_of(source))
    assert {row["image"]: row["class_index"] for row in rows} == {
        f"{source}/n02085620-Chihuahua/n02085620_{i:03d}.png": 5 * i for i in range(50)
    }
    assert (totals.n_images, totals.n_parts, tally.n_ok, tally.n_truth) == (50, 3, 50, 50)


def test_the_stored_plan_names_every_image_and_the_part_that_holds_its_row(client, job, source):
    drive(client, job, listing_of(source))

    planned = {}
    for name in sorted(name for name in job.destination.names() if name.startswith("plan/page")):
        for row in pq.read_table(io.BytesIO(job.destination.read(name))).to_pylist():
            planned[row["image"]] = row["part"]
    by_part = {
        row["image"]: part
        for part in range(3)
        for row in pq.read_table(io.BytesIO(job.destination.read(f"outcomes/part-{part:06d}.parquet"))).to_pylist()
    }
    assert planned == by_part
    assert json.loads(job.destination.read("plan/_CLOSED")) == {"n_images": 50, "n_parts": 3}


def test_work_begins_before_the_listing_has_ended(client, job, source):
    committed = threading.Event()

    def slow_listing():
        refs = list(refs_of(source))
        yield from refs[:40]
        assert committed.wait(30), "no part was committed while the listing waited"
        yield from refs[40:]

    class Impatient(Watcher):
        def committed(self, _):
            committed.set()

    driver = driver_of(client, job, Impatient())

    with prepared_workers(client, job):
        totals, tally = driver.run(slow_listing, 20, mark_complete(job.destination))

    assert totals.n_images == tally.n_images == 50


def test_an_error_of_the_listing_ends_the_run(client, job, source):
    def broken_listing():
        yield from list(refs_of(source))[:30]
        raise StorageError("the bucket went away")

    with pytest.raises(StorageError, match="the bucket went away"):
        drive(client, job, broken_listing)


def test_an_unusable_image_costs_itself_alone(client, job, source, tmp_path):
    broken = tmp_path / "images" / "n02085620-Chihuahua" / "n02085620_007.png"
    broken.write_bytes(b"<html>")

    _, tally, _ = drive(client, job, listing_of(source))

    failed = [row for row in rows_of(job.destination) if row["status"] == "failed"]
    assert [(row["image"][-7:], row["stage"], row["reason"]) for row in failed] == [
        ("007.png", "decode", "not a JPEG, PNG or WebP image")
    ]
    assert (tally.n_ok, tally.n_failed) == (49, 1)


def test_an_image_replaced_or_deleted_after_listing_is_never_scored(client, job, source, tmp_path):
    folder = tmp_path / "images" / "n02085620-Chihuahua"
    refs = list(refs_of(source))
    Image.new("RGB", (30, 30), (200, 200, 200)).save(folder / "n02085620_003.png")
    (folder / "n02085620_004.png").unlink()

    drive(client, job, lambda: refs)

    failed = {
        row["image"][-7:]: (row["stage"], row["reason"])
        for row in rows_of(job.destination)
        if row["status"] == "failed"
    }
    assert failed == {
        "003.png": ("read", "changed since it was listed"),
        "004.png": ("read", "gone since it was listed"),
    }


def test_a_batch_without_any_usable_image_still_has_its_rows(client, job, source, tmp_path):
    for path in (tmp_path / "images").rglob("*.png"):
        path.write_bytes(b"")

    totals, tally, _ = drive(client, job, listing_of(source), limits=Limits(max_failure_rate=1.0))

    assert (totals.n_images, tally.n_images, tally.n_ok) == (50, 50, 0)
    assert tally.failures == {("decode", "empty file"): 50}


def test_a_hopeless_run_ends_as_soon_as_its_failures_exceed_the_share_of_the_closed_plan(client, job, source, tmp_path):
    for path in sorted((tmp_path / "images").rglob("*.png"))[:20]:
        path.write_bytes(b"")

    with pytest.raises(FailureRateError, match=r"(10|20) of 50 images failed"):
        drive(client, job, listing_of(source), limits=Limits(max_failure_rate=0.1), part_size=10)


def test_progress_counts_every_image_once(client, job, source):
    totals, _, watcher = drive(client, job, listing_of(source))

    assert (watcher.n_classified, watcher.totals, watcher.is_closed) == (50, totals, True)
    assert watcher.tallies[-1].n_images == 50


def test_the_window_bounds_what_the_scheduler_knows(client, job, source):
    most = 0

    class Counting(Watcher):
        def classified(self, _):
            nonlocal most
            most = max(most, client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))

    driver = driver_of(client, job, Counting(), batching=Batching(batch_size=1))

    with prepared_workers(client, job):
        driver.run(listing_of(source), 2, mark_complete(job.destination))

    # 4 slots allow 8 batches ahead in parts of 2, each of 7 tasks; some of those done wait for their commit, or are
    # still being forgotten.
    assert 0 < most <= 12 * 7 < 25 * 7


def test_nothing_is_left_on_the_cluster(client, job, source):
    before = client.run_on_scheduler(registered_plugins)

    drive(client, job, listing_of(source))

    assert client.run_on_scheduler(registered_plugins) == before
    assert not any(client.run(plugin_names).values())


def test_a_stop_finishes_what_is_in_flight_and_commits_it(client, job, source):
    stop, is_over = threading.Event(), threading.Event()

    def listing():
        yield from list(refs_of(source))[:20]
        stop.set()
        is_over.wait(60)
        yield from list(refs_of(source))[20:]

    try:
        with pytest.raises(InterruptedRunError):
            drive(client, job, listing, stop=stop)
    finally:
        is_over.set()

    assert len(rows_of(job.destination)) in (0, 20)
    assert not any(client.run(plugin_names).values())


def test_the_model_is_loaded_once_per_worker(client, job, source):
    LOADS.clear()

    drive(client, replace(job, load_model=load_counted), listing_of(source), part_size=8)

    assert len(LOADS) == len(client.nthreads()) == 2


def test_a_run_never_takes_the_model_of_another_and_tells_why_it_has_none(own_client, job, source):
    first = replace(job, fingerprint="a" * 64)
    second = replace(job, fingerprint="b" * 64, load_model=load_never)

    drive(own_client, first, listing_of(source))
    first.destination.clear()

    with pytest.raises(ClusterError, match=r"no worker is left that can infer: .* cannot be loaded"):
        drive(own_client, second, listing_of(source))


def test_an_answer_belongs_to_its_run_even_when_two_runs_share_workers(client, job, source):
    plugin = PipelinePlugin(replace(job, fingerprint="c" * 64, load_model=load_never))
    client.register_plugin(plugin)
    try:
        _, tally, _ = drive(client, job, listing_of(source))
    finally:
        client.unregister_worker_plugin(plugin.name)

    assert tally.n_ok == 50


def test_one_image_per_task_gives_the_tutorials_graph_and_the_same_rows(client, job, source):
    work = PartWork(0, tuple(refs_of(source))[:20])

    graph = part_graph(work, job, Batching(batch_size=8, images_per_task=1)).commit

    kinds = Counter(str(key).partition("-")[0] for key in dict(graph.dask))
    assert (kinds["preprocess"], kinds["reformat"], kinds["infer"], kinds["commit"]) == (20, 3, 3, 1)
    drive(client, job, listing_of(source), batching=Batching(batch_size=8, images_per_task=1))
    assert {row["class_index"] for row in rows_of(job.destination)} == {5 * i for i in range(50)}


def test_the_graph_carries_addresses_and_no_settings(job, source):
    work = PartWork(0, tuple(refs_of(source)))

    graph = part_graph(work, job, Batching(batch_size=8)).commit

    assert job.destination.url not in repr(dict(graph.dask))


def test_auto_precision_on_a_cluster_is_what_its_workers_have(client):
    from pipeline.config import RunConfig
    from pipeline.running.provision import resolved_precision
    from pipeline.stages.precision import fastest_precision

    config = RunConfig("s3://b/Images", "s3://b/out", cluster="tcp://elsewhere:8786")

    assert resolved_precision(config, client) == fastest_precision()


def test_a_worker_that_cannot_be_prepared_leaves_no_plugin_behind(client, job):
    before = client.run_on_scheduler(registered_plugins)

    with pytest.raises(ClusterError, match="install the pipeline there"), prepared_workers(client, Unpreparable(job)):
        pass

    assert client.run_on_scheduler(registered_plugins) == before


def test_an_answer_that_is_not_a_number_is_a_failure_and_not_a_class(client, job, source):
    _, tally, _ = drive(
        client, replace(job, load_model=load_not_a_number), listing_of(source), limits=Limits(max_failure_rate=1.0)
    )

    assert tally.failures == {("infer", "the model's answer is not a number"): 50}


def test_the_model_has_the_worker_s_cores_whatever_the_nanny_set(client, job, source):
    import torch

    N_THREADS.clear()
    former = torch.get_num_threads()

    drive(client, replace(job, load_model=load_and_count_threads), listing_of(source))

    assert set(N_THREADS) == {usable_cores(2)}
    assert torch.get_num_threads() == former


def test_the_allocator_takes_its_settings():
    assert mend_allocator() == sys.platform.startswith("linux")


@pytest.mark.parametrize("can_hang", [True, False])
def test_dask_s_profiler_is_stopped_just_where_it_can_hang_the_interpreter(own_client, job, monkeypatch, can_hang):
    monkeypatch.setattr(profiler, "CAN_HANG", can_hang)

    with prepared_workers(own_client, job):
        is_running = own_client.run(lambda dask_worker: dask_worker.periodic_callbacks["profile"].is_running())

    assert list(is_running.values()) == [not can_hang] * 2


def test_pixels_tell_dask_their_size():
    from dask.sizeof import sizeof

    from pipeline.records import ImageBatch, Sample

    pixels = np.zeros((3, 224, 224), np.uint8)
    ref = ImageRef("s3://b/a.jpg", "e", 1)

    assert sizeof(Sample(ref, pixels, 1, 1)) >= pixels.nbytes
    assert sizeof(ImageBatch((ref,), pixels[None], ((1, 1),))) >= pixels.nbytes


class Unpreparable:
    """A job that no worker can unpickle."""

    def __init__(self, job):
        self.plugin_name = job.plugin_name

    def __reduce__(self):
        return getattr, (object(), "nothing")


def registered_plugins(dask_scheduler):
    return sorted([*dask_scheduler.worker_plugins, *dask_scheduler.plugins])


def plugin_names(dask_worker):
    return [name for name in dask_worker.plugins if name.startswith("pipeline-")]
