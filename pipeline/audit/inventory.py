"""What stands in a destination, by name. Pure.

The names are spelled out here once more, and not taken from the code that writes them: that code is what is checked.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.audit.findings import Findings, Kind

CLOSED = "plan/_CLOSED"
_LEFTOVER = re.compile(r"(plan/|outcomes/)[._][^/]*\.partial")
_NUMBER = re.compile(r"-(\d{1,18})\.parquet$", re.ASCII)
_JUDGED = ("plan/", "outcomes/")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a destination holds."""

    pages: tuple[int, ...]
    """Numbers of the plan's pages, ascending."""

    parts: frozenset[int]
    """Numbers of the parts that stand among the outcomes."""

    has_record: bool
    """Whether there is a run.json."""

    is_closed: bool
    """Whether the plan says that its listing came to its end."""

    is_marked: bool
    """Whether _SUCCESS says that every image has its row."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing here tells of a run."""
        return not (self.pages or self.parts or self.has_record or self.is_closed or self.is_marked)


def page_name(page: int) -> str:
    """Return where a page of the plan stands below the destination."""
    return f"plan/page-{page:06d}.parquet"


def part_name(part: int) -> str:
    """Return where a part stands below the destination."""
    return f"outcomes/part-{part:06d}.parquet"


def take_inventory(names: Iterable[str], findings: Findings) -> Inventory:
    """Return what a destination holds, given the names below it; leftovers and foreign objects are findings."""
    pages, parts, marks = set[int](), set[int](), set[str]()
    for name in names:
        if (page := _number(name, page_name)) is not None:
            pages.add(page)
        elif (part := _number(name, part_name)) is not None:
            parts.add(part)
        elif name in ("run.json", "_SUCCESS", CLOSED):
            marks.add(name)
        elif name.startswith(_JUDGED) and not name.endswith("/"):
            findings.add(Kind.LEFTOVER if _LEFTOVER.fullmatch(name) else Kind.FOREIGN, [name])
    return Inventory(tuple(sorted(pages)), frozenset(parts), "run.json" in marks, CLOSED in marks, "_SUCCESS" in marks)


def _number(name: str, spell: Callable[[int], str]) -> int | None:
    """Return the number in a name that is spelled just so: any other spelling is another object."""
    found = _NUMBER.search(name)
    return int(found[1]) if found and spell(int(found[1])) == name else None
