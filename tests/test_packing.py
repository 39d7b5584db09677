"""Images as they travel: nobody between the client and the task opens them, and what comes out is what went in."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.packing import PackedRefs
from pipeline.records import ImageRef

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
