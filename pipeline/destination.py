"""The layout of a destination: one folder that holds one run. Effects: storage.

::

    plan/page-000000.parquet, ...    every listed image and its part; pages are written as the listing goes on
    plan/_CLOSED                     the listing is complete, and how much it listed
    outcomes/part-000000.parquet     one row for each image of the plan, each part one PUT
    run.json                         config, fingerprint, versions, counts, timings
    report.html                      what the outcomes say, for people
    progress.json, stop.json         of a detached run: its last sign of life, and that it was asked to stop
    _SUCCESS                         every image of the plan has its row
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from pipeline.errors import StorageError, UsageError
from pipeline.storage import GONE, ReadFault, Storage, StorageOptions, join, open_storage, read_whole

RUN_JSON = "run.json"
SUCCESS = "_SUCCESS"
REPORT = "report.html"
PROGRESS = "progress.json"
STOP = "stop.json"
PLAN_CLOSED = "plan/_CLOSED"
PLAN_FOLDER = "plan"
OUTCOMES_FOLDER = "outcomes"

_OWN_FOLDERS = ("plan/", "outcomes/")
_OWN = re.compile(
    r"(plan/page-\d+\.parquet|plan/_CLOSED|outcomes/part-\d+\.parquet"
    r"|(plan/|outcomes/)?\.[^/]*\.partial|(run|progress|stop)\.json|_SUCCESS|report\.html|_probe-\w+)"
)
"""Every name that a run may leave, half files of a local disk included."""

_PASSING = re.compile(r"_probe-\w+|progress\.json|stop\.json")
"""Of these what tells nothing of images, so that a run can begin beside it."""


def part_name(part: int) -> str:
    """Return where a part stands below the destination.

    >>> part_name(3)
    'outcomes/part-000003.parquet'
    """
    return f"outcomes/part-{part:06d}.parquet"


def plan_page_name(page: int) -> str:
    """Return where a page of the stored plan stands below the destination."""
    return f"plan/page-{page:06d}.parquet"


def part_number(name: str) -> int | None:
    """Return the number of a part by its name, None for anything else.

    >>> part_number("outcomes/part-000003.parquet")
    3
    """
    found = re.fullmatch(r"outcomes/part-(\d+)\.parquet", name)
    return int(found[1]) if found else None


def plan_page_number(name: str) -> int | None:
    """Return the number of a page of the stored plan by its name, None for anything else."""
    found = re.fullmatch(r"plan/page-(\d+)\.parquet", name)
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Destination:
    """A run's folder. Travels to the workers."""

    url: str

    options: StorageOptions

    def write(self, name: str, data: bytes) -> str:
        """Put one object whole, by its name below the folder, and return its etag."""
        return self._storage.write(join(self.url, name), data)

    def write_new(self, name: str, data: bytes) -> bool:
        """Put one object where there is none; return whether just these bytes stand there now."""
        return self._storage.write_new(join(self.url, name), data)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Put one JSON object, indented for people."""
        self.write(name, _json(content))

    def write_new_json(self, name: str, content: dict[str, Any]) -> bool:
        """Put one JSON object where there is none; return whether it stands there now."""
        return self.write_new(name, _json(content))

    def read(self, name: str) -> bytes:
        """Return one object's bytes; raises `StorageError` where there is none."""
        return read_whole(join(self.url, name), self.options)

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """Return the bytes of several objects, read at the same time; raises `StorageError` where there is none."""
        return self._storage_read([join(self.url, name) for name in names])

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return one JSON object, None where there is none; raises `UsageError` where it is no JSON object."""
        data = self._storage.read_many([(join(self.url, name), "")])[0]
        if data is GONE:
            return None
        if isinstance(data, ReadFault):
            raise StorageError(f"cannot read {join(self.url, name)}: {data.reason}")
        try:
            content = json.loads(data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UsageError(f"{join(self.url, name)} is no JSON object: give another destination, or --overwrite")
        return content

    def judged_by(self) -> tuple[str | None, str]:
        """Return the fingerprint of the run that the destination holds, and by which labels its answers are judged."""
        record = self.read_json(RUN_JSON) or {}
        return record.get("fingerprint"), record.get("labels", "path")

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there are no fault."""
        self._storage.delete([join(self.url, name) for name in names])

    def names(self) -> Iterator[str]:
        """Yield the names of all objects below the folder, lazily."""
        for page in self._storage.list_pages(self.url):
            yield from (entry.url[len(self.url) + 1 :] for entry in page)

    def etags(self, folder: str) -> dict[str, str]:
        """Return the etag of every object in a folder of this one, by name."""
        pages = self._storage.list_pages(join(self.url, folder))
        return {entry.url[len(self.url) + 1 :]: entry.etag for page in pages for entry in page}

    def is_marked(self) -> bool:
        """Return whether the run is marked as complete."""
        return self._storage.read_many([(join(self.url, SUCCESS), "")])[0] is not GONE

    def unmark(self) -> None:
        """Take away what says that the run and its plan are complete."""
        self.delete([SUCCESS])
        self.delete([PLAN_CLOSED])

    def forget_signs(self) -> None:
        """Take away what a detached run has told of itself, and was asked for; one that goes on tells it again."""
        self.delete([PROGRESS, STOP])

    def within(self, deadline_s: float) -> "Destination":
        """Return the same for a check that should be over in so many seconds."""
        return replace(self, options=self.options.within(deadline_s))

    def probe(self) -> None:
        """Raise `StorageError` unless an object can be written here and deleted again; several may try at once."""
        probe = f"_probe-{uuid4().hex[:8]}"
        is_there = True
        try:
            self.write(probe, b"")
        except StorageError:
            is_there = False
            raise
        finally:  # after an interrupt it may be there, too
            if is_there:
                self.delete([probe])

    def refuse_if_used(self) -> None:
        """Raise `UsageError` if anything stands here but an empty folder's marker."""
        held = (name for name in self.names() if name and not name.endswith("/"))
        name = next((name for name in held if not _PASSING.fullmatch(name)), None)
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
        self.delete([SUCCESS])
        self.delete([name for name in self.names() if _OWN.fullmatch(name)])

    @property
    def _storage(self) -> Storage:
        return open_storage(self.url, self.options)

    def _storage_read(self, urls: Sequence[str]) -> list[bytes]:
        bodies = self._storage.read_many([(url, "") for url in urls])
        for url, body in zip(urls, bodies, strict=True):
            if isinstance(body, ReadFault):
                raise StorageError(f"cannot read {url}: {body.reason}")
        return [body for body in bodies if isinstance(body, bytes)]


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
