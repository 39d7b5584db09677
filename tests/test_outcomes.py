"""The tables that a run leaves behind: what was written is what any Parquet reader reads."""

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.records import ImageRef, Outcome, Part
from pipeline.stages.outcomes import decode_plan_page, encode_outcomes, encode_plan_page

OK = Outcome(
    image="s3://bucket/n02106030-collie/1.jpg",
    etag="abc",
    size_bytes=5 << 40,
    wnid="n02106030",
    breed="collie",
    truth_index=231,
    status="ok",
    batch_id="000003-07",
    class_index=999,
    category="toilet tissue",
    probability=0.5,
    top5_index=(999, 231, 2, 3, 0),
    top5_probability=(0.5, 0.25, 0.125, 0.0625, 0.0),
    correct=False,
    correct_top5=True,
    breed_class_index=231,
    breed_probability=0.75,
    correct_breed=True,
    width=65_500,
    height=1,
)

UNKNOWN = replace(
    OK, wnid=None, breed=None, truth_index=None, correct=None, correct_top5=None, correct_breed=None, image="b.png"
)

FAILED = Outcome(
    image="s3://bucket/beach.jpg",
    etag="",
    size_bytes=0,
    wnid=None,
    breed=None,
    truth_index=None,
    status="failed",
    batch_id="000003-07",
    stage="decode",
    reason="empty file",
)

COLUMNS = {
    "image": pa.string(),
    "etag": pa.string(),
    "size_bytes": pa.int64(),
    "wnid": pa.string(),
    "breed": pa.string(),
    "truth_index": pa.int16(),
    "status": pa.string(),
    "stage": pa.string(),
    "reason": pa.string(),
    "class_index": pa.int16(),
    "category": pa.string(),
    "probability": pa.float32(),
    "top5_index": pa.list_(pa.int16()),
    "top5_probability": pa.list_(pa.float32()),
    "correct": pa.bool_(),
    "correct_top5": pa.bool_(),
    "breed_class_index": pa.int16(),
    "breed_probability": pa.float32(),
    "correct_breed": pa.bool_(),
    "width": pa.int32(),
    "height": pa.int32(),
    "batch_id": pa.string(),
}
"""What people's queries rely on."""

ALWAYS_KNOWN = {"image", "etag", "size_bytes", "status", "batch_id"}

ODD_NAMES = [
    "a b.jpg",
    "new\nline.jpg",
    "コリー/ü.jpg",
    "🐕.png",
    "a[1]#2?%20.jpg",
    "quo\"te'.jpg",
    "tab\t\\.jpg",
    "\0.jpg",
]


def as_read(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as a row that a reader gives back: tuples become lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(outcome).items()}


def read(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


# Outcomes


def test_outcomes_are_read_back_as_they_were_in_their_order():
    outcomes = [FAILED, OK, UNKNOWN, FAILED, OK]

    assert read(encode_outcomes(iter(outcomes))).to_pylist() == [as_read(outcome) for outcome in outcomes]


@pytest.mark.parametrize("outcomes", [[OK], [FAILED], [UNKNOWN, FAILED], []], ids=["ok", "failed", "mixed", "none"])
def test_the_schema_is_the_promised_one_whatever_the_rows(outcomes: list[Outcome]):
    schema = read(encode_outcomes(outcomes)).schema

    assert schema.names == list(COLUMNS)
    assert schema.types == list(COLUMNS.values())
    assert {field.name for field in schema if not field.nullable} == ALWAYS_KNOWN


def test_every_field_of_an_outcome_has_its_column():
    assert set(asdict(OK)) == set(COLUMNS)


def test_what_is_unknown_is_null_and_not_zero_or_empty():
    row = read(encode_outcomes([FAILED])).to_pylist()[0]

    assert {name for name, value in row.items() if value is not None} == ALWAYS_KNOWN | {"stage", "reason"}


@pytest.mark.parametrize("name", sorted(ALWAYS_KNOWN - {"image"}))
def test_a_row_without_what_every_row_has_is_refused(name: str):
    with pytest.raises((pa.ArrowInvalid, ValueError), match=name):
        encode_outcomes([replace(OK, **{name: None})])


@given(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5), st.sampled_from(ODD_NAMES))
@settings(deadline=None, max_examples=30)
def test_probabilities_and_odd_names_survive_to_the_bit(probabilities: list[float], name: str):
    outcome = replace(OK, image=name, reason=name, top5_probability=tuple(probabilities), probability=probabilities[0])

    assert read(encode_outcomes([outcome])).to_pylist() == [as_read(outcome)]


def test_parts_beside_each_other_read_as_one_table_as_a_folder_and_as_a_glob(tmp_path: Path):
    (tmp_path / "part-000000.parquet").write_bytes(encode_outcomes([FAILED]))
    (tmp_path / "part-000001.parquet").write_bytes(encode_outcomes([OK, UNKNOWN]))

    folder = pd.read_parquet(tmp_path)
    glob = pd.concat(map(pd.read_parquet, sorted(tmp_path.glob("*.parquet"))))

    assert list(folder["image"]) == list(glob["image"]) == [FAILED.image, OK.image, UNKNOWN.image]
    assert pq.read_table(tmp_path).schema.names == list(COLUMNS)
    assert np.isnan(folder["probability"][0])


# The plan


def parts_of(sizes: list[int], first: int = 0) -> list[Part]:
    return [
        Part(first + index, tuple(ImageRef(f"s3://bucket/{index}/{row}.jpg", f"{row}", row) for row in range(size)))
        for index, size in enumerate(sizes)
    ]


def rows_of(parts: list[Part]) -> list[tuple[int, ImageRef]]:
    return [(part.index, ref) for part in parts for ref in part.refs]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2_000_000))
@settings(deadline=None, max_examples=30)
def test_a_plan_page_gives_its_images_back_in_their_order_with_their_parts(sizes: list[int], first: int):
    parts = parts_of(sizes, first)

    assert decode_plan_page(encode_plan_page(parts)) == rows_of(parts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6), st.integers(0, 2**62))
@example(ODD_NAMES, 0)
@settings(deadline=None, max_examples=40)
def test_a_plan_page_keeps_every_name_as_it_is(names: list[str], size_bytes: int):
    parts = [Part(0, tuple(ImageRef(f"s3://bucket/{name}", name, size_bytes) for name in names))]

    assert decode_plan_page(encode_plan_page(parts)) == rows_of(parts)


def test_a_file_s_name_that_is_no_unicode_can_be_planned():
    parts = [Part(0, (ImageRef("file:///data/\udcff.jpg", "", 1),))]  # as os.fsdecode spells the byte 0xFF

    ((_, ref),) = decode_plan_page(encode_plan_page(parts))

    assert ref.url == r"file:///data/\udcff.jpg"


def test_a_plan_page_carries_no_label_since_labels_may_change():
    labelled = ImageRef("s3://bucket/n02106030-collie/1.jpg", "abc", 1, "n02106030")

    assert decode_plan_page(encode_plan_page([Part(0, (labelled,))])) == [(0, replace(labelled, wnid=None))]


def test_a_plan_page_s_columns_are_the_promised_ones():
    schema = read(encode_plan_page(parts_of([2]))).schema

    assert schema.names == ["image", "etag", "size_bytes", "part"]
    assert schema.types == [pa.string(), pa.string(), pa.int64(), pa.int32()]
    assert not any(field.nullable for field in schema)
