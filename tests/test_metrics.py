"""The interval of a share: Wilson's, as published, and sound at its ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.metrics import Share

PUBLISHED = [
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
    # tabulated since: R's prop.test(correct = FALSE), statsmodels' proportion_confint(method="wilson")
    (0, 10, 0.0000, 0.2775),
    (5, 10, 0.2366, 0.7634),
    (10, 10, 0.7225, 1.0000),
    (1, 1, 0.2065, 1.0000),
]

COUNTS = st.integers(1, 1_000_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))

ROUNDING = 1e-12


@pytest.mark.parametrize(("n_hits", "n", "low", "high"), PUBLISHED)
def test_the_interval_is_the_published_one(n_hits: int, n: int, low: float, high: float):
    assert Share(n_hits, n).interval == pytest.approx((low, high), abs=5.1e-5)


@given(COUNTS)
def test_the_interval_lies_within_0_and_1_and_holds_the_share(counts: tuple[int, int]):
    share = Share(*counts)
    low, high = share.interval

    assert 0.0 <= low < high <= 1.0
    assert low <= share.value <= high


@pytest.mark.parametrize(("n_hits", "n"), [(0, 7), (10, 10)])
def test_the_interval_of_none_begins_at_0_and_that_of_all_ends_at_1(n_hits: int, n: int):
    assert Share(n_hits, n).value in Share(n_hits, n).interval


@given(COUNTS, st.integers(2, 50))
def test_the_interval_of_the_same_share_narrows_with_more_images(counts: tuple[int, int], times: int):
    n_hits, n = counts
    (low, high), (closer_low, closer_high) = Share(n_hits, n).interval, Share(times * n_hits, times * n).interval

    assert closer_high - closer_low < high - low


@given(COUNTS)
def test_the_interval_of_the_misses_is_the_mirror_image(counts: tuple[int, int]):
    n_hits, n = counts
    low, high = Share(n_hits, n).interval

    assert Share(n - n_hits, n).interval == pytest.approx((1 - high, 1 - low), abs=ROUNDING)


@given(COUNTS)
def test_the_share_and_its_interval_grow_with_the_hits(counts: tuple[int, int]):
    n_hits, n = counts
    fewer, more = Share(n_hits, n + 1), Share(n_hits + 1, n + 1)

    assert fewer.value < more.value
    assert fewer.interval[0] < more.interval[0]
    assert fewer.interval[1] < more.interval[1]


def test_of_nothing_there_is_no_share_and_everything_is_possible():
    nothing = Share(0, 0)

    assert nothing.value is None
    assert nothing.interval == (0.0, 1.0)
    assert "unknown" in str(nothing)


def test_a_share_reads_as_percent_with_its_interval_and_counts():
    assert str(Share(1234, 5678)) == "21.7%  (95 % interval 20.7% to 22.8%; 1,234 of 5,678)"
