"""The stored plan: every listed image in one part, whatever was planned before, at the price of the listing."""

import threading
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.destination import PLAN_CLOSED, Destination
from pipeline.engine.plan import Planner
from pipeline.engine.stored_plan import PageHead, ascending_runs, unplanned
from pipeline.records import ImageRef
from pipeline.stages.outcomes import PlanPageEnds
from pipeline.storage import options_from_environment
from tests.driving import listing_of
from tests.faulty_s3 import faulty_s3

N_FOLDERS, N_IMAGES = 120, 100


@pytest.fixture
def server(monkeypatch):
    with faulty_s3() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": "test-access-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def many_keys(server):
    """A bucket of 12,000 keys, put behind the server's back."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket("many", "us-east-1")
    for folder in range(N_FOLDERS):
        for image in range(N_IMAGES):
            backend.put_object("many", f"Images/n{folder:08d}-breed/{image:03d}.jpg", b"")
    yield "s3://many/Images"
    for key in list(backend.buckets["many"].keys):
        backend.delete_object("many", key)
    backend.delete_bucket("many")


def planned_parts(source, destination_url):
    destination = Destination(destination_url, options_from_environment())
    woken = threading.Event()
    with Planner(listing_of(source)(), destination, 1280, woken.set) as planner:
        parts = []
        while not planner.is_exhausted:
            parts += planner.next_page() or []
            woken.wait(0.05)
            woken.clear()
        assert planner.still_stands()
    return [(part.index, [ref.url for ref in part.refs]) for part in parts]


def test_17_twelve_thousand_keys_are_listed_once_and_cut_the_same_way_each_time(server, many_keys):
    first = planned_parts(many_keys, "s3://many/first")
    n_lists = server.count("GET", "^$")
    second = planned_parts(many_keys, "s3://many/second")

    assert Counter(url for _, urls in first for url in urls) == {
        f"{many_keys}/n{folder:08d}-breed/{image:03d}.jpg": 1
        for folder in range(N_FOLDERS)
        for image in range(N_IMAGES)
    }
    assert n_lists <= N_FOLDERS * N_IMAGES / 1000 + 4
    assert second == first
    assert Destination("s3://many/first", options_from_environment()).read_json(PLAN_CLOSED) == {
        "n_images": 12_000,
        "n_parts": 10,
    }


class Row:
    """A page of one row, which remembers what became of it."""

    def __init__(self):
        self.fate = None

    def confirm(self, _, listed):
        self.fate = ("stays", listed.etag)

    def remove(self, _):
        self.fate = ("goes",)


URLS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=12)


@given(URLS, URLS)
def test_listing_and_plan_are_joined_as_sets_are(listed, planned):
    rows = [(url, Row(), 0) for url in sorted(planned)]
    refs = [ImageRef(url, "now", 1) for url in sorted(set(listed))]

    added = [ref.url for ref in unplanned(refs, iter(rows))]

    assert added == sorted(set(listed) - set(planned))
    staying = [url for url, row, _ in rows if row.fate == ("stays", "now")]
    assert staying == sorted(set(listed) & set(planned))
    assert all(row.fate is not None for _, row, _ in rows)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), max_size=10))
def test_runs_ascend_and_hold_every_page_in_its_order(pages):
    heads = [
        PageHead(number, PlanPageEnds(f"{min(page):02d}", f"{max(page):02d}", 0)) for number, page in enumerate(pages)
    ]

    runs = ascending_runs(heads)

    assert [head for run in runs for head in run] == heads
    assert all(one.ends.last < after.ends.first for run in runs for one, after in pairwise(run))
