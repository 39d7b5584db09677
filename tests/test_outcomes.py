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

from pipeline.records import ImageRef, Outcome, Part, Tally
from pipeline.stages.outcomes import decode_plan_page, encode_outcomes, encode_plan_page, split_part, tally_of

PRINT = "a" * 64

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

    assert read(encode_outcomes(iter(outcomes), PRINT)).to_pylist() == [as_read(outcome) for outcome in outcomes]


@pytest.mark.parametrize("outcomes", [[OK], [FAILED], [UNKNOWN, FAILED], []], ids=["ok", "failed", "mixed", "none"])
def test_the_schema_is_the_promised_one_whatever_the_rows(outcomes: list[Outcome]):
    schema = read(encode_outcomes(outcomes, PRINT)).schema

    assert schema.names == list(COLUMNS)
    assert schema.types == list(COLUMNS.values())
    assert {field.name for field in schema if not field.nullable} == ALWAYS_KNOWN


def test_every_field_of_an_outcome_has_its_column():
    assert set(asdict(OK)) == set(COLUMNS)


def test_what_is_unknown_is_null_and_not_zero_or_empty():
    row = read(encode_outcomes([FAILED], PRINT)).to_pylist()[0]

    assert {name for name, value in row.items() if value is not None} == ALWAYS_KNOWN | {"stage", "reason"}


@pytest.mark.parametrize("name", sorted(ALWAYS_KNOWN - {"image"}))
def test_a_row_without_what_every_row_has_is_refused(name: str):
    with pytest.raises((pa.ArrowInvalid, ValueError), match=name):
        encode_outcomes([replace(OK, **{name: None})], PRINT)


@given(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5), st.sampled_from(ODD_NAMES))
@settings(deadline=None, max_examples=30)
def test_probabilities_and_odd_names_survive_to_the_bit(probabilities: list[float], name: str):
    outcome = replace(OK, image=name, reason=name, top5_probability=tuple(probabilities), probability=probabilities[0])

    assert read(encode_outcomes([outcome], PRINT)).to_pylist() == [as_read(outcome)]


def test_parts_beside_each_other_read_as_one_table_as_a_folder_and_as_a_glob(tmp_path: Path):
    (tmp_path / "part-000000.parquet").write_bytes(encode_outcomes([FAILED], PRINT))
    (tmp_path / "part-000001.parquet").write_bytes(encode_outcomes([OK, UNKNOWN], PRINT))

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


def planned_rows(data: bytes) -> list[tuple[int, ImageRef]]:
    page = decode_plan_page(data)
    columns = zip(page.parts, page.urls, page.etags, page.sizes_bytes, strict=True)
    return [(part, ImageRef(url, etag, size)) for part, url, etag, size in columns]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2_000_000))
@settings(deadline=None, max_examples=30)
def test_a_plan_page_gives_its_images_back_in_their_order_with_their_parts(sizes: list[int], first: int):
    parts = parts_of(sizes, first)

    assert planned_rows(encode_plan_page(parts)) == rows_of(parts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6), st.integers(0, 2**62))
@example(ODD_NAMES, 0)
@settings(deadline=None, max_examples=40)
def test_a_plan_page_keeps_every_name_as_it_is(names: list[str], size_bytes: int):
    parts = [Part(0, tuple(ImageRef(f"s3://bucket/{name}", name, size_bytes) for name in names))]

    assert planned_rows(encode_plan_page(parts)) == rows_of(parts)


def test_a_file_s_name_that_is_no_unicode_can_be_planned():
    parts = [Part(0, (ImageRef("file:///data/\udcff.jpg", "", 1),))]  # as os.fsdecode spells the byte 0xFF

    page = decode_plan_page(encode_plan_page(parts))

    assert page.urls == [r"file:///data/\udcff.jpg"]


def test_a_plan_page_carries_no_label_since_labels_may_change():
    labelled = ImageRef("s3://bucket/n02106030-collie/1.jpg", "abc", 1, "n02106030")

    assert planned_rows(encode_plan_page([Part(0, (labelled,))])) == [(0, replace(labelled, label=None))]


def test_a_plan_page_s_columns_are_the_promised_ones():
    schema = read(encode_plan_page(parts_of([2]))).schema

    assert schema.names == ["image", "etag", "size_bytes", "part"]
    assert schema.types == [pa.string(), pa.string(), pa.int64(), pa.int32()]
    assert not any(field.nullable for field in schema)


# What of a stored part may stay


def planned(*outcomes: Outcome) -> list[ImageRef]:
    return [ImageRef(outcome.image, outcome.etag, outcome.size_bytes) for outcome in outcomes]


def test_a_part_that_is_what_the_plan_asks_for_stays_as_it_is():
    data = encode_outcomes([OK, FAILED], PRINT)

    found = split_part(data, planned(FAILED, OK), PRINT, retry_failed=False)

    assert (found.kept, found.missing, found.is_exact) == (data, (), True)


def test_rows_of_other_versions_other_images_and_second_rows_go():
    stale = replace(OK, image="s3://b/stale.jpg")
    data = encode_outcomes([OK, OK, stale, UNKNOWN], PRINT)
    now = [*planned(OK, FAILED), replace(planned(stale)[0], etag="newer")]

    found = split_part(data, now, PRINT, retry_failed=False)

    assert not found.is_exact
    assert found.missing == tuple(now[1:])
    assert read(found.kept).to_pylist() == [as_read(OK)]
    assert read(encode_outcomes([FAILED], PRINT, found.kept)).to_pylist() == [as_read(OK), as_read(FAILED)]


def test_failed_rows_go_when_they_are_to_be_tried_again():
    data = encode_outcomes([OK, FAILED], PRINT)

    found = split_part(data, planned(OK, FAILED), PRINT, retry_failed=True)

    assert (found.missing, found.is_exact) == (tuple(planned(FAILED)), False)
    assert read(found.kept).to_pylist() == [as_read(OK)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no Parquet",
        encode_outcomes([OK], PRINT)[:-20],
        encode_outcomes([OK], "b" * 64),
        encode_plan_page([Part(0, tuple(planned(OK)))]),
    ],
    ids=["empty", "foreign", "half", "other fingerprint", "other schema"],
)
def test_nothing_stays_of_what_is_no_part_of_this_run(data: bytes):
    found = split_part(data, planned(OK), PRINT, retry_failed=False)

    assert (found.kept, found.missing, found.is_exact) == (b"", tuple(planned(OK)), False)


# Counts


def outcome_of(
    status: str, correct: bool | None, correct_top5: bool, correct_breed: bool | None, reason: str
) -> Outcome:
    known = {"image": "s3://b/a.jpg", "etag": "", "size_bytes": 1, "wnid": None, "breed": None, "truth_index": None}
    if status == "failed":
        return Outcome(**known, status="failed", batch_id="b", stage=reason[0], reason=reason)
    top5_if_known = None if correct is None else correct or correct_top5
    return Outcome(
        **known,
        status="ok",
        batch_id="b",
        correct=correct,
        correct_top5=top5_if_known,
        correct_breed=None if correct is None else correct_breed,
    )


def counts_of(outcomes: list[Outcome]) -> Tally:
    return tally_of(encode_outcomes(outcomes, PRINT))


OUTCOMES = st.lists(
    st.builds(
        outcome_of,
        st.sampled_from(["ok", "ok", "failed"]),
        st.sampled_from([None, True, False]),
        st.booleans(),
        st.sampled_from([None, True, False]),
        st.sampled_from(["truncated image", "empty file", "access denied"]),
    ),
    max_size=15,
)


@given(OUTCOMES, OUTCOMES)
@settings(deadline=None)
def test_the_tallies_of_parts_add_up_to_that_of_the_whole(first: list[Outcome], second: list[Outcome]):
    total = counts_of(first)
    total.add(counts_of(second))
    assert total == counts_of(first + second)

    total.remove(counts_of(second))
    assert total == counts_of(first)


@given(OUTCOMES)
@settings(deadline=None)
def test_a_tally_counts_every_outcome_once_and_no_share_is_above_one(outcomes: list[Outcome]):
    counts = counts_of(outcomes)

    assert counts.n_images == len(outcomes)
    assert counts.n_ok == sum(outcome.status == "ok" for outcome in outcomes)
    assert counts.n_ok + counts.failures.total() == counts.n_images
    assert counts.n_failed == counts.failures.total()
    assert counts.n_correct <= counts.n_correct_top5 <= counts.n_truth <= counts.n_ok
    assert counts.n_correct_breed <= counts.n_breed_truth <= counts.n_truth


def test_a_tally_tells_what_was_right_what_was_wrong_and_why_the_rest_failed():
    right = outcome_of("ok", correct=True, correct_top5=True, correct_breed=True, reason="")
    near = outcome_of("ok", correct=False, correct_top5=True, correct_breed=False, reason="")
    no_breed = outcome_of("ok", correct=False, correct_top5=False, correct_breed=None, reason="")
    unknown = outcome_of("ok", correct=None, correct_top5=False, correct_breed=None, reason="")
    cut, empty = (outcome_of("failed", None, False, None, reason) for reason in ("truncated image", "empty file"))

    assert counts_of([right, near, no_breed, unknown, cut, empty, cut]) == Tally(
        n_images=7,
        n_ok=4,
        n_truth=3,
        n_correct=1,
        n_correct_top5=2,
        n_breed_truth=2,
        n_correct_breed=1,
        failures={("t", "truncated image"): 2, ("e", "empty file"): 1},
    )


def test_nothing_counts_as_nothing():
    assert counts_of([]) == Tally()
