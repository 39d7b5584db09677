"""The layout of a destination: one folder that holds one run. Effects: storage.

::

    plan/page-000000.parquet, ...    every listed image and its part; pages are written as the listing goes on
    plan/_CLOSED                     the listing is complete, and how much it listed
    outcomes/part-000000.parquet     one row for each image of the plan, each part one PUT
    run.json                         config, fingerprint, versions, counts, timings
    _SUCCESS                         every image of the plan has its row
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.storage import Storage, StorageOptions, join, open_storage, read_whole

RUN_JSON = "run.json"
SUCCESS = "_SUCCESS"
PLAN_CLOSED = "plan/_CLOSED"

_PROBE = "_probe"
_OWN_FOLDERS = ("plan/", "outcomes/")
_OWN = re.compile(
    r"(plan/page-\d+\.parquet|plan/_CLOSED|outcomes/part-\d+\.parquet"
    r"|(plan/|outcomes/)?\.[^/]*\.partial|run\.json|_SUCCESS|report\.html|_probe)"
)
"""Every name that a run may leave, half files of a local disk included."""


def part_name(part: int) -> str:
    """Return where a part stands below the destination.

    >>> part_name(3)
    'outcomes/part-000003.parquet'
    """
    return f"outcomes/part-{part:06d}.parquet"


def plan_page_name(page: int) -> str:
    """Return where a page of the stored plan stands below the destination."""
    return f"plan/page-{page:06d}.parquet"


@dataclass(frozen=True, slots=True)
class Destination:
    """A run's folder. Travels to the workers."""

    url: str

    options: StorageOptions

    def write(self, name: str, data: bytes) -> None:
        """Put one object whole, by its name below the folder."""
        self._storage.write(join(self.url, name), data)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Put one JSON object, indented for people."""
        self.write(name, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")

    def read(self, name: str) -> bytes:
        """Return one object's bytes; raises `StorageError` where there is none."""
        return read_whole(join(self.url, name), self.options)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects below the folder."""
        for page in self._storage.list_pages(self.url):
            yield from (entry.url[len(self.url) + 1 :] for entry in page)

    def probe(self) -> None:
        """Raise `StorageError` unless an object can be written here and deleted again."""
        self.write(_PROBE, b"")
        self._storage.delete([join(self.url, _PROBE)])

    def refuse_if_used(self) -> None:
        """Raise `UsageError` if anything stands here but an empty folder's marker."""
        name = next((name for name in self.names() if name and not name.endswith("/") and name != _PROBE), None)
        if name is not None:
            raise UsageError(
                f"{self.url} already holds {name}: one destination holds one run; "
                "give another destination, or --overwrite to begin anew"
            )

    def refuse_if_foreign(self) -> None:
        """Raise `UsageError` if something that no run wrote stands among the plan or the outcomes."""
        inside = (name for name in self.names() if name.startswith(_OWN_FOLDERS) and not name.endswith("/"))
        foreign = next((name for name in inside if not _OWN.fullmatch(name)), None)
        if foreign is not None:
            raise UsageError(
                f"{self.url} holds {foreign}, which no run wrote: move it away, or give another destination"
            )

    def clear(self) -> None:
        """Delete what a run leaves here, and nothing else; what says that a run is complete goes first."""
        self._storage.delete([join(self.url, SUCCESS)])
        self._storage.delete([join(self.url, name) for name in self.names() if _OWN.fullmatch(name)])

    @property
    def _storage(self) -> Storage:
        return open_storage(self.url, self.options)
