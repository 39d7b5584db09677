"""A table that names the images of a run: CSV or Parquet of one's own, or an S3 Inventory. Pure: bytes in.

S3 Inventory: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import UsageError

ManifestTable: TypeAlias = pa.Table
"""Columns ``image`` (URL), ``etag`` and ``size_bytes``, both null where they are not told."""

_SCHEMA = pa.schema([("image", pa.string()), ("etag", pa.string()), ("size_bytes", pa.int64())])
_KEPT = {"bucket": "Bucket", "key": "Key", "size": "Size", "e_tag": "ETag"}
"""Columns of an S3 Inventory as Parquet spells them, and as its manifest does for CSV."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an S3 Inventory's ``manifest.json`` tells."""

    files: tuple[str, ...]
    """URLs of its data."""

    columns: tuple[str, ...]
    """Of its data, where these are CSV."""

    is_csv: bool


def read_manifest(data: bytes, source: str) -> ManifestTable:
    """Return the images that a CSV or Parquet table names, sorted by URL.

    Parameters
    ----------
    source
        URL of the table: an image without a scheme is a path below its folder.

    Raises
    ------
    UsageError
        If this is no table with a column ``image``, or names an image twice.
    """
    table = _table(_unpacked(data), source)
    if "image" not in table.column_names:
        raise UsageError(f"{source}: no column 'image'; found {', '.join(table.column_names)}")
    images = table["image"].cast(pa.string()).drop_null()
    folder = source.rpartition("/")[0]
    is_url = pc.match_substring(images, "://")
    urls = pc.if_else(is_url, images, pc.binary_join_element_wise(folder, images, "/"))
    told = table.filter(pc.is_valid(table["image"]))
    columns = [urls, *(_column(told, name) for name in ("etag", "size_bytes"))]
    return _sorted(pa.Table.from_arrays(columns, schema=_SCHEMA), source)


def read_inventory(data: bytes, source: str) -> Inventory:
    """Return what an S3 Inventory's ``manifest.json`` tells.

    Raises
    ------
    UsageError
        If it is none, or one without sizes and ETags.
    """
    try:
        told: dict[str, Any] = json.loads(data)
        bucket = told["destinationBucket"].rpartition(":")[2]
        files = tuple(f"s3://{bucket}/{file['key']}" for file in told["files"])
        columns, kind = tuple(name.strip() for name in told["fileSchema"].split(",")), told["fileFormat"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{source}: not the manifest.json of an S3 Inventory ({type(error).__name__}: {error})"
        ) from error
    if kind not in ("CSV", "Parquet"):
        raise UsageError(f"{source}: an S3 Inventory in {kind}; expected CSV or Parquet")
    if kind == "CSV" and (missing := [name for name in _KEPT.values() if name not in columns]):
        raise UsageError(f"{source}: the S3 Inventory has no {missing[0]}; let it list Size and ETag")
    return Inventory(files, columns, is_csv=kind == "CSV")


def read_inventory_file(data: bytes, inventory: Inventory, name: str) -> ManifestTable:
    """Return the objects that one file of an S3 Inventory names, none of them deleted or out of date."""
    table = _inventory_csv(data, inventory) if inventory.is_csv else _table(data, name)
    if missing := [column for column in _KEPT if column not in table.column_names]:
        raise UsageError(f"{name}: the S3 Inventory has no {missing[0]}; let it list Size and ETag")
    for column, wanted in (("is_latest", "true"), ("is_delete_marker", "false")):
        if column in table.column_names:
            table = table.filter(pc.equal(pc.utf8_lower(table[column].cast(pa.string())), wanted))
    keys = table["key"].cast(pa.string())
    if inventory.is_csv:  # CSV inventories encode their keys
        keys = pa.array([unquote_plus(key) for key in keys.to_pylist()], pa.string())
    urls = pc.binary_join_element_wise("s3:/", table["bucket"].cast(pa.string()), keys, "/")
    columns = [urls, table["e_tag"].cast(pa.string()), table["size"].cast(pa.int64())]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def joined(tables: Sequence[ManifestTable], source: str) -> ManifestTable:
    """Return the files of an S3 Inventory as one table, sorted by URL."""
    return _sorted(pa.concat_tables([_SCHEMA.empty_table(), *tables]), source)


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _table(data: bytes, source: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(data)) if data[:4] == b"PAR1" else pa_csv.read_csv(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        brief = " ".join(str(error).split())[:200]
        raise UsageError(f"{source}: neither a CSV nor a Parquet table ({brief})") from error


def _inventory_csv(data: bytes, inventory: Inventory) -> pa.Table:
    names = [_spelt(column) for column in inventory.columns]
    text = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return pa_csv.read_csv(io.BytesIO(_unpacked(data)), pa_csv.ReadOptions(column_names=names), convert_options=text)


def _spelt(column: str) -> str:
    """Return a CSV inventory's column as a Parquet inventory spells it."""
    known = {theirs: ours for ours, theirs in _KEPT.items()} | {
        "IsLatest": "is_latest",
        "IsDeleteMarker": "is_delete_marker",
    }
    return known.get(column, column)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    kind = _SCHEMA.field(name).type
    return table[name].cast(kind) if name in table.column_names else pa.nulls(len(table), kind)


def _sorted(table: pa.Table, source: str) -> pa.Table:
    schemes = pc.unique(pc.list_element(pc.split_pattern(table["image"], "://", max_splits=1), 0)).to_pylist()
    if len(schemes) > 1:
        raise UsageError(f"{source}: images of {' and '.join(sorted(schemes))}; a manifest names images of one store")
    ordered = table.sort_by("image")
    images = ordered["image"].combine_chunks()
    twice = images[1:].filter(pc.equal(images[1:], images[:-1])) if len(images) > 1 else images[:0]
    if len(twice):
        raise UsageError(f"{source}: {twice[0].as_py()} is named twice")
    return ordered
