"""What a run is going to ask of its stores, by kind, as ``run.json`` counts it. Pure.

What each step asks is the same for every run: the layout of plan and outcomes decides how often.
"""

import math
from collections import Counter
from dataclasses import dataclass

_PER_LISTING = 1000
"""Objects that S3 names in one answer."""

VERBS = {"read": "GET", "write": "PUT", "list": "LIST", "stat": "HEAD", "delete": "DELETE"}
"""What S3 calls what `pipeline.storage.requests` counts."""

N_AT_START = 16
"""Requests one after the other from the check's probe to the first task, beyond those that a plan makes too."""

_N_AT_END = 9
"""Requests one after the other from the last answer to the mark, beside reading each page of the plan twice."""


@dataclass(frozen=True, slots=True)
class Store:
    """How a kind of store does what is asked of it."""

    is_s3: bool
    """Else a filesystem, which lists at once and creates without asking."""

    def listing(self, n_objects: int) -> Counter[str]:
        """Return what it takes to list a folder."""
        return Counter(list=max(1, math.ceil(n_objects / _PER_LISTING)) if self.is_s3 else 1)

    @property
    def new_object(self) -> Counter[str]:
        """What it takes to put an object where there is none, and to see that it stands there."""
        return Counter(write=1, read=2 if self.is_s3 else 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands at a destination, and what a run is going to put there."""

    store: Store

    n_new_pages: int = 0
    """Pages of the plan that are to be written."""

    n_new_parts: int = 0
    """Parts of images that no page names yet."""

    n_pages: int = 0
    """Pages that are there."""

    n_changed_pages: int = 0
    """Those of them that are to be written again."""

    n_parts: int = 0
    """Parts that are there."""

    n_open_parts: int = 0
    """Parts of the pages that are there, to be written for the first time or again."""

    is_new: bool = True
    """Whether there is no run to go on with."""

    is_widened: bool = False
    """Whether more images are selected than before, which ``run.json`` has to say first."""

    is_marked: bool = False
    """Whether the run is marked as complete, so that it is looked through once more than others."""

    @property
    def n_written(self) -> int:
        """Parts that are to be written."""
        return self.n_new_parts + self.n_open_parts

    @property
    def all_pages(self) -> int:
        """Pages that there will be."""
        return self.n_pages + self.n_new_pages

    @property
    def all_parts(self) -> int:
        """Parts that there will be, at most."""
        return self.n_parts + self.n_written


def asked_of_destination(layout: Layout) -> Counter[str]:
    """Return what is asked of the destination until the last row is stored, beyond what a plan asks too."""
    steps = [
        Counter(write=1, delete=1),  # the check's probe
        _begun(layout),
        _looked_at(layout),
        _planned(layout),
        Counter(read=layout.all_pages),  # handed out to the driver
        Counter(delete=1, read=layout.n_written, write=layout.n_written),  # the mark goes; parts are committed
        _compared(layout),
    ]
    if layout.is_marked:
        steps.append(_looked_at(layout))
    return _sum(steps)


def asked_afterwards(layout: Layout, *, has_report: bool) -> Counter[str]:
    """Return what is asked of the destination after the last row is stored: marking it, a last look, the report."""
    steps = [Counter(read=1, write=2), _compared(layout)]
    if has_report:
        steps += [Counter(read=2 + layout.all_parts, write=1), layout.store.listing(layout.all_parts)]
    return _sum(steps)


def seconds_at_end(layout: Layout, request_s: float) -> float:
    """Return the seconds from the last answer to the mark, at so many for each request."""
    return (_N_AT_END + 2 * layout.all_pages) * request_s


def _begun(layout: Layout) -> Counter[str]:
    """Return what it takes to put ``run.json``, or to find the one that there is."""
    if layout.is_new:
        return layout.store.new_object
    found = Counter(read=2, delete=1, write=int(layout.is_widened))  # a former run's signs of life go
    return found if layout.store.is_s3 else found + Counter(write=1)


def _looked_at(layout: Layout) -> Counter[str]:
    """Return what it takes to read what there is of plan and outcomes."""
    listings = layout.store.listing(layout.n_parts) + layout.store.listing(layout.n_pages + 1)
    return listings + Counter(read=2 * layout.n_pages + layout.n_parts)


def _planned(layout: Layout) -> Counter[str]:
    """Return what it takes to bring the plan to what is listed, and to close it."""
    if not layout.n_new_pages + layout.n_changed_pages:
        return Counter(read=1)
    marks = Counter(delete=4, read=1, write=1)  # before and after the first change; the closing
    return _sum([marks, Counter(write=layout.n_changed_pages), *[layout.store.new_object] * layout.n_new_pages])


def _compared(layout: Layout) -> Counter[str]:
    """Return what it takes to see that plan and outcomes still stand as they were written."""
    listings = layout.store.listing(layout.all_parts) + layout.store.listing(layout.all_pages + 1)
    return listings + Counter(read=layout.all_pages)


def _sum(counts: list[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter[str]())
