"""What a plan says follows from what was seen: laws of ranges, samples, rounds, requests and prices."""

import heapq
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.duration import Duration, last_round_s, tempo_of
from pipeline.forecast.estimate import Estimate, Spread, t_95
from pipeline.forecast.failures import failures_of
from pipeline.forecast.prices import HOURS, KINDS, bill_of
from pipeline.forecast.requests import Layout, Store, asked_of_destination
from pipeline.forecast.strata import Strata
from pipeline.forecast.workers import Load, limits_of, workers_sentence

NUMBERS = st.floats(0, 1e9)
ESTIMATES = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted).map(lambda three: Estimate(three[1], three[0], three[2]))


def contains_itself(estimate):
    return estimate.low <= estimate.expected <= estimate.high


# Ranges


@given(ESTIMATES, ESTIMATES, NUMBERS, NUMBERS)
def test_a_range_contains_what_is_expected_whatever_is_done_with_it(one, other, factor, least):
    assert contains_itself(one + other)
    assert contains_itself(factor * one)
    assert contains_itself(one.at_least(least))


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(2, 100), st.floats(0, 1e6))
def test_the_mean_of_what_comes_next_has_a_range_that_narrows_with_more_to_come(mean, deviation, n, n_next):
    spread = Spread(mean, deviation, n)

    soon, late = spread.mean_of_next(n_next), spread.mean_of_next(2 * n_next)

    assert contains_itself(soon)
    assert 0 <= soon.low <= late.low <= late.high <= soon.high


@pytest.mark.parametrize(("degrees", "value"), [(2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042)])
def test_students_t_is_that_of_the_tables(degrees, value):
    assert t_95(degrees) == pytest.approx(value, rel=0.01)


def test_the_range_holds_95_times_of_100():
    draw = random.Random(1)
    n_held = 0
    for _ in range(2_000):
        seen = [draw.gauss(10, 2) for _ in range(7)]
        ends = [sum(seen[: i + 1]) for i in range(7)]
        foreseen = tempo_of(ends, 1, n_slots=1).seconds_of(10)
        n_held += foreseen.low <= sum(draw.gauss(10, 2) for _ in range(10)) <= foreseen.high

    assert 0.93 <= n_held / 2_000 <= 0.97


# Time


@given(st.lists(st.floats(0.01, 100), min_size=6, max_size=300), st.integers(1, 80), st.integers(1, 40))
def test_a_tempo_goes_through_all_that_was_seen(seconds, batch_size, n_slots):
    ends = [sum(seconds[: i + 1]) for i in range(len(seconds))]

    tempo = tempo_of(ends, batch_size, n_slots)

    assert tempo.seconds_of(len(seconds) * batch_size).expected == pytest.approx(ends[-1])
    assert 2 <= tempo.seconds.n <= 10


def test_batches_that_end_together_are_one_group():
    ends = [end for end in range(1, 9) for _ in range(4)]  # four slots, each second

    assert tempo_of(ends, 80, n_slots=4).seconds.deviation == pytest.approx(0)
    assert tempo_of(ends[:-1], 80, n_slots=4).seconds.deviation > 0


@given(st.integers(1, 400), st.integers(1, 80), st.integers(1, 12))
def test_the_last_round_is_that_of_servers_that_take_the_next_batch_when_they_are_free(n_images, batch_size, n_servers):
    free_at = [0.0] * n_servers
    for first in range(0, n_images, batch_size):
        n = min(batch_size, n_images - first)
        heapq.heappush(free_at, heapq.heappop(free_at) + n * 0.1 * n_servers)

    assert n_images * 0.1 + last_round_s(n_images, batch_size, n_servers, 0.1) == pytest.approx(max(free_at))


@given(NUMBERS, ESTIMATES, NUMBERS)
def test_the_whole_is_its_parts(start_up_s, steady_s, tail_s):
    total = Duration(start_up_s, steady_s, tail_s).total_s

    assert total.expected == pytest.approx(start_up_s + steady_s.expected + tail_s)
    assert contains_itself(total)


# The sample


@given(st.integers(0, 5_000), st.integers(1, 30))
def test_a_sample_is_spread_evenly_and_never_takes_an_item_twice(n_items, n_wanted):
    strata = Strata(n_wanted)
    for item in range(n_items):
        strata.add(item)

    kept, sample = len(strata._kept), sorted(strata.sample())

    assert kept <= 32 * n_wanted
    assert len(sample) == len(set(sample)) == min(n_items, n_wanted)
    for i, item in enumerate(sample):  # from its own stretch, or a bit beside it
        assert abs(item - (i + 0.5) * n_items / len(sample)) <= 0.7 * n_items / len(sample) + 1


def test_every_item_is_as_likely_to_be_taken():
    taken = Counter()
    for seed in range(2_000):
        strata = Strata(2)
        strata._random = random.Random(seed)
        for item in range(100):
            strata.add(item)
        taken.update(strata.sample())

    tenths = [sum(taken[10 * tenth + i] for i in range(10)) for tenth in range(10)]
    n_even = sum(n for item, n in taken.items() if item % 2 == 0)
    assert all(abs(n - 400) < 5 * math.sqrt(400) for n in tenths)
    assert abs(n_even - 2_000) < 5 * math.sqrt(1_000)  # neither the first nor the last of a stretch


def test_the_same_listing_has_the_same_sample():
    one, other = Strata(5), Strata(5)
    for item in range(1_000):
        one.add(item)
        other.add(item)

    assert one.sample() == other.sample()


# Failures


SAMPLES = st.lists(st.sampled_from([None, None, ("decode", "truncated image"), ("read", "access denied")]), min_size=1)


@given(SAMPLES, st.integers(0, 10**6))
def test_failures_that_are_expected_lie_in_their_range_and_the_stages_add_up(sample, n_others):
    failures = failures_of(len(sample) + n_others, sample)

    stages = [failures.expected(share) for share in failures.by_stage.values()]
    whole = failures.expected(failures.share)

    assert all(contains_itself(stage) for stage in [*stages, whole])
    assert sum(stage.expected for stage in stages) == pytest.approx(whole.expected)
    assert whole.low >= failures.share.n_hits


def test_where_every_image_was_tried_nothing_is_left_to_guess():
    failures = failures_of(3, [None, ("decode", "empty file"), None])

    assert failures.expected(failures.share) == Estimate.exact(1.0)


# Money


AMOUNTS = st.dictionaries(st.sampled_from([kind.name for kind in KINDS]), ESTIMATES)
PRICES = st.dictionaries(st.sampled_from([kind.name for kind in KINDS]), st.floats(0, 100))


@given(AMOUNTS, PRICES, st.floats(0, 100))
def test_money_is_linear_in_the_prices(amounts, prices, factor):
    bill = bill_of(amounts, prices)
    dearer = bill_of(amounts, {name: factor * price for name, price in prices.items()})

    assert contains_itself(bill.total)
    assert dearer.total.expected == pytest.approx(factor * bill.total.expected)
    assert dearer.total.high == pytest.approx(factor * bill.total.high)


@given(AMOUNTS, PRICES)
def test_what_is_used_is_priced_or_said_to_be_not(amounts, prices):
    bill = bill_of(amounts, prices)

    used = {kind.name: kind.what for kind in KINDS if kind.name in amounts and amounts[kind.name].high}
    priced = {item.kind.name for item in bill.items}
    assert priced == used.keys() & prices.keys()
    assert set(bill.unpriced) <= {what for name, what in used.items() if name not in prices}
    assert {what for name, what in used.items() if name not in (*prices, *HOURS)} <= set(bill.unpriced)
    assert bool(priced & set(HOURS)) <= set(bill.unpriced).isdisjoint({"GPUs", "cores", "workers"})


def test_of_a_gpu_that_has_no_price_the_gpu_is_named_and_not_its_cores_too():
    amounts = {name: Estimate.exact(1.0) for name in HOURS}

    assert bill_of(amounts, {}).unpriced == ["GPUs"]
    assert bill_of(amounts | {"gpu-hour": Estimate.exact(0.0)}, {}).unpriced == ["cores"]
    assert bill_of(amounts, {"worker-hour": 2.0}).unpriced == []


# Requests


def test_requests_grow_with_parts_and_pages_and_listings_by_the_thousand():
    small = asked_of_destination(Layout(Store(is_s3=True), n_new_pages=1, n_new_parts=1))
    large = asked_of_destination(Layout(Store(is_s3=True), n_new_pages=36, n_new_parts=1_001))

    assert large["write"] - small["write"] == 35 + 1_000
    assert large["read"] - small["read"] == 4 * 35 + 1_000
    assert large["list"] - small["list"] == 1


# Workers


@given(
    st.builds(
        Load,
        n_images=st.integers(1, 10**9),
        batch_size=st.integers(1, 1_000),
        worker_images_per_s=st.floats(0.1, 1e5),
        start_up_s=st.floats(0.1, 1e3),
        listed_per_s=st.none() | st.floats(1, 1e6),
        reads_per_image=st.floats(0, 10),
        is_aws=st.booleans(),
    )
)
def test_the_first_limit_is_the_least_and_at_least_one_worker_makes_sense(load):
    limits = limits_of(load)

    numbers = [limit.n_workers for limit in limits]
    assert numbers == sorted(numbers)
    assert all(number > 0 for number in numbers)
    assert workers_sentence(limits).startswith(f"up to {max(1, int(numbers[0])):,} like this, ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "the start-up of 10 s"),
        ({"n_images": 10**9}, "the scheduler"),
        ({"n_images": 10**9, "batch_size": 800}, "the client"),
        ({"n_images": 10**9, "listed_per_s": 5_000.0}, "the listing, at 5,000 keys/s"),
        ({"n_images": 10**9, "is_aws": True}, "S3's 5,500"),
        ({"n_images": 100, "start_up_s": 0.1}, "each has one batch"),
    ],
)
def test_what_is_full_first_is_named(changes, reason):
    load = Load(100_000, 80, 100.0, 10.0, None, 1.0, is_aws=False)
    changed = {name: changes.get(name, getattr(load, name)) for name in Load.__slots__}

    assert limits_of(Load(**changed))[0].reason.startswith(reason)
