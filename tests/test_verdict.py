"""The verdict on a run: what bounded it follows from how busy each resource was."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.verdict import Usage, verdict_of

GPU_HALF_BUSY = Usage(
    start_s=10,
    steady_s=100,
    listing_s=0,
    n_workers=1,
    n_models=1,
    n_slots=12,
    n_cores=8,
    spent_s={"read": 60, "decode": 1_050, "wait": 80, "infer": 41, "commit": 5, "cpu": 780},
)
"""A GPU with too few cores: they decode all the time."""


def changed(**spent_s):
    return replace(GPU_HALF_BUSY, spent_s={**GPU_HALF_BUSY.spent_s, **spent_s})


def test_a_gpu_that_starves_behind_busy_cores_asks_for_more_of_them():
    verdict = verdict_of(GPU_HALF_BUSY)

    assert str(verdict) == (
        "decode-bound: the model was busy 41% of the time, the cores 98%; 8 more cores would give about 2.0 ×"
    )


def test_no_more_cores_are_asked_for_than_the_model_can_use():
    verdict = verdict_of(changed(infer=70))

    assert verdict.lever == "4 more cores"
    assert verdict.gain == pytest.approx(0.975 / 0.7)


@pytest.mark.parametrize(
    ("usage", "bound_by", "lever"),
    [
        (changed(infer=96, cpu=400), "inference", "one more worker with a model"),
        (changed(infer=96), "inference", "as many cores again"),  # a CPU's model computes on the cores
        (changed(cpu=300), "decode", "12 more threads"),  # decoders that wait for nothing but a slot
        (changed(read=1_000, decode=100, cpu=200), "read", "one more worker"),
        (changed(commit=1_000, decode=100, cpu=200), "commit", "twice the --batches-per-part"),
        (replace(changed(read=20, decode=100, cpu=100), listing_s=90), "listing", "a listing twice as fast"),
        (replace(GPU_HALF_BUSY, start_s=101), "start-up", "twice the images"),
    ],
)
def test_what_is_busiest_bounds_the_run(usage, bound_by, lever):
    verdict = verdict_of(usage)

    assert (verdict.bound_by, verdict.lever) == (bound_by, lever)
    assert 1.25 < verdict.gain <= 2


def test_tasks_that_wait_for_a_busy_model_do_not_make_more_threads_look_worth_it():
    verdict = verdict_of(changed(infer=90, wait=800, read=100, decode=300, cpu=300))

    assert verdict.bound_by == "inference"


def test_a_start_up_that_took_longer_than_the_rest_is_the_verdict_with_the_gain_of_a_larger_job():
    verdict = verdict_of(replace(GPU_HALF_BUSY, start_s=300))

    assert verdict.gain == pytest.approx(2 * 400 / 500)


SECONDS = st.floats(0, 10_000)
COUNTS = st.integers(1, 64)
USAGES = st.builds(
    Usage,
    SECONDS,
    SECONDS,
    SECONDS,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    st.fixed_dictionaries(dict.fromkeys(GPU_HALF_BUSY.spent_s, SECONDS)),
)


@given(USAGES)
def test_every_usage_has_a_verdict_of_one_line_that_promises_at_most_twice_the_throughput(usage):
    verdict = verdict_of(usage)

    assert 1 <= verdict.gain <= 2
    assert all(0 <= load <= 1 for load in verdict.loads.values())
    assert "\n" not in str(verdict)
