"""The tables that a run leaves behind: outcomes and the stored plan. Pure: records in, Parquet bytes out, and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.records import ImageRef, Outcome, Part, Tally

OutcomesTable: TypeAlias = pa.Table
"""With the columns of `OUTCOMES_SCHEMA`, or some of them."""

SCHEMA_VERSION = 1
"""Part of the fingerprint: rows of different versions are not interchangeable."""

OUTCOMES_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("wnid", pa.string()),
        pa.field("breed", pa.string()),
        pa.field("truth_index", pa.int16()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("class_index", pa.int16()),
        pa.field("category", pa.string()),
        pa.field("probability", pa.float32()),
        pa.field("top5_index", pa.list_(pa.int16())),
        pa.field("top5_probability", pa.list_(pa.float32())),
        pa.field("correct", pa.bool_()),
        pa.field("correct_top5", pa.bool_()),
        pa.field("breed_class_index", pa.int16()),
        pa.field("breed_probability", pa.float32()),
        pa.field("correct_breed", pa.bool_()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("batch_id", pa.string(), nullable=False),
    ]
)

PLAN_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class PlanPage:
    """The rows of a page of the stored plan, by column: a hundred thousand records would cost a tenth of a second."""

    urls: list[str]
    etags: list[str]
    sizes_bytes: list[int]
    parts: list[int]


@dataclass(frozen=True, slots=True)
class PlanPageEnds:
    """What tells where a page of the stored plan belongs."""

    first: str
    """The URL of its first image."""

    last: str

    last_part: int
    """The greatest number of a part in it."""


FINGERPRINT_KEY = b"fingerprint"
"""Under which a part's metadata tell what decided its predictions."""

LABELS_KEY = b"labels"
"""Under which they tell by which labels they were judged."""

BY_PATH = "path"
"""Labels that the images' paths tell; what holds where nothing is told."""


@dataclass(frozen=True, slots=True)
class SplitPart:
    """A stored part, held against the plan."""

    kept: bytes
    """The rows that may stay, as a Parquet object."""

    missing: tuple[ImageRef, ...]
    """The planned images without such a row."""

    is_exact: bool
    """Whether the part is just what the plan asks for."""


def encode_outcomes(outcomes: Iterable[Outcome], fingerprint: str, kept: bytes = b"", labels: str = BY_PATH) -> bytes:
    """Return one part of the outcomes table as a Parquet object: the rows that were kept, then the new ones."""
    rows = list(outcomes)
    columns = {name: list(map(attrgetter(name), rows)) for name in OUTCOMES_SCHEMA.names}
    columns["image"] = [_text(image) for image in columns["image"]]
    table = pa.Table.from_pydict(columns, OUTCOMES_SCHEMA)
    if kept:
        table = pa.concat_tables([_open(kept).read().replace_schema_metadata(), table])
    return _encode(table.replace_schema_metadata({FINGERPRINT_KEY: fingerprint, LABELS_KEY: labels}))


def labels_of(data: bytes) -> str:
    """Return by which labels a part of the outcomes table was judged."""
    return (_open(data).schema_arrow.metadata or {}).get(LABELS_KEY, BY_PATH.encode()).decode()  # type: ignore[no-any-return]


def decode_outcomes(data: bytes) -> tuple[list[Outcome], str]:
    """Return the rows of a part of the outcomes table, and the fingerprint of what decided them."""
    table = _open(data).read(columns=OUTCOMES_SCHEMA.names, use_threads=False)
    columns = [table[name].to_pylist() for name in OUTCOMES_SCHEMA.names]
    rows = (dict(zip(OUTCOMES_SCHEMA.names, row, strict=True)) for row in zip(*columns, strict=True))
    outcomes = [
        Outcome(**row | {name: _fixed(row[name]) for name in ("top5_index", "top5_probability")}) for row in rows
    ]
    return outcomes, (table.schema.metadata or {}).get(FINGERPRINT_KEY, b"").decode()


def join_outcomes(parts: Iterable[bytes], columns: Sequence[str] | None = None) -> OutcomesTable:
    """Return parts of the outcomes table as one, in their order; texts that recur as dictionaries.

    Parameters
    ----------
    columns
        Those that are wanted, in this order; None is all.

    Raises
    ------
    UsageError
        If one is no part of such a table.
    """
    wanted = list(columns or OUTCOMES_SCHEMA.names)
    schema = pa.schema([_recurring(OUTCOMES_SCHEMA.field(name)) for name in wanted])
    try:
        files = (pq.ParquetFile(pa.BufferReader(part), read_dictionary=_RECURRING) for part in parts)
        tables = [file.read(columns=wanted).replace_schema_metadata() for file in files]
        return pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries().combine_chunks()
    except (pa.ArrowException, OSError) as error:
        brief = " ".join(str(error).split())[:200]
        raise UsageError(f"the outcomes are not a table that this version writes ({brief})") from error


def encode_plan_page(parts: Sequence[Part]) -> bytes:
    """Return whole parts as one page of the stored plan."""
    rows = [(_text(ref.url), ref.etag, ref.size_bytes, part.index) for part in parts for ref in part.refs]
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), PLAN_SCHEMA, strict=True)]
    return _encode(pa.Table.from_arrays(columns, schema=PLAN_SCHEMA))


def decode_plan_page(data: bytes) -> PlanPage:
    """Return the rows of a plan page in their order; images have no label there."""
    table = _open(data).read(columns=PLAN_SCHEMA.names, use_threads=False)
    return PlanPage(*(table[name].to_pylist() for name in PLAN_SCHEMA.names))


def plan_page_ends(data: bytes) -> PlanPageEnds | None:
    """Return where a plan page begins and ends, None where it names no image; costs next to nothing per row."""
    table = _open(data).read(columns=["image", "part"], use_threads=False)
    if not len(table):
        return None
    images = table["image"]
    return PlanPageEnds(images[0].as_py(), images[-1].as_py(), pc.max(table["part"]).as_py())


def tally_of(data: bytes) -> Tally:
    """Return the counts of a part of the outcomes table."""
    table = _open(data).read(columns=_COUNTED, use_threads=False)
    reasons = zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True)
    n_failed = pc.sum(pc.equal(table["status"], "failed")).as_py() or 0
    return Tally(
        n_images=len(table),
        n_ok=len(table) - n_failed,
        n_truth=table["correct"].length() - table["correct"].null_count,
        n_correct=pc.sum(table["correct"]).as_py() or 0,
        n_correct_top5=pc.sum(table["correct_top5"]).as_py() or 0,
        n_breed_truth=table["correct_breed"].length() - table["correct_breed"].null_count,
        n_correct_breed=pc.sum(table["correct_breed"]).as_py() or 0,
        failures=Counter((stage, reason) for stage, reason in reasons if stage is not None),
    )


def split_part(data: bytes, planned: Sequence[ImageRef], fingerprint: str, *, retry_failed: bool) -> SplitPart:
    """Hold a stored part against the plan: which rows may stay, which images have none that may.

    A row stays if its image is planned at the row's version and it is the first such row. Nothing of a part that
    cannot be read, or whose predictions something else decided, stays.

    Parameters
    ----------
    retry_failed
        Whether rows of failed images are to go too.
    """
    try:
        table = _open(data).read(use_threads=False)
    except (pa.ArrowException, OSError):
        return SplitPart(b"", tuple(planned), is_exact=False)
    if (table.schema.metadata or {}).get(FINGERPRINT_KEY) != fingerprint.encode() or not _has_schema(table):
        return SplitPart(b"", tuple(planned), is_exact=False)
    wanted = {(_text(ref.url), ref.etag, ref.size_bytes): ref for ref in planned}
    stays = []
    for row in zip(*(table[name].to_pylist() for name in ("image", "etag", "size_bytes", "status")), strict=True):
        is_wanted = row[:3] in wanted and not (retry_failed and row[3] == "failed")
        stays.append(is_wanted)
        if is_wanted:
            del wanted[row[:3]]
    if all(stays) and not wanted:
        return SplitPart(data, (), is_exact=True)
    return SplitPart(_encode(table.filter(pa.array(stays, pa.bool_()))), tuple(wanted.values()), is_exact=False)


_RECURRING = ["wnid", "breed", "status", "stage", "reason", "category", "batch_id"]
"""Columns that have few texts for many rows."""


def _recurring(field: pa.Field) -> pa.Field:
    return field.with_type(pa.dictionary(pa.int32(), pa.string())) if field.name in _RECURRING else field


def _fixed(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


_COUNTED = ["status", "stage", "reason", "correct", "correct_top5", "correct_breed"]


def _has_schema(table: pa.Table) -> bool:
    return bool(table.schema.remove_metadata().equals(OUTCOMES_SCHEMA))


def _text(url: str) -> str:
    """Spell a local file's name that is no UTF-8 with backslashes: Parquet has no other way, and a row it must have."""
    return url if url.isascii() else url.encode("utf-8", "backslashreplace").decode()


def _open(data: bytes) -> pq.ParquetFile:
    """Open a Parquet object: `pq.read_table` would take a thousand bytes for a data set, at 2 ms a call."""
    return pq.ParquetFile(pa.BufferReader(data))


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
