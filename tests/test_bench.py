"""The benchmark's own arithmetic, its checks of fair play, and one way from end to end."""

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.answers import Answer, answers_below, check_alike, check_complete
from benchmarks.job import figures_of
from benchmarks.ratios import STEADY, WHOLE, Goal, ratio, spread
from benchmarks.server import rclone_server
from benchmarks.site import Site, named
from benchmarks.table import summary, table
from benchmarks.ways import BY_HAND, PROJECT, TUTORIAL, by_hand
from benchmarks.ways.command import Task, Watch
from pipeline.demo.s3 import CREDENTIALS

SLOW_ROUND = {BY_HAND: {WHOLE: 10.0, STEADY: 20.0}, PROJECT: {WHOLE: 9.0, STEADY: 19.0}, TUTORIAL: {WHOLE: 1.0}}
FAST_ROUND = {BY_HAND: {WHOLE: 20.0, STEADY: 40.0}, PROJECT: {WHOLE: 16.0, STEADY: 40.0}, TUTORIAL: {WHOLE: 2.0}}


# Figures


def test_the_whole_job_counts_the_start_and_the_steady_state_leaves_the_first_batch_out():
    figures = figures_of(
        started=100.0, ended=120.0, cpu_s=30.0, batches=[(105.0, 80), (109.0, 80), (115.0, 40)], n_images=200
    )

    assert figures["images_per_s"] == 10.0
    assert figures["first_batch_s"] == 5.0
    assert figures["steady_images_per_s"] == 12.0
    assert figures["cores_busy"] == 1.5


def test_a_job_that_tells_of_one_batch_or_none_has_no_steady_state():
    of_one, of_none = (figures_of(0.0, 10.0, 1.0, batches, 80) for batches in ([(5.0, 80)], []))

    assert of_one["steady_images_per_s"] is of_none["steady_images_per_s"] is of_none["first_batch_s"] is None


def test_a_ratio_compares_with_the_best_of_the_others_in_the_same_round():
    assert ratio(SLOW_ROUND, WHOLE, PROJECT, BY_HAND, TUTORIAL) == 0.9
    assert ratio(FAST_ROUND, WHOLE, PROJECT, TUTORIAL) == 8.0


def test_a_ratio_of_what_was_not_measured_is_none():
    assert ratio(SLOW_ROUND, STEADY, TUTORIAL, BY_HAND) is None
    assert ratio(SLOW_ROUND, STEADY, PROJECT, BY_HAND, TUTORIAL) is None
    assert ratio(SLOW_ROUND, WHOLE, PROJECT, "dataloader") is None


def test_a_spread_needs_the_figure_of_every_round():
    assert f"{spread([3.0, 1.0, 2.0]):1}" == "2.0 (1.0-3.0)"
    assert spread([3.0, None]) is None


# Goals


@pytest.mark.parametrize(
    ("bound", "is_at_least", "n_images", "is_met"),
    [(0.8, True, 2000, True), (0.9, True, 2000, False), (0.9, False, 2000, True), (0.8, True, 1999, None)],
)
def test_a_goal_is_held_against_the_median_and_only_where_the_job_is_large_enough(bound, is_at_least, n_images, is_met):
    goal = Goal("", lambda round_: ratio(round_, WHOLE, PROJECT, BY_HAND), bound, is_at_least, from_images=2000)

    told = goal.judged([SLOW_ROUND, FAST_ROUND], n_images)

    assert told["value"] == {"median": 0.85, "min": 0.8, "max": 0.9}
    assert told["is_met"] is is_met


def test_the_table_has_a_line_for_each_way_and_each_goal():
    rounds = [{way: figures_of(0.0, 10.0, 5.0, [(1.0, 40), (2.0, 40)], 80) for way in (BY_HAND, PROJECT)}]
    goal = Goal("as fast as by hand", lambda round_: ratio(round_, WHOLE, PROJECT, BY_HAND), 0.9)
    circumstances = {"machine": {"cpu": "a CPU", "cores": 2}, "n_images": 80, "n_rounds": 1, "precision": "fp32"}

    text = table(circumstances | {"summary": summary(rounds), "goals": [goal.judged(rounds, 80)]})

    by_hand_line, project_line = text.splitlines()[3:5]
    assert by_hand_line.startswith("best loop by hand")
    assert "40.0 (40.0-40.0)" in project_line
    assert text.splitlines()[-1].endswith("met")


# Fair play


def test_a_way_that_misses_an_image_or_has_one_too_many_has_no_figure():
    check_complete("a way", {"a", "b"}, ["a", "b"])

    with pytest.raises(click.ClickException, match="no outcome for 1 of 2 images, 0 foreign"):
        check_complete("a way", {"a"}, ["a", "b"])
    with pytest.raises(click.ClickException, match="1 foreign"):
        check_complete("a way", {"a", "b", "c"}, ["a", "b"])


def test_two_ways_may_differ_in_ties_only():
    reference = {"tie": Answer(1, 0.0005), "plain": Answer(2, 0.5)}

    assert check_alike("a way", {"tie": Answer(7), "plain": Answer(2)}, reference, "fp32") == 1
    with pytest.raises(click.ClickException, match="another class for 1 images, plain among them"):
        check_alike("a way", {"tie": Answer(1), "plain": Answer(7)}, reference, "fp32")


def test_a_failed_image_is_no_answer(tmp_path):
    rows = [{"image": "s3://b/x.jpg", "status": "failed", "class_index": None, "top5_probability": None}]
    (tmp_path / "outcomes").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "outcomes/part-000000.parquet")

    assert answers_below(tmp_path) == {}


# The bucket


@pytest.fixture
def folder_of_drawings(tmp_path, drawings):
    """Return a folder with four good drawings and all the unusable ones, as the demo keeps them."""
    for key, data in [*drawings[:4], *drawings[96:]]:
        path = tmp_path / "drawings" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "drawings"


def test_more_images_than_drawings_are_copies_under_names_of_their_own(tmp_path, folder_of_drawings):
    site = Site(tmp_path / "buckets", "weights.pth")

    site.fill(folder_of_drawings, 10)

    assert len(set(site.images())) == 10
    assert {path.suffix for path in (tmp_path / "buckets").rglob("Images/n*/*")} == {".jpg"}


def test_unusable_drawings_stay_out_of_the_bucket(folder_of_drawings):
    names = [name for _, name in zip(range(8), (name for _, name in named(folder_of_drawings)), strict=False)]

    assert len(names) == 8
    assert not [name for name in names if "_9" in name]


# A way


def test_the_loop_by_hand_leaves_an_outcome_for_each_image(tmp_path, folder_of_drawings, weights, monkeypatch):
    site, watch = Site(tmp_path / "buckets", str(weights)), Watch()
    site.fill(folder_of_drawings, 3)

    with rclone_server(site.root, tmp_path / "rclone.log") as endpoint:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(name, value)
        by_hand.classify(Task(site.source, site.destination("x"), str(weights), 3), watch, is_compiled=False)

    answers = answers_below(site.folder("x"))
    check_complete("by hand", set(answers), site.images())
    assert all(answer.margin is not None for answer in answers.values())
    assert watch.told().count("[") == 2
