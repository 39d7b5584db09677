"""The stored plan: which image belongs to which part, written page by page while the listing goes on.

A page is on storage before any part that it names is handed out, so that what runs is always what the plan says. The
planner may run far ahead of the workers: it keeps the names of its pages, never their rows.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Self

import toolz

from pipeline.destination import PLAN_CLOSED, Destination, plan_page_name
from pipeline.records import ImageRef, Part
from pipeline.stages.labels import wnid_of
from pipeline.stages.outcomes import decode_plan_page, encode_plan_page

MAX_PARTS_PER_PAGE = 64


@dataclass(frozen=True, slots=True)
class PlanTotals:
    """How much a plan holds."""

    n_images: int = 0
    n_parts: int = 0
    n_pages: int = 0


class Planner:
    """Writes a plan in a thread of its own, and hands out its parts.

    Parameters
    ----------
    refs
        The listed images in their order; consumed lazily on the planner's thread.
    destination
        Where the plan is stored.
    part_size
        Images in one part.
    wake
        Called on the planner's thread after each page and at the end.
    """

    def __init__(
        self, refs: Iterable[ImageRef], destination: Destination, part_size: int, wake: Callable[[], None]
    ) -> None:
        self._refs, self._destination, self._part_size, self._wake = refs, destination, part_size, wake
        self._pages: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._parts: Iterator[Part] = iter(())
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

    def next_part(self) -> Part | None:
        """Return the next part that the stored plan names, or None while there is none; raises the listing's error."""
        if self._error is not None:
            raise self._error
        part = next(self._parts, None)
        if part is None and not self._pages.empty():
            self._parts = read_parts(self._destination, self._pages.get())
            part = next(self._parts, None)
        return part

    @property
    def is_exhausted(self) -> bool:
        """Whether `next_part` has handed out all that there will ever be (ask after it returned None)."""
        return self.is_closed and self._pages.empty()

    def _run(self) -> None:
        try:
            for page in self._paged():
                if self._stop.is_set():
                    return
                self._write(page)
                self._wake()
            if self._stop.is_set():
                return
            self._destination.write_json(
                PLAN_CLOSED, {"n_images": self.totals.n_images, "n_parts": self.totals.n_parts}
            )
            self.is_closed = True
        except BaseException as error:  # noqa: BLE001  raised again where the parts are asked for
            self._error = error
        finally:
            self._wake()

    def _paged(self) -> Iterator[list[Part]]:
        """Yield pages of 1, 2, 4 ... parts: the first soon, later ones large enough to keep their number small."""
        refs = takewhile(lambda _: not self._stop.is_set(), self._refs)
        chunks = toolz.partition_all(self._part_size, refs)
        parts = (Part(index, tuple(refs)) for index, refs in enumerate(chunks))
        n_parts = 1
        while page := list(toolz.take(n_parts, parts)):
            yield page
            n_parts = min(2 * n_parts, MAX_PARTS_PER_PAGE)

    def _write(self, page: list[Part]) -> None:
        totals = self.totals
        self._destination.write(plan_page_name(totals.n_pages), encode_plan_page(page))
        self.totals = PlanTotals(
            n_images=totals.n_images + sum(len(part.refs) for part in page),
            n_parts=totals.n_parts + len(page),
            n_pages=totals.n_pages + 1,
        )
        self._pages.put(totals.n_pages)


def read_parts(destination: Destination, page: int) -> Iterator[Part]:
    """Yield the parts that a stored page of the plan names."""
    rows = decode_plan_page(destination.read(plan_page_name(page)))
    for index, members in toolz.groupby(0, rows).items():
        yield Part(index, tuple(replace(ref, wnid=wnid_of(ref.url)) for _, ref in members))
