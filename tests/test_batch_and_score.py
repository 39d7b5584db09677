"""From samples to a stack, from the model's answers to outcomes: nobody gets a neighbour's answer, nobody is lost."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.records import ImageBatch, ImageFailure, ImageRef, Outcome, Prediction, Sample
from pipeline.stages.batch import reformat
from pipeline.stages.classes import Classes
from pipeline.stages.labels import breed_class_indices, breeds, categories
from pipeline.stages.model import top5
from pipeline.stages.score import score

A, B, C = (ImageRef(f"s3://bucket/{name}.jpg", name, 1) for name in "abc")

CHIHUAHUA, COLLIE, TENCH = ("n02085620", 151), ("n02106030", 231), ("n01440764", 0)
BREEDS = torch.tensor(breed_class_indices())


def sample(ref: ImageRef, value: int = 0, size: tuple[int, int] = (500, 375)) -> Sample:
    return Sample(ref, np.full((3, 8, 8), value, np.uint8), *size)


# reformat


def test_one_broken_image_does_not_cost_its_neighbours():
    batch = reformat([sample(A), ImageFailure(B, "decode", "truncated"), sample(C)])

    assert batch.refs == (A, C)
    assert [failure.ref for failure in batch.failures] == [B]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 255), st.integers(1, 9999)), max_size=12))
def test_order_pixels_sizes_and_failures_are_those_of_the_images(images: list[tuple[bool, int, int]]):
    refs = [ImageRef(f"s3://bucket/{number}.jpg", "", 1) for number in range(len(images))]
    samples = [
        sample(ref, value, (width, width + 1)) if is_good else ImageFailure(ref, "decode", str(value))
        for ref, (is_good, value, width) in zip(refs, images, strict=True)
    ]

    batch = reformat(iter(samples))

    good = [(ref, value, width) for ref, (is_good, value, width) in zip(refs, images, strict=True) if is_good]
    assert batch.refs == tuple(ref for ref, *_ in good)
    assert batch.sizes == tuple((width, width + 1) for *_, width in good)
    assert [pixels.max() for pixels in batch.pixels] == [pixels.min() for pixels in batch.pixels]
    assert [pixels.max() for pixels in batch.pixels] == [value for _, value, _ in good]
    assert batch.failures == tuple(item for item in samples if isinstance(item, ImageFailure))


def assert_channels_last(pixels: NDArray[np.uint8]) -> None:
    assert torch.from_numpy(pixels).is_contiguous(memory_format=torch.channels_last)


def test_the_stack_is_uint8_with_channels_last_in_memory_and_may_be_written_to():
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3).transpose(2, 0, 1)  # as Pillow lays them out

    batch = reformat([Sample(A, pixels, 6, 8), Sample(B, pixels + 1, 6, 8)])

    assert batch.pixels.shape == (2, 3, 8, 6)
    assert batch.pixels.dtype == np.uint8
    assert (batch.pixels == np.stack([pixels, pixels + 1])).all()
    assert_channels_last(batch.pixels)
    assert batch.pixels.flags.writeable  # torch warns of arrays that are not


def test_the_stack_has_channels_last_in_memory_whatever_the_samples_have():
    pixels = np.zeros((3, 8, 6), np.uint8)

    assert_channels_last(reformat([Sample(A, pixels, 6, 8), Sample(B, pixels, 6, 8)]).pixels)


def test_the_stack_shares_no_memory_with_its_samples():
    pixels = np.zeros((3, 8, 8), np.uint8)
    batch = reformat([Sample(A, pixels, 8, 8)])

    pixels[:] = 9

    assert not batch.pixels.any()


@pytest.mark.parametrize("failures", [[], [ImageFailure(A, "read", "access denied")]], ids=["none", "all failed"])
def test_a_batch_may_be_empty(failures: list[ImageFailure]):
    batch = reformat(failures)

    assert (batch.refs, batch.sizes, batch.failures) == ((), (), tuple(failures))
    assert batch.pixels.dtype == np.uint8
    assert batch.pixels.shape[:2] == (0, 3)


# top5


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def random_logits(n: int, scale: float, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, (n, 1000)).astype(np.float32)


@given(n=st.integers(1, 6), scale=st.floats(0.01, 50), seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_every_row_has_the_five_best_of_its_own_softmax_most_probable_first(n: int, scale: float, seed: int):
    logits = random_logits(n, scale, seed)
    truth = softmax(logits.astype(np.float64))

    answer = top5(torch.from_numpy(logits), BREEDS)

    own = np.take_along_axis(truth, answer.class_index.astype(int), axis=1)
    assert answer.probability == pytest.approx(own, rel=1e-4, abs=1e-9)
    assert own == pytest.approx(np.sort(truth, axis=1)[:, :-6:-1], rel=1e-6)
    assert (np.diff(answer.probability, axis=1) <= 0).all()
    assert all(len(set(row)) == 5 for row in answer.class_index.tolist())


@given(n=st.integers(1, 6), scale=st.floats(0.01, 50), seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_every_row_has_the_best_of_the_120_breeds_by_a_softmax_over_them_alone(n: int, scale: float, seed: int):
    logits = random_logits(n, scale, seed)
    among_breeds = softmax(logits[:, breed_class_indices()].astype(np.float64))

    answer = top5(torch.from_numpy(logits), BREEDS)

    assert answer.breed_class_index.tolist() == [breed_class_indices()[best] for best in among_breeds.argmax(axis=1)]
    assert answer.breed_probability == pytest.approx(among_breeds.max(axis=1), rel=1e-4)


@given(st.permutations(range(5)), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_answers_follow_the_images_wherever_they_stand_in_a_batch(order: list[int], seed: int):
    logits = torch.from_numpy(random_logits(5, 3.0, seed))

    straight, shuffled = top5(logits, BREEDS), top5(logits[order], BREEDS)

    for name in Prediction.__slots__:
        assert (getattr(shuffled, name) == getattr(straight, name)[order]).all()


def test_the_answers_are_arrays_in_host_memory_of_the_promised_types():
    answer = top5(torch.zeros(2, 1000, dtype=torch.float32), BREEDS)

    assert {name: (getattr(answer, name).shape, str(getattr(answer, name).dtype)) for name in Prediction.__slots__} == {
        "class_index": ((2, 5), "int32"),
        "probability": ((2, 5), "float32"),
        "breed_class_index": ((2,), "int32"),
        "breed_probability": ((2,), "float32"),
    }


# score


def batch_of(*refs: ImageRef, failures: Sequence[ImageFailure] = ()) -> ImageBatch:
    return reformat([sample(ref, 0, (100 + row, 200 + row)) for row, ref in enumerate(refs)] + list(failures))


IMAGENET = Classes()


def of_class(ref: ImageRef, wnid: str | None) -> ImageRef:
    return ImageRef(ref.url, ref.etag, ref.size_bytes, wnid)


def answers(*rows: tuple[int, ...], breed: int = 231) -> Prediction:
    """Return an answer whose rows have these five classes, with probabilities that tell the rows apart."""
    share = np.array([[0.5, 0.2, 0.1, 0.05, 0.01]], np.float32) + np.arange(len(rows), dtype=np.float32)[:, None] / 100
    breeds_of_rows = np.full(len(rows), breed, np.int32)
    return Prediction(np.array(rows, np.int32), share, breeds_of_rows, np.full(len(rows), 0.75, np.float32))


def test_a_right_answer_is_correct_first_among_five_and_among_breeds():
    (outcome,) = score(batch_of(of_class(A, COLLIE[0])), answers((231, 1, 2, 3, 4)), "000003-07", IMAGENET)

    assert outcome == Outcome(
        image=A.url,
        etag=A.etag,
        size_bytes=A.size_bytes,
        wnid="n02106030",
        breed="collie",
        truth_index=231,
        status="ok",
        batch_id="000003-07",
        class_index=231,
        category="collie",
        probability=0.5,
        top5_index=(231, 1, 2, 3, 4),
        top5_probability=tuple(np.float32([0.5, 0.2, 0.1, 0.05, 0.01]).tolist()),
        correct=True,
        correct_top5=True,
        breed_class_index=231,
        breed_probability=0.75,
        correct_breed=True,
        width=100,
        height=200,
    )


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (COLLIE, (True, True, False)),
        (CHIHUAHUA, (False, True, True)),
        (TENCH, (False, False, None)),
        ((None, None), (None, None, None)),
    ],
    ids=["first", "among five", "no breed", "unknown"],
)
def test_an_answer_is_held_against_the_truth_where_there_is_one(
    truth: tuple[str | None, int | None], expected: tuple[bool | None, ...]
):
    wnid, index = truth
    (outcome,) = score(batch_of(of_class(A, wnid)), answers((231, 151, 2, 3, 4), breed=151), "b", IMAGENET)

    assert outcome.truth_index == index
    assert (outcome.correct, outcome.correct_top5, outcome.correct_breed) == expected


def test_an_image_without_a_truth_is_classified_all_the_same():
    (outcome,) = score(batch_of(A), answers((0, 1, 2, 3, 4)), "b", IMAGENET)

    assert (outcome.status, outcome.class_index, outcome.category) == ("ok", 0, "tench")
    assert (outcome.wnid, outcome.breed, outcome.truth_index) == (None, None, None)


def test_a_failed_image_has_its_reason_and_truth_and_no_answer():
    failure = ImageFailure(of_class(B, COLLIE[0]), "read", "access denied")
    nothing = Prediction(*(np.empty(shape) for shape in ((0, 5), (0, 5), 0, 0)))

    assert score(batch_of(failures=[failure]), nothing, "b", IMAGENET) == [
        Outcome(
            image=B.url,
            etag=B.etag,
            size_bytes=B.size_bytes,
            wnid="n02106030",
            breed="collie",
            truth_index=231,
            status="failed",
            batch_id="b",
            stage="read",
            reason="access denied",
        )
    ]


@given(n=st.integers(0, 6), n_failed=st.integers(0, 4), seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_every_planned_image_has_one_outcome_with_its_own_row_of_the_answer(n: int, n_failed: int, seed: int):
    rng = np.random.default_rng(seed)
    truths = [breeds()[position] for position in rng.integers(0, 120, n)]
    refs = [ImageRef(f"s3://bucket/{row}.jpg", f"{row}", row, breed.wnid) for row, breed in enumerate(truths)]
    failures = [ImageFailure(ImageRef(f"s3://bucket/x{row}.jpg", "", 1), "decode", "cut") for row in range(n_failed)]
    logits = random_logits(n, 2.0, seed)
    probability = softmax(logits.astype(np.float64)) if n else logits
    among_breeds = logits[:, breed_class_indices()]

    outcomes = score(batch_of(*refs, failures=failures), top5(torch.from_numpy(logits), BREEDS), "b", IMAGENET)

    assert [outcome.image for outcome in outcomes] == [ref.url for ref in refs] + [item.ref.url for item in failures]
    for row, (outcome, truth) in enumerate(zip(outcomes, truths, strict=False)):
        best = int(logits[row].argmax())
        assert (outcome.class_index, outcome.category) == (best, categories()[best])
        assert outcome.probability == pytest.approx(probability[row, best], rel=1e-4)
        assert outcome.top5_probability == pytest.approx(probability[row, list(outcome.top5_index)], rel=1e-4)
        assert outcome.correct == (best == truth.class_index)
        assert outcome.correct_top5 == (truth.class_index in np.argsort(logits[row])[-5:])
        assert outcome.breed_class_index == breed_class_indices()[among_breeds[row].argmax()]
        assert outcome.breed_probability == pytest.approx(softmax(among_breeds)[row].max(), rel=1e-4)
        assert outcome.correct_breed == (outcome.breed_class_index == truth.class_index)
        assert (outcome.width, outcome.height) == (100 + row, 200 + row)


def test_outcomes_hold_plain_numbers_that_any_writer_takes():
    (outcome,) = score(batch_of(of_class(A, COLLIE[0])), answers((231, 1, 2, 3, 4)), "b", IMAGENET)

    assert type(outcome.class_index) is type(outcome.breed_class_index) is int
    assert type(outcome.probability) is type(outcome.breed_probability) is float
    assert {type(value) for value in outcome.top5_index + outcome.top5_probability} == {int, float}
    assert type(outcome.correct) is type(outcome.correct_breed) is bool
