"""What a person sees where there is no terminal: lines, never a bar."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.audience.audience import Heading, summary
from pipeline.audience.console import Console, printable
from pipeline.engine.plan import PlanTotals
from pipeline.records import Tally

HEADING = Heading("20261120T000000-abc123", "s3://b/out", "resnet50", "no: --compile off")


def headed(heading: Heading) -> Console:
    console = Console()
    console.headed(heading)
    return console


def test_the_first_lines_come_once_and_tell_how_many_images_there_are(capsys):
    console = headed(HEADING)

    for _ in range(3):
        console.planned(PlanTotals(n_images=1234), is_closed=True)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "images", "model", "compiled", "destination"]
    assert lines[1].split() == ["images", "1,234"]
    assert lines[3] == "compiled     no: --compile off"


def test_what_was_tuned_is_said_where_it_was_asked_for(capsys):
    console = headed(replace(HEADING, tuned="5 threads per worker (+12 %); 3 trials in 9 s"))

    console.planned(PlanTotals(n_images=1), is_closed=True)

    assert "\ntuned        5 threads per worker (+12 %); 3 trials in 9 s\n" in capsys.readouterr().out


def test_progress_is_whole_lines_with_rate_failures_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr("pipeline.audience.console._PLAIN_INTERVAL_S", -1.0)
    console = headed(HEADING)
    console.planned(PlanTotals(n_images=160), is_closed=True)
    console.committed(replace(Tally(), n_images=80, n_ok=78))

    console.classified(80)
    console.close()

    stderr = capsys.readouterr().err
    assert stderr.startswith("classified 80 of 160 images, ")
    assert "2 failed" in stderr
    assert stderr.endswith(" s left\n")
    assert "\r" not in stderr


def test_where_nobody_reads_the_results_any_more_the_work_goes_on():
    code = "from pipeline.audience.console import print_line; print_line('a', 1); print_line('b', 2); print(3)"

    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_progress_of_a_run_that_has_classified_nothing_yet_foretells_nothing(capsys, monkeypatch):
    monkeypatch.setattr("pipeline.audience.console._PLAIN_INTERVAL_S", -1.0)
    console = headed(HEADING)
    console.planned(PlanTotals(n_images=160), is_closed=True)

    console.classified(0)

    assert capsys.readouterr().err == "classified 0 of 160 images, 0.0 images/s, 0 failed\n"


def test_a_run_without_any_truth_or_answer_has_words_for_it():
    lines = dict(summary(Tally(n_images=3), "s3://b/out/outcomes"))

    assert lines["top-1"] == "unknown: no image with a known truth was classified"


def test_a_name_from_a_bucket_cannot_begin_a_line_or_move_the_cursor():
    assert printable("a\nerror: b\x1b[2J\u202e") == "a\\nerror: b\\x1b[2J\\u202e"
