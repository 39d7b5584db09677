"""The tables that a run leaves behind: outcomes and the stored plan. Pure: records in, Parquet bytes out, and back."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import ImageRef, Outcome, Part

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


def encode_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Return one part of the outcomes table as a Parquet object."""
    rows = [asdict(outcome) | {"image": _text(outcome.image)} for outcome in outcomes]
    return _encode(pa.Table.from_pylist(rows, OUTCOMES_SCHEMA))


def encode_plan_page(parts: Sequence[Part]) -> bytes:
    """Return whole parts as one page of the stored plan."""
    rows = [(_text(ref.url), ref.etag, ref.size_bytes, part.index) for part in parts for ref in part.refs]
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), PLAN_SCHEMA, strict=True)]
    return _encode(pa.Table.from_arrays(columns, schema=PLAN_SCHEMA))


def decode_plan_page(data: bytes) -> list[tuple[int, ImageRef]]:
    """Return the (part, image) rows of a plan page in their order; images come without their label."""
    table = pq.read_table(io.BytesIO(data))
    columns = (table.column(name).to_pylist() for name in PLAN_SCHEMA.names)
    return [(part, ImageRef(url, etag, size)) for url, etag, size, part in zip(*columns, strict=True)]


def _text(url: str) -> str:
    """Spell a local file's name that is no UTF-8 with backslashes: Parquet has no other way, and a row it must have."""
    return url.encode("utf-8", "backslashreplace").decode()


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
