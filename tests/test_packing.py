"""Images as they travel: nobody between the client and the task opens them, and what comes out is what went in."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.packing import PackedRefs
from pipeline.engine.stored_plan import label_of
from pipeline.records import ImageRef
from pipeline.stages.labels import breeds, wnid_of

WNIDS = st.sampled_from([None, "n02085620", "n02106030"])
REFS = st.lists(st.builds(ImageRef, st.text(), st.text(), st.integers(-1, 2**62), WNIDS), max_size=6)


def travelled(refs: PackedRefs) -> PackedRefs:
    return pickle.loads(pickle.dumps(refs))  # noqa: S301  our own bytes


@given(REFS)
def test_images_come_out_of_their_travels_as_they_went_in(refs: list[ImageRef]):
    arrived = travelled(PackedRefs.pack(refs))

    assert list(arrived) == refs
    assert len(arrived) == len(refs)
    assert [arrived[i] for i in range(len(refs))] == refs


def test_a_scheduler_passes_images_on_without_making_a_record_of_any(monkeypatch: pytest.MonkeyPatch):
    sent = PackedRefs.pack([ImageRef("s3://b/a.jpg", "abc", 1)])
    made = []
    monkeypatch.setattr("pipeline.engine.packing.ImageRef", lambda *fields: made.append(fields))

    passed_on = travelled(travelled(sent))

    assert made == []
    assert len(passed_on) == len(made) == 1


def test_packed_images_take_fewer_bytes_than_as_many_records():
    refs = [ImageRef(f"s3://bucket/Images/n02085620-Chihuahua/{i:06d}.jpg", f"{i:032x}", i) for i in range(80)]

    assert len(pickle.dumps(PackedRefs.pack(refs))) < len(pickle.dumps(refs))


NAMES = st.sampled_from(
    ["n02085620", "n02085620-Chihuahua", "n00000000", "Images", "n02106030_7.jpg", "..", "", "x.jpg"]
)


@given(st.lists(NAMES, min_size=1, max_size=5), st.sampled_from(["s3://bucket/", "file:///", ""]))
def test_a_folder_that_is_asked_once_gives_each_image_the_label_that_its_own_path_tells(names: list[str], root: str):
    url = root + "/".join([*names, "photo.jpg"])

    assert label_of(url) == wnid_of(url)
    assert label_of(url.replace("photo", "n02106030_8")) == wnid_of(url.replace("photo", "n02106030_8"))


def test_more_folders_than_are_remembered_have_their_labels_too():
    urls = [f"s3://b/{round_}/{breed.folder}/a.jpg" for round_ in range(3) for breed in breeds()]

    assert [label_of(url) for url in urls] == [breed.wnid for breed in breeds()] * 3
