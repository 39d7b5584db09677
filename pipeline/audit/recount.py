"""A run's figures, counted anew from its rows and held against what run.json tells. Pure."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit.evidence import UnreadableError
from pipeline.evaluation.metrics import Share

_ACCURACY = {"top1": "correct", "top5": "correct_top5", "breed": "correct_breed"}
"""Each accuracy of run.json, and the column that it is the mean of."""


def read_json(data: bytes) -> dict[str, Any]:
    """Return what run.json or plan/_CLOSED tells.

    Raises
    ------
    UnreadableError
        If it is no JSON object.
    """
    try:
        record = json.loads(data)
    except ValueError as error:
        raise UnreadableError(f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise UnreadableError("no JSON object")
    return record


@dataclass(slots=True)
class Recount:
    """Counts of the rows that are there, whatever they are worth."""

    n_rows: int = 0

    n_ok: int = 0

    failures: Counter[str] = field(default_factory=Counter)
    """Failed images by stage."""

    hits: Counter[str] = field(default_factory=Counter)
    """Rows that are right, by the column that tells it."""

    known: Counter[str] = field(default_factory=Counter)
    """Rows of which it is known whether they are right, by the column that tells it."""

    def add(self, rows: pa.Table) -> None:
        """Count the rows of a part, which have the columns of `pipeline.audit.evidence.ROWS`."""
        is_ok = pc.equal(rows["status"], "ok")
        stages = rows["stage"].filter(pc.invert(is_ok))
        self.n_rows += len(rows)
        self.n_ok += pc.sum(is_ok).as_py() or 0
        self.failures.update(str(stage) for stage in stages.to_pylist())
        for column in _ACCURACY.values():
            self.hits[column] += pc.sum(rows[column]).as_py() or 0
            self.known[column] += len(rows) - rows[column].null_count

    def differences(self, record: Mapping[str, Any]) -> Iterator[str]:
        """Yield every figure of run.json that is another one, with both."""
        told = _flat({"counts": record.get("counts"), "accuracy": record.get("accuracy")})
        stages = _by_stage(told.get("counts.failures"))
        return different(
            told | _flat({"failures": stages}), _flat({"failures": dict.fromkeys(stages, 0)}) | self._figures()
        )

    def _figures(self) -> dict[str, Any]:
        counts = {"n_images": self.n_rows, "n_ok": self.n_ok, "n_failed": self.n_rows - self.n_ok}
        shares = {name: Share(self.hits[column], self.known[column]) for name, column in _ACCURACY.items()}
        accuracy = {
            name: {"n": share.n, "n_hits": share.n_hits, "value": share.value} for name, share in shares.items()
        }
        return _flat({"counts": counts, "failures": self.failures, "accuracy": accuracy})


def different(told: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield each figure that is told as another one than was found, with both.

    >>> list(different({"n_images": 3}, {"n_images": 2, "n_parts": 1}))
    ['n_images is 3, not 2', 'n_parts is None, not 1']
    """
    for name, value in found.items():
        if not _is_same(told.get(name), value):
            yield f"{name} is {told.get(name)}, not {value}"


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by their path.

    >>> _flat({"counts": {"n_ok": 3}})
    {'counts.n_ok': 3}
    """
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return leaves


def _by_stage(failures: Any) -> Counter[str]:
    """Return the failures that run.json lists by stage and reason, by stage alone."""
    counts: Counter[str] = Counter()
    for entry in failures if isinstance(failures, list) else []:
        if isinstance(entry, Mapping) and isinstance(entry.get("n_images"), int):
            counts[str(entry.get("stage"))] += entry["n_images"]
    return counts


def _is_same(told: Any, found: Any) -> bool:
    is_number = isinstance(told, int | float) and isinstance(found, int | float)
    return math.isclose(told, found, abs_tol=1e-9) if is_number else told == found
