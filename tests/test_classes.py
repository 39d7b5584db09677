"""Classes and labels: ImageNet's by their ids, one's own by their names, from paths and from tables."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.records import ImageBatch, ImageRef, Prediction
from pipeline.stages.category_file import read_categories
from pipeline.stages.classes import Classes, Truth
from pipeline.stages.label_table import read_label_table
from pipeline.stages.labels import breeds, wnid_of
from pipeline.stages.score import rescored, score

OWN = Classes(("cup", "plate", "fork", "7"))
SOURCE = "s3://shop/photos"

NAMES = st.sampled_from(
    ["n02085620", "n02085620-Chihuahua", "n00000000", "Images", "n02106030_7.jpg", "..", "", "x.jpg"]
)


@given(st.lists(NAMES, min_size=1, max_size=5), st.sampled_from(["s3://bucket/", "file:///", ""]))
def test_a_folder_that_is_asked_once_gives_each_image_the_label_that_its_own_path_tells(names, root):
    url, label_of = root + "/".join([*names, "photo.jpg"]), Classes().label_by_path()

    assert label_of(url) == wnid_of(url)
    assert label_of(url.replace("photo", "n02106030_8")) == wnid_of(url.replace("photo", "n02106030_8"))


def test_more_folders_than_are_remembered_have_their_labels_too():
    urls, label_of = (
        [f"s3://b/{i}/{breed.folder}/a.jpg" for i in range(3) for breed in breeds()],
        Classes().label_by_path(),
    )

    assert [label_of(url) for url in urls] == [breed.wnid for breed in breeds()] * 3


def test_imagenets_labels_are_ids():
    assert Classes().truth("n02106030") == Truth(231, "collie", "n02106030")
    assert Classes().truth("collie") is None
    assert Classes().truth(None) is None


def test_own_labels_are_names_and_the_nearest_folder_that_is_called_like_one_decides():
    label_of = OWN.label_by_path()

    assert OWN.truth("plate") == Truth(1, "plate", None)
    assert OWN.truth("n02106030") is None
    assert label_of("s3://shop/photos/cup/2024/a.jpg") == "cup"
    assert label_of("s3://shop/cup/fork/a.jpg") == "fork"
    assert label_of("s3://shop/photos/cups/a.jpg") is None
    assert label_of("s3://shop/photos/plate.jpg") is None


# Tables of labels


def csv_of(rows):
    sink = io.BytesIO()
    pa.csv.write_csv(pa.table({"image": [row[0] for row in rows], "class": [row[1] for row in rows]}), sink)
    return sink.getvalue()


def parquet_of(rows, kind=None):
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"image": [row[0] for row in rows], "class": pa.array([row[1] for row in rows], kind)}), sink
    )
    return sink.getvalue()


@pytest.mark.parametrize("written", [csv_of, parquet_of], ids=["csv", "parquet"])
def test_an_image_is_named_by_its_url_or_its_path_below_the_source(written):
    data = written([("a/1.jpg", "cup"), (f"{SOURCE}/a/2.jpg", "fork"), ("s3://other/3.jpg", "plate")])

    label_of = read_label_table(data, "l", SOURCE, OWN)

    assert label_of(f"{SOURCE}/a/1.jpg") == "cup"
    assert label_of(f"{SOURCE}/a/2.jpg") == "fork"
    assert label_of("s3://other/3.jpg") == "plate"
    assert label_of(f"{SOURCE}/a/4.jpg") is None


def test_a_class_is_named_or_numbered():
    given_ = [("1.jpg", "cup"), ("2.jpg", "1"), ("3.jpg", "7"), ("4.jpg", None)]

    label_of = read_label_table(parquet_of(given_), "l", SOURCE, OWN)

    assert [label_of(f"{SOURCE}/{i}.jpg") for i in (1, 2, 3, 4)] == ["cup", "plate", "7", None]
    numbered = read_label_table(parquet_of([("1.jpg", 2)], pa.int64()), "l", SOURCE, OWN)
    assert numbered(f"{SOURCE}/1.jpg") == "fork"


def test_imagenets_classes_are_named_by_id_name_or_number():
    given_ = [("1.jpg", "n02106030"), ("2.jpg", "collie"), ("3.jpg", "231"), ("4.jpg", "Border collie")]

    label_of = read_label_table(csv_of(given_), "l", SOURCE, Classes())

    assert [label_of(f"{SOURCE}/{i}.jpg") for i in (1, 2, 3, 4)] == ["n02106030"] * 3 + ["n02106166"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (csv_of([(f"{i}.jpg", f"spoon{i}") for i in range(7)]), r"called 'spoon0', .*'spoon4' and 2 more"),
        (csv_of([("1.jpg", "4")]), r"no class of the model's is called '4'"),
        (csv_of([("1.jpg", "cup"), ("1.jpg", "cup")]), r"more than one row for '1\.jpg'"),
        (b"path,label\n1.jpg,cup\n", r"no column 'image'; expected 'image' and 'class', found path, label"),
        (b"\x00\xff" * 40, r"--labels l: (neither a CSV|no column)"),
        (b"PAR1" + bytes(50), r"neither a CSV nor a Parquet table"),
        (b"", r"neither a CSV nor a Parquet table"),
    ],
)
def test_a_table_that_will_not_do_is_refused_in_one_line(data, words):
    with pytest.raises(UsageError, match=words) as caught:
        read_label_table(data, "l", SOURCE, OWN)

    assert "\n" not in str(caught.value)


# Categories


@pytest.mark.parametrize("data", [b"cup\nplate\n", b"\xef\xbb\xbfcup\r\nplate", b'["cup", "plate"]'])
def test_categories_are_lines_or_a_json_list(data):
    assert read_categories(data, "c") == ("cup", "plate")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected a name for each class"),
        (b"cup\n\nplate", "some empty"),
        (b"cup\nplate\ncup\n", "named twice: 'cup'"),
        (b'["cup", 3]', "expected a JSON list of names"),
        (b'["cup"', "expected a name in each line, or a JSON list"),
        (b"\xff\xfe", "expected a name in each line, or a JSON list"),
    ],
)
def test_categories_that_will_not_do_are_refused(data, words):
    with pytest.raises(UsageError, match=words):
        read_categories(data, "c")


# Scores


def answer(*top5):
    n = len(top5)
    return Prediction(
        np.array([top5], np.int32),
        np.linspace(0.5, 0.1, n, dtype=np.float32)[None],
        np.array([-1]),
        np.zeros(1, np.float32),
    )


def test_own_classes_are_scored_by_name_and_have_no_breeds():
    batch = ImageBatch((ImageRef("a.jpg", "e", 1, "plate"),), np.zeros((1, 3, 8, 8), np.uint8), ((8, 8),))

    (outcome,) = score(batch, answer(0, 1, 3), "b", OWN)

    assert (outcome.category, outcome.breed, outcome.truth_index, outcome.wnid) == ("cup", "plate", 1, None)
    assert (outcome.correct, outcome.correct_top5, outcome.correct_breed) == (False, True, None)
    assert (outcome.breed_class_index, outcome.breed_probability) == (None, None)
    assert outcome.top5_index == (0, 1, 3)


def test_another_label_changes_what_an_answer_is_worth_and_nothing_else():
    batch = ImageBatch((ImageRef("a.jpg", "e", 1, "plate"),), np.zeros((1, 3, 8, 8), np.uint8), ((8, 8),))
    (outcome,) = score(batch, answer(0, 1, 3), "b", OWN)
    (right,) = score(
        ImageBatch((ImageRef("a.jpg", "e", 1, "cup"),), batch.pixels, batch.sizes), answer(0, 1, 3), "b", OWN
    )

    assert rescored(outcome, "cup", OWN) == right
    assert rescored(right, "plate", OWN) == outcome
    assert rescored(outcome, None, OWN).correct is None
