"""Two runs on the same images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.evaluation.comparison import Paired, compare, only_one_right
from tests.tables import answered, failed, outcomes_of, random_outcomes

COUNTS = st.integers(0, 300)


@given(COUNTS, COUNTS)
def test_mcnemars_test_is_the_binomial_test_on_the_images_that_only_one_has_right(n_only_a, n_only_b):
    n = n_only_a + n_only_b
    expected = binomtest(n_only_a, n, 0.5).pvalue if n else 1.0

    assert Paired(3, n_only_a, n_only_b, 4).p_value == pytest.approx(expected, abs=1e-9)


def test_mcnemars_test_holds_for_millions():
    assert Paired(0, 500_000, 500_500, 0).p_value == pytest.approx(binomtest(500_000, 1_000_500, 0.5).pvalue, rel=1e-6)
    assert Paired(0, 500_000, 600_000, 0).p_value == 0.0


def test_the_interval_of_the_difference_is_newcombes():
    """An example of Newcombe 1998, method 10; his difference is the first less the second."""
    low, high = Paired(n_both=36, n_only_a=12, n_only_b=2, n_none=0).interval

    assert (-high, -low) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize("cells", [(0.7, 0.15, 0.05, 0.1), (0.9, 0.02, 0.02, 0.06), (0.2, 0.2, 0.2, 0.4)])
@pytest.mark.parametrize("n", [100, 1000])
def test_the_interval_holds_the_true_difference_19_times_of_20(cells, n):
    _, only_a, only_b, _ = cells
    drawn = np.random.default_rng(1).multinomial(n, cells, size=4000).tolist()

    intervals = [Paired(*counts).interval for counts in drawn]

    held = np.mean([low <= only_b - only_a <= high for low, high in intervals])
    assert 0.935 < held < 0.985


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_interval_holds_the_difference_and_turns_with_it(both, only_a, only_b, none):
    paired, turned = Paired(both, only_a, only_b, none), Paired(both, only_b, only_a, none)
    if not paired.n:
        assert paired.difference is None
        return

    low, high = paired.interval

    assert -1 - 1e-9 <= low <= paired.difference + 1e-9
    assert paired.difference - 1e-9 <= high <= 1 + 1e-9
    assert turned.interval == pytest.approx((-high, -low), abs=1e-9)


def test_only_images_of_both_at_one_version_are_compared():
    a = outcomes_of(
        [answered(0, 0), answered(0, 1), answered(1, 1, etag="old"), failed(), answered(2, 2), answered(3, 3)]
    )
    b = outcomes_of([answered(0, 0), answered(0, 0), answered(1, 1, etag="new"), answered(1, 1), failed()])

    comparison = compare(a, b)

    assert (comparison.a.n_images, comparison.b.n_images, comparison.n_common) == (6, 5, 4)
    assert (comparison.a.n_failed_alone, comparison.b.n_failed_alone) == (1, 1)
    assert comparison.paired == Paired(n_both=1, n_only_a=0, n_only_b=1, n_none=0)
    assert (comparison.agreement.n_hits, comparison.agreement.n) == (1, 2)
    assert comparison.names[1] == "goldfish"


def test_the_order_of_rows_does_not_matter():
    outcomes = random_outcomes(500)
    turned = outcomes.take(np.random.default_rng(1).permutation(500))

    comparison = compare(outcomes, turned)

    assert comparison.agreement.value == 1.0
    assert comparison.n_common == 500
    np.testing.assert_array_equal(turned["image"].take(comparison.b.rows), outcomes["image"].take(comparison.a.rows))


def test_who_is_right_where_the_other_is_wrong():
    a = outcomes_of([answered(0, 0, 0.9), answered(0, 0, 0.9), answered(1, 0, 0.7), answered(1, 1, 0.9)])
    b = outcomes_of([answered(0, 1, 0.6), answered(0, 1, 0.8), answered(1, 1, 0.9), answered(1, 1, 0.9)])

    comparison = compare(a, b)

    assert only_one_right(comparison, 5) == ([1, 0], [2])
    assert comparison.by_class == {0: Paired(0, 2, 0, 0), 1: Paired(1, 0, 1, 0)}


def test_runs_without_a_common_image_are_no_error():
    comparison = compare(outcomes_of([answered(0, 0)]), outcomes_of([answered(0, 0, etag="other")]))

    assert comparison.paired.n == 0
    assert comparison.paired.difference is None
    assert comparison.paired.p_value == 1.0
    assert comparison.agreement.value is None
