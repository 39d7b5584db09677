"""Running the same command again does what is missing and nothing else; the table is exact afterwards."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.destination import part_name, plan_page_name
from pipeline.engine.drive import Limits
from pipeline.engine.stored_plan import read_page, stored_pages
from pipeline.errors import InterruptedRunError, StorageError, UsageError
from pipeline.storage import requests, resolve_url
from tests.conftest import our_threads
from tests.driving import BREED_FOLDER, draw, draw_folder, drive, listing_of, new_job, refs_of, rows_of


@pytest.fixture
def folder(tmp_path):
    draw_folder(tmp_path / "images", 50)
    return tmp_path / "images" / BREED_FOLDER


@pytest.fixture
def source(folder):
    return resolve_url(str(folder.parent))


@pytest.fixture
def job(tmp_path):
    return new_job(resolve_url(str(tmp_path / "out")))


def name_of(number):
    return f"n02085620_{number:03d}.png"


def again(job):
    """The same run, begun by another command."""
    return replace(job, run_id=job.run_id + "x")


def shade_of(path):
    return Image.open(path).getpixel((0, 0))[0]


def planned_images(job):
    pages = [read_page(job.destination, number) for number in stored_pages(job.destination)]
    return [ref.url for page in pages for part in page.parts() for ref in part.refs]


def assert_exact(job, source, folder):
    """Every listed image has exactly one row, of its bytes as they are now, and the run is marked as complete."""
    rows = rows_of(job.destination)
    assert Counter((row["image"], row["etag"]) for row in rows) == Counter((r.url, r.etag) for r in refs_of(source))
    for row in rows:
        assert row["class_index"] == shade_of(folder / row["image"].rpartition("/")[2])
    assert job.destination.is_marked()


def test_a_finished_run_is_left_as_it_is(client, job, source, folder):
    drive(client, job, listing_of(source))
    before = [job.destination.etags(place) for place in ("plan", "outcomes")]
    n_writes = requests()["write"]

    _, tally, watcher = drive(client, again(job), listing_of(source))

    assert (watcher.n_classified, watcher.n_found, tally.n_ok) == (0, 50, 50)
    assert [job.destination.etags(place) for place in ("plan", "outcomes")] == before
    assert requests()["write"] - n_writes <= 2  # the test's own run.json and mark
    assert_exact(job, source, folder)


def test_one_replaced_one_added_and_one_removed_cost_two_images(client, job, source, folder):
    drive(client, job, listing_of(source))
    before = job.destination.etags("outcomes")
    draw(folder / name_of(33), 7)
    draw(folder / "n02085620_033b.png", 8)
    (folder / name_of(0)).unlink()

    totals, tally, watcher = drive(client, again(job), listing_of(source))

    assert watcher.n_classified == 2
    assert (totals.n_images, tally.n_images) == (50, 50)
    after = job.destination.etags("outcomes")
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {part_name(0), part_name(1), part_name(3)}
    assert_exact(job, source, folder)


def test_only_parts_without_their_rows_are_done(client, job, source, folder):
    drive(client, job, listing_of(source))
    job.destination.delete([part_name(1)])

    _, _, watcher = drive(client, again(job), listing_of(source))

    assert (watcher.n_classified, watcher.n_found) == (20, 30)
    assert_exact(job, source, folder)


@pytest.mark.parametrize("damage", ["half", "other run", "foreign rows"])
def test_a_part_that_is_not_what_the_plan_asks_for_is_done_again(client, job, source, folder, damage, tmp_path):
    drive(client, job, listing_of(source))
    data = job.destination.read(part_name(1))
    if damage == "half":
        job.destination.write(part_name(1), data[: len(data) // 2])
    elif damage == "other run":
        other = new_job(resolve_url(str(tmp_path / "other")), fingerprint="e" * 64)
        drive(client, other, listing_of(source))
        job.destination.write(part_name(1), other.destination.read(part_name(1)))
    else:
        job.destination.write(part_name(1), job.destination.read(part_name(0)))

    _, _, watcher = drive(client, again(job), listing_of(source))

    assert watcher.n_classified == 20
    assert_exact(job, source, folder)


def test_images_that_failed_are_scored_again_only_when_asked_for(client, job, source, folder):
    good = (folder / name_of(5)).read_bytes()
    (folder / name_of(5)).write_bytes(b"")
    drive(client, job, listing_of(source))

    _, tally, watcher = drive(client, again(job), listing_of(source))
    assert (tally.n_failed, watcher.n_classified) == (1, 0)

    _, tally, watcher = drive(client, again(again(job)), listing_of(source), retry_failed=True)
    assert (tally.n_failed, watcher.n_classified) == (1, 1)

    (folder / name_of(5)).write_bytes(good)
    _, tally, watcher = drive(client, again(again(again(job))), listing_of(source))
    assert (tally.n_failed, watcher.n_classified) == (0, 1)
    assert_exact(job, source, folder)


def test_a_listing_that_breaks_off_removes_nothing(client, job, source, folder):
    drive(client, job, listing_of(source))

    def broken():
        yield from islice(refs_of(source), 30)
        raise StorageError("the bucket went away")

    with pytest.raises(StorageError):
        drive(client, again(job), broken)

    assert len(planned_images(job)) == len(rows_of(job.destination)) == 50


def test_a_stop_during_the_listing_removes_nothing(client, job, source, folder):
    drive(client, job, listing_of(source))
    stop = threading.Event()

    def stopped():
        yield from islice(refs_of(source), 30)
        stop.set()
        threading.Event().wait(2)
        yield from islice(refs_of(source), 30, None)

    with pytest.raises(InterruptedRunError):
        drive(client, again(job), stopped, stop=stop)
    deadline = time.monotonic() + 5
    while our_threads() and time.monotonic() < deadline:  # the planner is in the midst of the listing
        time.sleep(0.05)

    assert len(planned_images(job)) == len(rows_of(job.destination)) == 50


def test_a_plan_that_was_never_closed_is_gone_on_with(client, job, source, folder):
    def broken():
        yield from islice(refs_of(source), 45)
        raise StorageError("the bucket went away")

    with pytest.raises(StorageError):
        drive(client, job, broken)
    n_planned = len(job.destination.etags("plan"))
    drive(client, again(job), listing_of(source))

    assert n_planned >= 1
    assert_exact(job, source, folder)


def test_a_part_whose_images_are_all_gone_goes_too(client, job, source, folder):
    drive(client, job, listing_of(source))
    for number in range(20):
        (folder / name_of(number)).unlink()

    totals, _, watcher = drive(client, again(job), listing_of(source))

    assert (totals.n_images, totals.n_parts, watcher.n_classified) == (30, 2, 0)
    assert part_name(0) not in job.destination.etags("outcomes")
    assert plan_page_name(0) not in job.destination.etags("plan")
    assert_exact(job, source, folder)


def test_a_zombie_that_writes_an_old_part_is_noticed_before_the_run_is_marked(client, job, source, folder):
    drive(client, job, listing_of(source))
    old = job.destination.read(part_name(0))
    draw(folder / name_of(3), 9)
    struck = []

    def listing():
        yield from refs_of(source)
        if not struck:
            struck.append(True)
            threading.Timer(0.3, lambda: job.destination.write(part_name(0), old)).start()
            threading.Event().wait(0.6)  # the part was committed meanwhile

    drive(client, again(job), listing)

    assert_exact(job, source, folder)


def test_a_task_of_a_run_that_was_overwritten_writes_nothing(client, job, source, folder):
    class Taken:
        """Somebody takes the destination over as soon as the run has begun."""

        def __call__(self):
            job.destination.write_json("run.json", {"fingerprint": "0" * 64})
            return refs_of(source)

    with pytest.raises(UsageError, match="taken over by another run"):
        drive(client, job, Taken())

    assert rows_of(job.destination) == []


def once(first, then):
    """The first listing of a driver, and all its later ones."""
    listings = iter([first])

    def listing():
        return next(listings, then)()

    return listing


def drive_together(client, jobs, listings):
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(drive, client, job, listing, part_size=8) for job, listing in zip(jobs, listings, strict=True)
        ]
        return [run.result(60)[0].n_images for run in runs]


def test_two_drivers_at_once_make_one_table(client, job, source, folder):
    barrier = threading.Barrier(2)

    def together():
        barrier.wait(10)
        return refs_of(source)

    listings = [once(together, listing_of(source)) for _ in range(2)]

    assert drive_together(client, [job, again(job)], listings) == [50, 50]
    assert_exact(job, source, folder)


def test_two_drivers_whose_listings_differ_make_one_table(client, job, source, folder):
    barrier = threading.Barrier(2)

    def early():
        refs = list(refs_of(source))
        barrier.wait(10)
        barrier.wait(10)
        return refs

    def late():
        barrier.wait(10)
        for number in (3, 17, 40):
            draw(folder / f"n02085620_{number:03d}b.png", number)
        barrier.wait(10)
        return refs_of(source)

    drive_together(client, [job, again(job)], [once(early, listing_of(source)), once(late, listing_of(source))])
    drive(client, again(again(job)), listing_of(source))

    assert_exact(job, source, folder)


CHANGE = st.tuples(st.sampled_from(["add", "replace", "remove", "stop"]), st.integers(0, 60), st.integers(0, 255))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(CHANGE, max_size=8), min_size=1, max_size=3), part_size=st.integers(3, 30))
def test_whatever_happens_to_the_bucket_the_next_run_makes_the_table_exact(client, tmp_path_factory, rounds, part_size):
    base = tmp_path_factory.mktemp("law")
    source, folder = draw_folder(base / "images", 20), base / "images" / BREED_FOLDER
    job = new_job(resolve_url(str(base / "out")))
    for changes in rounds:
        job = again(job)
        if any(kind == "stop" for kind, _, _ in changes):
            _interrupt(client, job, source, part_size)
        _apply(folder, changes)
    job = again(job)

    drive(client, job, listing_of(source), part_size=part_size, limits=Limits(max_failure_rate=1))

    assert_exact(job, source, folder)


def _interrupt(client, job, source, part_size):
    stop = threading.Event()

    def listing():
        yield from islice(refs_of(source), 10)
        stop.set()
        yield from islice(refs_of(source), 10, None)

    with suppress(InterruptedRunError):  # a run that was done already is not interrupted
        drive(client, job, listing, part_size=part_size, stop=stop)


def _apply(folder, changes):
    for kind, number, shade in changes:
        path = folder / name_of(number)
        if kind == "remove" and len(list(folder.iterdir())) > 1:
            path.unlink(missing_ok=True)
        elif kind in ("add", "replace") and path.exists() == (kind == "replace"):
            draw(path, shade)
