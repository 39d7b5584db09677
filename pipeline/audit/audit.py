"""The proof that every planned image has exactly one row, or what stands against it. Pure: bytes in, findings out.

It goes through the plan page by page, and for each page through the parts that it names. So it needs the memory of one
page and of a few parts, whatever the length of the table. What cannot be seen within one page, an image that is planned
twice, is looked for at the end, among the pages whose images overlap.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit import evidence
from pipeline.audit.comparing import add_images, compare_with_listing, compare_with_rows, repeated
from pipeline.audit.evidence import NO_ROWS, NO_VERSIONS, PAGE, VERSIONS, UnreadableError
from pipeline.audit.findings import Findings, Kind
from pipeline.audit.inventory import CLOSED, Inventory, page_name, part_name
from pipeline.audit.merging import Span, chained, crossing, merged
from pipeline.audit.recount import Recount, different, read_json
from pipeline.records import ImageRef

T = TypeVar("T")

Read = Callable[[Sequence[str]], list[bytes]]
"""Returns objects by their names below the destination."""

_N_PARTS = 32
"""Parts that are read at a time, and held in memory: as many as a store is asked for at once."""

_N_LISTED = 1 << 16
"""Images of a listing that are held in memory at a time."""


class Audit:
    """Looks through one destination once; what it finds is counted in `findings`."""

    def __init__(self, inventory: Inventory, read: Read, findings: Findings) -> None:
        self.inventory, self._read, self.findings = inventory, read, findings
        self.record: dict[str, Any] | None = None
        """What run.json tells; None where it is missing or cannot be read."""
        self.recount = Recount()
        self.n_planned = 0
        self._spans: list[Span] = []
        self._named: set[int] = set()

    @property
    def n_parts(self) -> int:
        """Parts that the plan names."""
        return len(self._named)

    def run(self) -> None:
        """Look at everything but the source."""
        self._read_record()
        for page in self.inventory.pages:
            self._look_at_page(page)
        self._look_at_unnamed_parts()
        self._look_for_repeated_plans()
        self._judge_marks()

    def compare_source(self, listed: Iterable[ImageRef]) -> None:
        """Find what differs between the plan and a listing, sorted as the plan spells it; call it after `run`."""
        for *planned, now in self._merged(self._spans, _versions_of(listed)):
            compare_with_listing(pa.concat_tables([NO_VERSIONS, *planned]), now, self.findings)

    def _read_record(self) -> None:
        if self.inventory.has_record:
            self.record = self._readable("run.json", read_json)
        else:
            self.findings.add(Kind.UNREADABLE, ["run.json (missing)"])

    def _look_at_page(self, number: int) -> None:
        page = self._readable(page_name(number), evidence.read_page)
        if page is None or not len(page):
            return
        if not evidence.is_as_listed(page["image"]):
            self.findings.add(Kind.UNSORTED, [page_name(number)])
        self.n_planned += len(page)
        self._spans.append(_span(number, page["image"]))
        parts = list(evidence.split_by_part(page))
        self._note_named([part for part, _ in parts])
        for group in _groups(parts, _N_PARTS):
            self._look_at_parts(dict(group))

    def _note_named(self, parts: list[int]) -> None:
        self.findings.add(Kind.SHARED_PART, [part_name(part) for part in parts if part in self._named])
        self._named.update(parts)

    def _look_at_unnamed_parts(self) -> None:
        unnamed = sorted(self.inventory.parts - self._named)
        for group in _groups(unnamed, _N_PARTS):
            self._look_at_parts(dict.fromkeys(group, PAGE.empty_table()))

    def _look_at_parts(self, planned: dict[int, pa.Table]) -> None:
        there = [part for part in planned if part in self.inventory.parts]
        data = dict(zip(there, self._read([part_name(part) for part in there]), strict=True))
        for part, images in planned.items():
            rows = self._rows(part, data[part]) if part in data else NO_ROWS
            compare_with_rows(images, rows, self.findings)

    def _rows(self, number: int, data: bytes) -> pa.Table:
        try:
            part = evidence.read_part(data)
        except UnreadableError as error:
            self.findings.add(Kind.UNREADABLE, [f"{part_name(number)} ({error})"])
            return NO_ROWS
        if part.fingerprint is None:
            self.findings.add(Kind.NO_FINGERPRINT, [part_name(number)])
        elif self.record is not None and part.fingerprint != self.record.get("fingerprint"):
            self.findings.add(Kind.OTHER_FINGERPRINT, [part_name(number)])
        if self.record is not None and part.labels != self.record.get("labels", "path"):
            self.findings.add(Kind.OTHER_LABELS, [part_name(number)])
        self.recount.add(part.rows)
        return part.rows

    def _look_for_repeated_plans(self) -> None:
        for block in self._merged(crossing(self._spans)):
            add_images(self.findings, Kind.PLANNED_TWICE, repeated(pa.concat_tables(block)["image"]))

    def _judge_marks(self) -> None:
        is_marked, is_closed = self.inventory.is_marked, self.inventory.is_closed
        is_whole = is_closed and not self.findings.count(Kind.MISSING)
        if is_closed:
            told = self._readable(CLOSED, read_json) or {}
            found = {"n_images": self.n_planned, "n_parts": self.n_parts}
            self.findings.add(Kind.LENGTH, list(different(told, found)))
        else:
            self.findings.add(Kind.NOT_CLOSED, [], 1)
        if is_marked != is_whole:
            self.findings.add(Kind.MARKED if is_marked else Kind.NOT_MARKED, [], 1)
        if is_marked and self.record is not None:
            self.findings.add(Kind.RECORD, list(self.recount.differences(self.record)))

    def _merged(self, spans: Iterable[Span], *others: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
        return merged([*map(self._versions, chained(spans)), *others])

    def _versions(self, chain: Iterable[Span]) -> Iterator[pa.Table]:
        return (evidence.read_versions(self._read([page_name(span.page)])[0]) for span in chain)

    def _readable(self, name: str, decode: Callable[[bytes], T]) -> T | None:
        """Return an object decoded, None and a finding where that cannot be done."""
        try:
            return decode(self._read([name])[0])
        except UnreadableError as error:
            self.findings.add(Kind.UNREADABLE, [f"{name} ({error})"])
            return None


def _span(number: int, images: pa.ChunkedArray) -> Span:
    ends = pc.min_max(images).as_py()
    return Span(number, ends["min"], ends["max"], has_repeats=pc.count_distinct(images).as_py() < len(images))


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of `size`, the last with what is left."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def _versions_of(listed: Iterable[ImageRef]) -> Iterator[pa.Table]:
    """Yield a sorted listing in tables; a local name that is no UTF-8 is spelled as the plan spells it."""
    for group in _groups(listed, _N_LISTED):
        images = [ref.url.encode("utf-8", "backslashreplace").decode() for ref in group]
        yield pa.Table.from_arrays([images, [ref.etag for ref in group]], schema=VERSIONS)
