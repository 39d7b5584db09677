"""What the benchmark for GPUs does without one: its sums, and that a section that fails costs no other."""

import time

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu, gpu_device


def row(class_index, probability, status="ok"):
    return {"status": status, "class_index": class_index, "probability": probability}


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure for minutes")
def test_where_there_is_no_gpu_it_says_so_and_measures_nothing(tmp_path):
    done = CliRunner().invoke(gpu.main, [str(tmp_path / "out.json")])

    assert done.exit_code == 1
    assert "no CUDA device here: nothing was run" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_section_that_fails_is_told_and_one_that_is_too_late_is_left_out():
    now = time.monotonic()

    assert gpu.guarded(lambda: 1 / 0, now) == {"error": "ZeroDivisionError: division by zero"}
    assert gpu.guarded(lambda: 7, now)["result"] == 7
    assert "skipped" in gpu.guarded(lambda: 7, now - gpu.BUDGET_S - 1)


def test_agreement_counts_the_good_images_and_refuses_other_ones():
    exact = {"a": row(1, 0.5), "b": row(2, 0.75), "c": row(None, None, "failed")}

    told = gpu.agreement({"a": row(1, 0.625), "b": row(3, 0.75), "c": row(None, None, "failed")}, exact)

    assert told == {"class_index": 0.5, "largest_probability_difference": 0.125}
    with pytest.raises(ValueError, match="1 images are in one run only"):
        gpu.agreement({"a": row(1, 0.5), "b": row(2, 0.75)}, exact)


@pytest.mark.parametrize(("model", "decoding", "busy", "is_met"), [(9000, 6000, 0.5, True), (5000, 9000, 0.8, False)])
def test_the_job_is_held_against_the_smaller_of_model_and_decoding(model, decoding, busy, is_met):
    record = {
        "device": "a GPU",
        "model_alone": {"result": [{"precision": "bf16", "form": "graph", "images_per_s": model}]},
        "decoding": {"result": {"images_per_s": decoding}},
        "job_bf16": {"result": {"steady_images_per_s": 0.95 * min(model, decoding), "gpu_busy": {"mean": busy}}},
    }

    told = gpu.verdict(record)

    assert told["share_of_the_smaller"] == pytest.approx(0.95)
    assert told["goal_met"] is is_met
    assert gpu.verdict({"device": "a GPU"}) == {"incomplete": True}


def test_rows_that_differ_or_are_lost_are_faults_by_name():
    record = {
        "copies": {"error": "RuntimeError: no"},
        "agreement": {"result": {"bf16": {"class_index": 0.5}, "fp16": {"class_index": 1.0}}},
        "out_of_memory": {"result": {"rows": 639, "same_class": 1.0}},
    }

    faults = gpu.faults_of(record)

    assert faults[:2] == ["copies: RuntimeError: no", "bf16 and fp32 agree on 50.00% of the images"]
    assert "memory that ran out changed rows" in faults[2]


def test_drawings_are_multiplied_without_their_bytes(tmp_path):
    folder = tmp_path / "drawn" / "n01-dog"
    folder.mkdir(parents=True)
    drawings = [folder / f"n01_{i}.jpg" for i in range(3)]
    for path in drawings:
        path.write_bytes(b"x")

    many = gpu.multiplied(drawings, tmp_path / "many", 7)

    names = sorted(path.name for path in many.rglob("*.jpg"))
    assert len(set(names)) == 7
    assert drawings[0].stat().st_nlink == 4


def test_what_is_short_is_timed_often_and_what_is_long_a_few_times():
    assert [gpu_device.repeats(seconds, 0.4) for seconds in (0.0, 0.04, 9.0)] == [1000, 10, 3]
