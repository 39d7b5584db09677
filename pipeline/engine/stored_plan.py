"""The plan as it stands on storage: pages in ascending runs, merged into the order of their images.

Pages are written in the order of their numbers, each sorted. The first listing makes one ascending run of pages, and
each later one that found new images makes another; merged, they are as sorted as a listing is.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby, repeat
from operator import itemgetter
from typing import TypeAlias

import toolz

from pipeline.destination import PLAN_FOLDER, Destination, plan_page_name, plan_page_number
from pipeline.records import ImageRef, Part
from pipeline.stages.classes import LabelOf, unlabelled
from pipeline.stages.outcomes import PlanPage, PlanPageEnds, decode_plan_page, encode_plan_page, plan_page_ends

_PAGES_AT_ONCE = 4
"""Pages in memory while their heads are read."""


@dataclass(frozen=True, slots=True)
class PageHead:
    """What tells where a page belongs."""

    number: int
    ends: PlanPageEnds


class PageDraft:
    """A stored page, to be confirmed or corrected row by row."""

    def __init__(self, number: int, page: PlanPage) -> None:
        self.number = number
        self._page = page
        self._removed: set[int] = set()
        self._has_other_versions = False
        self.last_position = len(page.urls) - 1
        """The position after which the page is dealt with."""

    def __iter__(self) -> Iterator["PlannedRow"]:
        """Yield (image, this page, position) of each row as it was stored."""
        return zip(self._page.urls, repeat(self), count())

    @property
    def is_changed(self) -> bool:
        """Whether the page is not what is stored any more."""
        return self._has_other_versions or bool(self._removed)

    @property
    def n_images(self) -> int:
        """Images that are left."""
        return len(self._page.urls) - len(self._removed)

    @property
    def n_parts(self) -> int:
        """Parts that have an image left."""
        return len({part for position, part in enumerate(self._page.parts) if position not in self._removed})

    def confirm(self, position: int, listed: ImageRef) -> None:
        """Take the version of an image that is listed now."""
        etags, sizes_bytes = self._page.etags, self._page.sizes_bytes
        if etags[position] != listed.etag or sizes_bytes[position] != listed.size_bytes:
            etags[position], sizes_bytes[position] = listed.etag, listed.size_bytes
            self._has_other_versions = True

    def remove(self, position: int) -> None:
        """Drop an image that is not listed any more."""
        self._removed.add(position)

    def parts(self, label_of: LabelOf = unlabelled) -> list[Part]:
        """Return the parts as they are now, each image with its label."""
        page = self._page
        rows = zip(page.parts, page.urls, page.etags, page.sizes_bytes, strict=True)
        left = (row for position, row in enumerate(rows) if position not in self._removed)
        return [
            Part(part, tuple(ImageRef(url, etag, size, label_of(url)) for _, url, etag, size in members))
            for part, members in groupby(left, key=itemgetter(0))
        ]


PlannedRow: TypeAlias = tuple[str, PageDraft, int]
"""An image's URL, the page that plans it, its position there."""


def stored_pages(destination: Destination) -> list[int]:
    """Return the numbers of the pages on storage, ascending."""
    numbers = (plan_page_number(name) for name in destination.etags(PLAN_FOLDER))
    return sorted(number for number in numbers if number is not None)


def read_heads(destination: Destination) -> list[PageHead]:
    """Return the heads of all pages that name an image, ascending by number."""
    heads = []
    for numbers in toolz.partition_all(_PAGES_AT_ONCE, stored_pages(destination)):
        pages = destination.read_many([plan_page_name(number) for number in numbers])
        heads += [_head(number, data) for number, data in zip(numbers, pages, strict=True)]
    return [head for head in heads if head is not None]


def merged_rows(destination: Destination, heads: Sequence[PageHead]) -> Iterator[PlannedRow]:
    """Yield (image, page, position) of every planned image in the order of the images; one page of a run in memory."""
    runs = [_run(destination, run) for run in ascending_runs(heads)]
    return heapq.merge(*runs, key=itemgetter(0))


def ascending_runs(heads: Sequence[PageHead]) -> list[list[PageHead]]:
    """Cut pages into runs in which each begins after the one before has ended."""
    runs: list[list[PageHead]] = []
    for head in heads:
        if not runs or head.ends.first <= runs[-1][-1].ends.last:
            runs.append([])
        runs[-1].append(head)
    return runs


def unplanned(listed: Iterable[ImageRef], planned: Iterator[PlannedRow]) -> Iterator[ImageRef]:
    """Correct the planned rows by a listing, and yield, in order, the images that no row names.

    Of several rows for one image the first stays. A listing that is not sorted costs rows that move, never one that is
    lost or doubled.
    """
    row = next(planned, None)
    for ref in listed:
        while row is not None and row[0] < ref.url:
            row[1].remove(row[2])
            row = next(planned, None)
        if row is None or row[0] != ref.url:
            yield ref
            continue
        row[1].confirm(row[2], ref)
        row = next(planned, None)
    while row is not None:
        row[1].remove(row[2])
        row = next(planned, None)


def read_page(destination: Destination, number: int) -> PageDraft:
    """Return a page as it is stored."""
    return PageDraft(number, decode_plan_page(destination.read(plan_page_name(number))))


def write_page(destination: Destination, number: int, parts: Sequence[Part]) -> bool:
    """Put a page where there is none; return False where somebody else's stands."""
    return destination.write_new(plan_page_name(number), encode_plan_page(parts))


def _run(destination: Destination, heads: list[PageHead]) -> Iterator[PlannedRow]:
    for head in heads:
        yield from read_page(destination, head.number)


def _head(number: int, data: bytes) -> PageHead | None:
    ends = plan_page_ends(data)
    return None if ends is None else PageHead(number, ends)
