"""What a run has left to do, and what it is going to ask of its destination: held against a driver that does it."""

import math

import pytest

from pipeline.engine.drive import Limits
from pipeline.engine.graph import Batching
from pipeline.engine.plan import n_pages_of
from pipeline.engine.remaining import look_for_remaining
from pipeline.forecast.requests import Layout, Store, asked_afterwards, asked_of_destination
from pipeline.storage import requests
from tests.driving import BREED_FOLDER, draw, draw_folder, drive, listing_of, new_job, rows_of

PART_SIZE = 4


def looked_at(job, listed, **options):
    """Return what is found, and the names of the images that are left."""
    left = []
    found = look_for_remaining(listed(), job.destination, job.fingerprint, left.append, **options)
    return found, [ref.url.rpartition("_")[2] for ref in left]


def layout_of(job, found, *, is_new=False, is_marked=True):
    n_new_parts = math.ceil(found.n_new_images / PART_SIZE)
    is_s3 = job.destination.url.startswith("s3://")
    return Layout(
        Store(is_s3=is_s3),
        n_new_pages=n_pages_of(n_new_parts),
        n_new_parts=n_new_parts,
        n_pages=found.n_pages,
        n_changed_pages=found.n_changed_pages,
        n_parts=found.n_parts,
        n_open_parts=found.n_open_parts,
        is_new=is_new,
        is_marked=is_marked,
    )


@pytest.fixture(params=["s3", "disk"])
def job(request, bucket, tmp_path):
    return new_job(f"s3://{bucket}/out" if request.param == "s3" else f"file://{tmp_path}/out")


def driven(client, job, listed, **options):
    """Drive a run, and return what it asked of its stores, its source's share left out."""
    before = requests()
    _, tally, watcher = drive(client, job, listed, part_size=PART_SIZE, batching=Batching(2), **options)
    asked = requests() - before
    asked.subtract({"list": 1, "read": watcher.n_classified})
    return {kind: asked[kind] for kind in ("list", "read", "write", "delete")}, tally, watcher


def foreseen(layout):
    """Return what is foreseen of what `tests.driving` does: neither a probe nor a look at the mark."""
    asked = asked_of_destination(layout) + asked_afterwards(layout, has_report=False)
    asked.subtract({"write": 2, "delete": 1, "read": 1})
    if layout.is_marked:
        asked.subtract(Store(layout.store.is_s3).listing(layout.n_parts))
        asked.subtract(Store(layout.store.is_s3).listing(layout.n_pages + 1))
        asked.subtract({"read": 2 * layout.n_pages + layout.n_parts})
    if not layout.is_new:
        asked.subtract(
            {"read": 1, "delete": 1}
        )  # the test's driver only looks whether run.json is there, and adopts nothing
    return {kind: asked[kind] for kind in ("list", "read", "write", "delete")}


def test_of_a_new_run_everything_is_left_and_its_requests_are_foreseen(client, job, tmp_path):
    listed = listing_of(draw_folder(tmp_path / "images", 58))
    found, left = looked_at(job, listed)

    asked, _, _ = driven(client, job, listed)

    assert len(left) == found.n_new_images == 58
    assert n_pages_of(math.ceil(58 / PART_SIZE)) == 4
    assert asked == foreseen(layout_of(job, found, is_new=True, is_marked=False))


def test_what_is_left_is_what_a_driver_then_does_and_its_requests_are_foreseen(client, job, tmp_path):
    listed = listing_of(draw_folder(tmp_path / "images", 20))
    drive(client, job, listed, part_size=PART_SIZE, batching=Batching(2))
    breed = tmp_path / "images" / BREED_FOLDER
    draw(breed / "n02085620_003.png", 77)  # replaced
    (breed / "n02085620_011.png").unlink()  # removed
    for i in (90, 91, 92, 93, 94):  # new
        draw(breed / f"n02085620_0{i}.png", i)
    job.destination.delete(["outcomes/part-000004.parquet"])  # lost
    before = {name: job.destination.read(name) for name in job.destination.names()}

    found, left = looked_at(job, listed)
    unchanged = {name: job.destination.read(name) for name in job.destination.names()}
    asked, _, watcher = driven(client, job, listed)

    expected = [f"{i:03d}.png" for i in (3, 16, 17, 18, 19, 90, 91, 92, 93, 94)]
    assert unchanged == before
    assert sorted(left) == expected
    assert watcher.n_classified == len(expected)
    assert asked == foreseen(layout_of(job, found))
    assert len(rows_of(job.destination)) == 24


def test_failed_images_are_left_where_they_are_to_be_tried_again(client, tmp_path):
    source = draw_folder(tmp_path / "images", 6)
    (tmp_path / "images" / BREED_FOLDER / "n02085620_002.png").write_bytes(b"no image")
    job = new_job(f"file://{tmp_path}/out")
    drive(client, job, listing_of(source), part_size=PART_SIZE, batching=Batching(2), limits=Limits(max_failure_rate=1))

    assert looked_at(job, listing_of(source))[1] == []
    assert looked_at(job, listing_of(source), retry_failed=True)[1] == ["002.png"]
