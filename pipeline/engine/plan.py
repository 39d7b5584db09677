"""The planner: holds the listing against the stored plan, and appends what is new, page by page.

A page is on storage before any part that it names is handed out, so that what runs is always what the plan says. The
planner may run far ahead of the workers: it keeps the numbers of its pages, never their rows. Several drivers may plan
at a time: a page has one writer, and whoever comes second adopts it.
"""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Self

import toolz

from pipeline.destination import PLAN_CLOSED, Destination, plan_page_name
from pipeline.engine.stored_plan import (
    PageDraft,
    PlannedRow,
    merged_rows,
    read_heads,
    read_page,
    stored_pages,
    unplanned,
    write_page,
)
from pipeline.records import ImageRef, Part
from pipeline.stages.classes import LabelOf, unlabelled
from pipeline.stages.outcomes import decode_plan_page, encode_plan_page

MAX_PARTS_PER_PAGE = 32
"""The images of two pages are in the client's memory at a time, the planner's and the driver's: about 15 MB each."""


@dataclass(frozen=True, slots=True)
class PlanTotals:
    """How much a plan holds."""

    n_images: int = 0
    n_parts: int = 0
    n_pages: int = 0

    def with_page(self, n_images: int, n_parts: int) -> "PlanTotals":
        """Return the totals with one page more."""
        return PlanTotals(self.n_images + n_images, self.n_parts + n_parts, self.n_pages + 1)


def parts_per_page() -> Iterator[int]:
    """Yield how many parts each new page has: the first is there soon, later ones are so large that they are few."""
    n_parts = 1
    while True:
        yield n_parts
        n_parts = min(2 * n_parts, MAX_PARTS_PER_PAGE)


def n_pages_of(n_parts: int) -> int:
    """Return how many pages so many new parts take.

    >>> [n_pages_of(n_parts) for n_parts in (0, 1, 2, 3, 63, 95, 96)]
    [0, 1, 2, 2, 6, 7, 8]
    """
    n_pages, sizes = 0, parts_per_page()
    while n_parts > 0:
        n_parts, n_pages = n_parts - next(sizes), n_pages + 1
    return n_pages


class _Stopped(Exception):  # noqa: N818  not an error: the planner was asked to stop
    """The listing was not read to its end, so that nothing may be concluded from what it did not name."""


class Planner:
    """Keeps a plan in a thread of its own, and hands out its pages.

    Parameters
    ----------
    listed
        The listed images in their order; consumed lazily on the planner's thread.
    destination
        Where the plan is stored.
    part_size
        Images in one new part.
    wake
        Called on the planner's thread after each page and at the end.
    label_of
        Labels the images that are handed out.
    """

    def __init__(
        self,
        listed: Iterable[ImageRef],
        destination: Destination,
        part_size: int,
        wake: Callable[[], None],
        label_of: LabelOf = unlabelled,
    ) -> None:
        self._listed, self._destination, self._part_size, self._wake = listed, destination, part_size, wake
        self._label_of = label_of
        self._pages: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._digests: dict[int, bytes] = {}
        self._adopted: set[str] = set()
        self._next_page = self._next_part = 0
        self._has_changed = False
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)
        self.totals = PlanTotals()
        self.is_closed = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=1)  # a listing that hangs must not hold up the end; it is a daemon

    def next_page(self) -> list[Part] | None:
        """Return the parts of the next page as stored, or None while there is none; raises the listing's error."""
        if self._error is not None:
            raise self._error
        if self._pages.empty():
            return None
        number = self._pages.get()
        data = self._destination.read(plan_page_name(number))
        self._digests[number] = _digest(data)
        return PageDraft(number, decode_plan_page(data)).parts(self._label_of)

    @property
    def is_exhausted(self) -> bool:
        """Whether `next_page` has handed out all that there will ever be."""
        return self.is_closed and self._pages.empty()

    def still_stands(self) -> bool:
        """Return whether the plan on storage is still the one that was handed out."""
        numbers = stored_pages(self._destination)
        return numbers == sorted(self._digests) and all(
            _digest(self._destination.read(plan_page_name(number))) == self._digests[number] for number in numbers
        )

    def _run(self) -> None:
        try:
            heads = read_heads(self._destination)
            self._next_page = max((head.number for head in heads), default=-1) + 1
            self._next_part = max((head.ends.last_part for head in heads), default=-1) + 1
            planned = self._settled(merged_rows(self._destination, heads))
            self._append(unplanned(self._until_stopped(), planned))
            self._close()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  raised again where the pages are asked for
            self._error = error
        finally:
            self._wake()

    def _until_stopped(self) -> Iterator[ImageRef]:
        for ref in self._listed:
            if self._stop.is_set():
                raise _Stopped
            yield ref

    def _settled(self, planned: Iterator[PlannedRow]) -> Iterator[PlannedRow]:
        """Pass rows on, and store each page again, if it must be, once the last of its rows was dealt with."""
        for row in planned:
            yield row
            _, page, position = row
            if position == page.last_position:
                self._settle(page)

    def _settle(self, page: PageDraft) -> None:
        if page.is_changed:
            with self._changing():
                if not page.n_images:
                    self._destination.delete([plan_page_name(page.number)])
                    return
                self._destination.write(plan_page_name(page.number), encode_plan_page(page.parts()))
        self._announce(page.number, page.n_images, page.n_parts)

    def _append(self, unplanned: Iterator[ImageRef]) -> None:
        """Write what is new, page by page."""
        fresh = (ref for ref in unplanned if ref.url not in self._adopted)
        for n_parts in parts_per_page():  # only one page's images are in memory
            if not self._append_page(list(islice(fresh, n_parts * self._part_size))):
                return

    def _append_page(self, refs: list[ImageRef]) -> bool:
        """Write a page, after those that others write meanwhile; return whether there was an image for any."""
        is_any = bool(refs)
        while refs:
            parts = [Part(self._next_part + i, tuple(chunk)) for i, chunk in enumerate(self._chunks(refs))]
            with self._changing():
                number, is_ours = self._next_page, write_page(self._destination, self._next_page, parts)
            if not is_ours:
                parts = read_page(self._destination, number).parts()
                self._adopted.update(ref.url for part in parts for ref in part.refs)
                refs = [ref for ref in refs if ref.url not in self._adopted]
            self._next_page = number + 1
            self._next_part = max(part.index for part in parts) + 1
            self._announce(number, sum(len(part.refs) for part in parts), len(parts))
            if is_ours:
                break
        return is_any

    def _chunks(self, refs: list[ImageRef]) -> Iterator[tuple[ImageRef, ...]]:
        return iter(toolz.partition_all(self._part_size, refs))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Take the marks of completeness away around the first change, for a driver that ends between the two."""
        is_first, self._has_changed = not self._has_changed, True
        if is_first:
            self._destination.unmark()
        yield
        if is_first:
            self._destination.unmark()

    def _announce(self, number: int, n_images: int, n_parts: int) -> None:
        self.totals = self.totals.with_page(n_images, n_parts)
        self._pages.put(number)
        self._wake()

    def _close(self) -> None:
        if self._stop.is_set():
            return
        content = {"n_images": self.totals.n_images, "n_parts": self.totals.n_parts}
        if self._destination.read_json(PLAN_CLOSED) != content:
            self._destination.write_json(PLAN_CLOSED, content)
        self.is_closed = True


def _digest(page: bytes) -> bytes:
    return hashlib.sha256(page).digest()
