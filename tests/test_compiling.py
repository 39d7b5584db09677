"""Compiling the model: decided by the images that are left and by what it gained here, and never in the way."""

import logging
from dataclasses import replace

import pytest
import torch

from pipeline.records import ImageRef
from pipeline.stages import compiling
from pipeline.stages.compiling import (
    UNMEASURED_BREAK_EVEN,
    Worth,
    break_even,
    decide,
    form_key,
    form_of,
    known_worth,
)
from pipeline.stages.model import load
from pipeline.stages.model.load import compile_if_possible
from pipeline.stages.peek import Peekable
from pipeline.stages.user_cache import remember, user_cache
from tests.test_device_batches import SIDE, SPEC, Quick, classifier_of

OTHER = replace(SPEC, transform=replace(SPEC.transform, crop_size=SIDE + 1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    return user_cache()


@pytest.mark.parametrize(
    ("asked", "kind", "n_images", "pays_from", "is_compiled", "why"),
    [
        ("on", "cpu", 1, 5000, True, "--compile on"),
        ("off", "cpu", 10**6, 5000, False, "--compile off"),
        ("auto", "cpu", 5000, 5000, True, "images enough for each worker; it pays from 5,000"),
        ("auto", "cpu", 4999, 5000, False, "4,999 images for each worker; it pays from 5,000"),
        ("auto", "cpu", None, 5000, False, "how many images are left is not known; it pays from 5,000 for each worker"),
        ("auto", "cpu", 10**6, float("inf"), False, "measured here before: it is not faster"),
        ("auto", "cuda", 10**6, 5000, False, "what it gains on these workers was not measured"),
        ("auto", "tcp://10.0.0.7:8786", 10**6, 5000, False, "what it gains on these workers was not measured"),
        ("on", "tcp://10.0.0.7:8786", None, 5000, True, "--compile on"),
    ],
)
def test_what_is_decided_and_why(asked, kind, n_images, pays_from, is_compiled, why):
    assert decide(asked, kind, n_images, pays_from) == (is_compiled, why)


def test_only_a_form_that_was_asked_for_is_an_error_where_it_cannot_be_had():
    assert form_of("on", 80, is_compiled=True).must_compile
    assert not form_of("auto", 80, is_compiled=True).must_compile


def test_where_nothing_was_measured_it_pays_from_a_round_number_of_images():
    assert break_even("never compiled") == UNMEASURED_BREAK_EVEN


def test_what_was_measured_here_decides_and_what_is_compiled_already_pays_sooner(cache):
    Worth(40, 13, 16.5).keep("measured")
    Worth(40, 13, 12.9).keep("slower")
    cold = break_even("measured")
    (cache / "compiled" / "measured").mkdir(parents=True)

    assert round(cold) == 2451
    assert break_even("measured") == pytest.approx(cold * compiling.OPEN_S / 40)
    assert break_even("slower") == float("inf")


@pytest.mark.parametrize("damage", [None, {}, {"compile_s": 1}, [1], {"compile_s": "a", "x": 1}])
def test_a_damaged_memory_is_as_good_as_none(damage):
    remember("compiled", {"key": damage})

    assert known_worth("key") is None
    assert break_even("key") == UNMEASURED_BREAK_EVEN


def test_whatever_decides_the_compiled_form_is_in_its_name(monkeypatch):
    keys = {
        form_key(SPEC, 2),
        form_key(SPEC, 4),
        form_key(replace(SPEC, precision="bf16"), 2),
        form_key(replace(SPEC, weights_sha256="other"), 2),
        form_key(OTHER, 2),
    }
    monkeypatch.setattr(compiling, "version", lambda _: "another torch")

    assert len(keys | {form_key(SPEC, 2)}) == 6
    assert form_key(SPEC, 2) == form_key(SPEC, 2)


# The listing


def test_what_was_seen_by_looking_ahead_is_not_listed_again():
    listed = []

    def listing():
        for i in range(10):
            listed.append(i)
            yield ImageRef(f"a/{i}", "etag", 1)

    images = Peekable(listing)

    assert images.at_least(4) == 4
    assert listed == [0, 1, 2, 3]
    assert [ref.url for ref in images()] == [f"a/{i}" for i in range(10)]
    assert len(listed) == 10
    assert len(list(images())) == 10
    assert len(listed) == 20


def test_looking_ahead_twice_goes_on_where_the_first_look_stopped():
    listed = []

    def listing():
        for i in range(10):
            listed.append(i)
            yield ImageRef(f"a/{i}", "etag", 1)

    images = Peekable(listing)

    assert [ref.url for ref in images.first(3)] == ["a/0", "a/1", "a/2"]
    assert images.at_least(5) == 5
    assert [ref.url for ref in images.first(2)] == ["a/0", "a/1"]
    assert listed == [0, 1, 2, 3, 4]
    assert [ref.url for ref in images()] == [f"a/{i}" for i in range(10)]


def test_fewer_images_than_were_asked_for_are_counted():
    images = Peekable(lambda: [ImageRef("a", "etag", 1)])

    assert images.at_least(5000) == 1
    assert len(list(images())) == 1


# The form that is used


def test_a_model_that_cannot_be_compiled_runs_as_it_is_unless_compiling_was_asked_for(monkeypatch, caplog):
    def no_compiler(*_):
        raise FileNotFoundError("no C++ compiler")

    monkeypatch.setattr(load, "compiled_for_cpu", no_compiler)
    caplog.set_level(logging.WARNING, "pipeline")
    classifier = classifier_of(Quick())

    compile_if_possible(classifier, SPEC, must_compile=False)
    with pytest.raises(RuntimeError, match=r"--compile on: the model cannot be compiled here \(FileNotFoundError"):
        compile_if_possible(classifier, SPEC, must_compile=True)

    assert classifier.faster is None
    assert [record.getMessage() for record in caplog.records] == [
        "the model is not compiled, which costs speed only: FileNotFoundError: no C++ compiler"
    ]


def test_a_compiled_form_that_is_slower_is_not_used(monkeypatch):
    monkeypatch.setattr(load, "compiled_for_cpu", lambda program, *_: program)
    Worth(40, 13, 12.9).keep(form_key(SPEC, torch.get_num_threads()))
    classifier = classifier_of(Quick())

    compile_if_possible(classifier, SPEC, must_compile=False)

    assert classifier.faster is None
