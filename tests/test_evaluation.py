"""Metrics: scikit-learn's on random tables, right on small ones whose answer is known, sensible on empty ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics
from sklearn.calibration import calibration_curve

from pipeline.evaluation import evaluate
from pipeline.evaluation.answers import answers_of
from pipeline.evaluation.calibration import calibration, coverage
from pipeline.evaluation.confusion import confusion_matrix, most_confused
from pipeline.evaluation.notable import confident_mistakes, failure_groups, oddities
from pipeline.evaluation.per_class import balanced_accuracy, class_scores
from tests.tables import answered, failed, outcomes_of, random_outcomes

CLASSES = st.integers(0, 12)
CHIHUAHUA, SPANIEL, BEAGLE = 151, 152, 162


@st.composite
def truths_and_answers(draw, least=1):
    n = draw(st.integers(least, 60))
    return tuple(draw(arrays(np.int64, n, elements=CLASSES)) for _ in range(2))


@st.composite
def confidences(draw):
    n = draw(st.integers(1, 60))
    shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1 / 15, 0.2, 0.5, 1.0]))
    return draw(arrays(np.float64, n, elements=shares)), draw(arrays(np.bool_, n))


def or_nan(value):
    return np.nan if value is None else value


# Equal to scikit-learn's


@given(truths_and_answers())
def test_scores_of_classes_equal_those_of_scikit_learn(pair):
    truth, answer = pair

    scores = class_scores(truth, answer)

    labels = [score.class_index for score in scores]
    assert labels == sorted(set(truth) | set(answer))
    expected = metrics.precision_recall_fscore_support(truth, answer, labels=labels, zero_division=np.nan)
    ours = np.array(
        [[or_nan(score.precision.value), or_nan(score.recall.value), score.f1, score.n] for score in scores]
    )
    np.testing.assert_allclose(ours, np.array(expected).T, rtol=0, atol=1e-9)


@given(truths_and_answers())
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_balanced_accuracy_equals_that_of_scikit_learn(pair):
    truth, answer = pair

    expected = metrics.balanced_accuracy_score(truth, answer)

    assert balanced_accuracy(class_scores(truth, answer)) == pytest.approx(expected, abs=1e-9)


@given(truths_and_answers())
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_the_confusion_matrix_equals_that_of_scikit_learn(pair):
    truth, answer = pair

    matrix = confusion_matrix(truth, answer)

    assert list(matrix.classes) == sorted(set(truth) | set(answer))
    np.testing.assert_array_equal(matrix.counts, metrics.confusion_matrix(truth, answer))


@given(confidences(), st.integers(1, 20))
def test_the_reliability_diagram_equals_that_of_scikit_learn(pair, n_bins):
    confidence, is_correct = pair

    bins = [found for found in calibration(confidence, is_correct, n_bins).bins if found.accuracy.n]

    accuracy, mean_confidence = calibration_curve(is_correct, confidence, n_bins=n_bins)
    np.testing.assert_allclose([found.accuracy.value for found in bins], accuracy, rtol=0, atol=1e-9)
    np.testing.assert_allclose([found.mean_confidence for found in bins], mean_confidence, rtol=0, atol=1e-9)


@given(confidences())
def test_coverage_and_accuracy_equal_recall_and_precision_of_being_right(pair):
    """scikit-learn's precision at a threshold, for the label "the answer is right", is the accuracy of what is kept."""
    confidence, is_correct = pair
    is_correct[0] = True

    kept = coverage(confidence, is_correct)

    precision, _, thresholds = metrics.precision_recall_curve(is_correct, confidence)
    np.testing.assert_allclose(kept.threshold, thresholds, rtol=0, atol=1e-9)
    np.testing.assert_allclose(kept.accuracy, precision[:-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(kept.coverage, [(confidence >= at).mean() for at in thresholds], rtol=0, atol=1e-9)


def test_a_whole_table_gives_what_scikit_learn_gives():
    outcomes = random_outcomes(5000, seed=3)
    known = outcomes.to_pandas().dropna(subset=["correct"])

    evaluation = evaluate(outcomes)

    assert evaluation.top1.value == pytest.approx(
        metrics.accuracy_score(known.truth_index, known.class_index), abs=1e-9
    )
    assert evaluation.top5.value == pytest.approx(known.correct_top5.astype(bool).mean(), abs=1e-9)
    breed = metrics.accuracy_score(known.truth_index, known.breed_class_index)
    assert evaluation.breed.value == pytest.approx(breed, abs=1e-9)
    assert evaluation.n_failed == (outcomes.to_pandas().status == "failed").sum()
    assert evaluation.is_among_breeds
    assert len(evaluation.scores) == 120


# Right on tables whose answer is known


def test_a_small_table_by_hand():
    rows = [
        answered(0, 0, 0.9),
        answered(0, 1, 0.6),
        answered(1, 1, 0.8),
        answered(None, 1),
        failed(),
        failed("read", "gone"),
    ]

    evaluation = evaluate(outcomes_of([*rows, failed()]))

    assert (evaluation.n_images, evaluation.n_ok, evaluation.n_failed) == (7, 4, 3)
    assert str(evaluation.top1).startswith("66.7%")
    assert [(group.stage, group.reason, group.n) for group in evaluation.failures] == [
        ("decode", "truncated image", 2),
        ("read", "gone", 1),
    ]
    tench, goldfish = evaluation.scores
    assert (tench.recall.value, tench.precision.value, tench.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (goldfish.recall.value, goldfish.precision.value) == (1.0, 0.5)
    assert evaluation.balanced_accuracy == 0.75
    assert evaluation.names == {0: "tench", 1: "goldfish"}
    assert not evaluation.is_among_breeds


def test_expected_calibration_error_by_hand():
    """Ten answers at 0.95, of which eight are right, and ten at 0.55, of which five are: 0.5 * 0.15 + 0.5 * 0.05."""
    confidence = np.repeat([0.95, 0.55], 10)
    is_correct = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)

    found = calibration(confidence, is_correct, n_bins=10)

    assert found.expected_error == pytest.approx(0.10)
    assert found.mean_confidence == pytest.approx(0.75)


def test_the_most_confused_come_first_and_ties_by_class():
    truth, answer = np.array([5, 5, 5, 5, 7, 7, 9]), np.array([7, 7, 9, 5, 5, 9, 9])

    pairs = most_confused(confusion_matrix(truth, answer), 3)

    assert [(pair.truth, pair.answer, pair.n, pair.n_truth) for pair in pairs] == [
        (5, 7, 2, 4),
        (5, 9, 1, 4),
        (7, 5, 1, 2),
    ]


def test_a_threshold_for_a_wanted_accuracy_keeps_as_many_as_it_can():
    kept = coverage(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, True, False, True]))

    assert kept.threshold_for(0.75) == 0.6
    assert kept.threshold_for(0.76) == 0.9
    assert coverage(np.array([0.5]), np.array([False])).threshold_for(0.1) is None


def test_the_most_confident_mistakes_come_first():
    rows = [answered(0, 1, 0.5), answered(0, 0, 0.99), failed(), answered(1, 0, 0.7), answered(None, 3, 0.95)]

    assert confident_mistakes(answers_of(outcomes_of(rows)), 5) == [3, 0]
    assert confident_mistakes(answers_of(outcomes_of(rows)), 1) == [3]


def test_among_breeds_the_answer_is_the_best_breed():
    row = answered(CHIHUAHUA, 0, 0.5) | {
        "breed_class_index": CHIHUAHUA,
        "correct_breed": True,
        "breed_probability": 0.8,
    }
    other = answered(BEAGLE, BEAGLE) | {"breed_class_index": SPANIEL, "correct_breed": False, "breed_probability": 0.4}

    evaluation = evaluate(outcomes_of([row, other]))

    assert (evaluation.top1.n_hits, evaluation.breed.n_hits) == (1, 1)
    assert [score.class_index for score in evaluation.scores] == [CHIHUAHUA, SPANIEL, BEAGLE]
    assert evaluation.names[SPANIEL] == "Japanese spaniel"


def test_oddities_are_small_long_or_repeated():
    rows = [
        answered(0, 0, etag="same", width=100, height=300),
        answered(0, 0, etag="a", width=50, height=60),
        answered(0, 0, etag="same", width=1000, height=250),
        answered(0, 0, etag="b", width=999, height=250),
        failed(etag="same"),
    ]

    found = oddities(outcomes_of(rows), crop_size=224, n=10)

    assert found.small == [1, 0]
    assert found.long == [2]
    assert found.repeated == [[0, 2, 4]]
    assert oddities(outcomes_of(rows), crop_size=224, n=1).small == [1]


# Sensible where there is little


@pytest.mark.parametrize(
    "rows", [[], [failed(), failed("read", "gone")], [answered(None, 1)]], ids=["none", "failed", "untold"]
)
def test_without_a_known_truth_nothing_is_divided_by_zero(rows):
    evaluation = evaluate(outcomes_of(rows))

    assert evaluation.top1.value is None
    assert evaluation.balanced_accuracy is None
    assert evaluation.calibration.expected_error is None
    assert evaluation.scores == ()
    assert evaluation.coverage.threshold_for(0.5) is None
    assert "unknown: no image with a known truth was classified" in str(evaluation)
    assert len(failure_groups(outcomes_of(rows))) == len({row.get("reason") for row in rows} - {None})


def test_a_single_class_has_scores():
    evaluation = evaluate(outcomes_of([answered(5, 5), answered(5, 5)]))

    (score,) = evaluation.scores
    assert (score.recall.value, score.precision.value, score.f1) == (1.0, 1.0, 1.0)
    assert most_confused(evaluation.confusion, 5) == []


def test_an_evaluation_prints_what_a_person_wants_to_know():
    text = str(evaluate(outcomes_of([answered(0, 0), answered(0, 1), failed()])))

    assert text.splitlines()[0] == "images       3: 2 ok, 1 failed"
    assert "top-1        50.0%" in text
    assert "failed       1 in decode: truncated image" in text
