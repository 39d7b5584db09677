"""The auditor's own reading of plan pages and parts: bytes in, checked tables out. Pure.

It shares no code with `pipeline.stages.outcomes`, which wrote them: one mistake should not hide another.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ALWAYS_KNOWN = [
    pa.field("image", pa.string(), nullable=False),
    pa.field("etag", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
]
PAGE = pa.schema([*_ALWAYS_KNOWN, pa.field("part", pa.int64(), nullable=False)])
"""What is read of a page of the plan."""

ROWS = pa.schema(
    [
        *_ALWAYS_KNOWN,
        pa.field("status", pa.string(), nullable=False),
        pa.field("stage", pa.string()),
        pa.field("correct", pa.bool_()),
        pa.field("correct_top5", pa.bool_()),
        pa.field("correct_breed", pa.bool_()),
    ]
)
"""What is read of a part: identity, and what run.json's figures are made of."""

NO_ROWS = ROWS.empty_table()

VERSIONS = pa.schema(_ALWAYS_KNOWN[:2])
"""What is read of a page that is looked at again."""

NO_VERSIONS = VERSIONS.empty_table()

_NO_UTF8 = r"\\udc[89a-f][0-9a-f]"
"""How a byte of a local name that is no UTF-8 is spelled: such a name was sorted before it was spelled."""


class UnreadableError(ValueError):
    """An object is no Parquet file, or lacks what every such file has; the message says which."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One object of the outcomes."""

    rows: pa.Table
    """With the columns of `ROWS`."""

    fingerprint: str | None
    """Of the run that wrote it, as its metadata tell."""

    labels: str
    """By which it was judged; where nothing is told, by its images' paths."""


def read_page(data: bytes) -> pa.Table:
    """Return the rows of a page of the plan, none of its values unknown.

    Raises
    ------
    UnreadableError
        If it is no whole Parquet file with these columns.
    """
    return _read(data, PAGE)[0]


def read_versions(data: bytes) -> pa.Table:
    """Return the images and etags of a page of the plan, sorted by image in the order of UTF-8's bytes.

    Raises
    ------
    UnreadableError
        If it is no whole Parquet file with these columns.
    """
    table = _read(data, VERSIONS)[0]
    return table if is_ascending(table["image"]) else table.sort_by("image")


def read_part(data: bytes) -> Part:
    """Return the rows of a part, and whose they are.

    Raises
    ------
    UnreadableError
        If it is no whole Parquet file with these columns.
    """
    rows, metadata = _read(data, ROWS)
    fingerprint = metadata.get(b"fingerprint")
    labels = metadata.get(b"labels", b"path").decode(errors="replace")
    return Part(rows, None if fingerprint is None else fingerprint.decode(errors="replace"), labels)


def split_by_part(page: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Yield the parts of a page in the order of their numbers, each with its rows."""
    numbers = page["part"].to_numpy()
    order = np.argsort(numbers, kind="stable")
    parts, begins = np.unique(numbers[order], return_index=True)
    rows = page.take(pa.array(order))
    for part, begin, end in zip(parts, begins, [*begins[1:], len(numbers)], strict=True):
        yield int(part), rows.slice(begin, end - begin)


def is_ascending(images: pa.ChunkedArray) -> bool:
    """Return whether no image comes before its predecessor, in the order of UTF-8's bytes."""
    return bool(pc.all(pc.less_equal(images[:-1], images[1:]), min_count=0).as_py())


def is_as_listed(images: pa.ChunkedArray) -> bool:
    """Return whether images are in the order of a listing; names that are no UTF-8 may stand anywhere."""
    return is_ascending(images) or is_ascending(images.filter(pc.invert(pc.match_substring_regex(images, _NO_UTF8))))


def _read(data: bytes, schema: pa.Schema) -> tuple[pa.Table, dict[bytes, bytes]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if lacking := [name for name in schema.names if name not in file.schema_arrow.names]:
            raise UnreadableError(f"no column {', '.join(lacking)}")
        table = file.read(schema.names).combine_chunks()
        table.validate(full=True)
        return table.select(schema.names).cast(schema), file.metadata.metadata or {}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UnreadableError(str(error)) from error
