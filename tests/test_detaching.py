"""A run that outlives its command: ``run --detach``, and ``attach`` that follows it from elsewhere."""

import json
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from distributed import Client

from pipeline.attach import main as attach
from pipeline.audience.audience import Heading
from pipeline.audience.beacon import Beacon, Sign, ask_to_stop
from pipeline.demo.s3 import fill_bucket
from pipeline.destination import Destination
from pipeline.engine.plan import PlanTotals
from pipeline.errors import UsageError
from pipeline.records import Tally
from pipeline.running.detaching import refuse_if_followed
from pipeline.storage import options_from_environment
from pipeline.verify import main as verify
from tests.by_hand import dask_by_hand
from tests.command_line import read_json, run

HEADING = Heading(
    "20261121T000000-abc123", "http://127.0.0.1:8787/status", "s3://b/out", "resnet50", "no: --compile off"
)
SMALL = ["--precision", "fp32", "--batch-size", "8", "--batches-per-part", "1"]


N_IMAGES = 24


def traces(client):
    """Return what a run could leave at a scheduler and its workers."""
    return client.run_on_scheduler(
        lambda dask_scheduler: (
            sorted(dask_scheduler.tasks),
            sorted(dask_scheduler.plugins),
            sorted(dask_scheduler.worker_plugins),
            sorted(name for name in dask_scheduler.clients if not name.startswith("Client-worker")),
        )
    )


@pytest.fixture(scope="module")
def detached(tmp_path_factory, s3, drawings, weights):
    """A run that was begun with --detach and followed to its end from elsewhere; what its cluster looked like.

    Its workers have another folder than the command, and another endpoint in their environment.
    """
    fill_bucket("detached", drawings[:N_IMAGES])
    folder, out = tmp_path_factory.mktemp("detached"), "s3://detached/out"
    (folder / "weights.pth").symlink_to(weights)
    with dask_by_hand(folder, 2, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}) as cluster:
        with Client(cluster.address) as client:
            client.wait_for_workers(2, timeout=60)
            before = traces(client)
            options = [*SMALL, "--weights", "weights.pth", "--cluster", cluster.file.name]
            begun = run("s3://detached/Images", out, *options, "--detach", folder=folder)
            followed = subprocess.run(
                [sys.executable, "-m", "pipeline.attach", out], capture_output=True, text=True, check=False
            )
            after, last = traces(client), read_json(f"{out}/progress.json")
        again = run("s3://detached/Images", out, *options, "--detach", folder=folder)
    return begun, followed, again, out, last, before, after


def test_the_command_returns_and_says_how_to_follow(detached):
    begun, *_, out, _, _, _ = detached

    assert begun.returncode == 0, begun.stderr
    lines = begun.stdout.splitlines()
    assert lines[0].startswith("dashboard    http://")
    assert lines[1].startswith("run          2")
    assert lines[-1] == f"detached     follow it with: python -m pipeline.attach {out}"
    assert not any(line.startswith("top-1") for line in lines)


def test_attach_shows_what_the_run_itself_would_have_shown(detached):
    begun, followed, _, out, *_ = detached

    assert followed.returncode == 0, followed.stderr
    labels = [line.split("  ")[0] for line in followed.stdout.splitlines()]
    assert labels[:3] == ["dashboard", "run", "images"]
    assert labels[-1] == "report"
    assert {"top-1", "took", "bound by"} <= set(labels)
    assert followed.stdout.splitlines()[:2] == begun.stdout.splitlines()[:2]
    assert verify([out]) == 0


def test_attaching_after_the_end_tells_the_end(detached, capsys):
    _, _, again, out, *_ = detached  # the last command is the one that is told of

    assert attach([out]) == 0
    assert capsys.readouterr().out == again.stdout


def test_the_cluster_is_left_as_it_was(detached):
    *_, before, after = detached

    assert after == before


def test_a_run_that_has_nothing_left_to_do_says_so_at_once(detached):
    _, _, again, *_ = detached

    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


def test_the_last_sign_is_not_in_the_way_of_other_readers(detached):
    *_, told, _, _ = detached

    assert told["status"] == 0
    assert told["n_classified"] == N_IMAGES
    assert "AWS_" not in json.dumps(told)


def test_what_is_kept_of_the_command_resumes_it_from_anywhere(detached):
    *_, out, told, _, _ = detached

    words = shlex.split(told["resume"])
    weights, cluster = (words[words.index(option) + 1] for option in ("--weights", "--cluster"))
    assert weights.startswith("file:///")
    assert Path(cluster).is_absolute()
    assert {"--detach", "--precision", out} <= set(words)
    assert "--overwrite" not in words


@pytest.fixture
def destination(tmp_path):
    return Destination(f"file://{tmp_path}/out", options_from_environment())


def test_a_sign_of_life_is_read_as_it_was_given(destination):
    with Beacon(destination, "session", "python -m pipeline.run a b", lambda: None) as beacon:
        beacon.headed(HEADING)
        beacon.planned(PlanTotals(n_images=30), is_closed=True)
        beacon.found(5)
        beacon.classified(8)
        beacon.classified(8)
        beacon.committed(Tally(n_images=21, n_ok=20))
        beacon.told(("top-1", "50 %"))
        beacon.ended(3, "too many failed")

    sign = Sign.read(destination)

    assert sign == beacon.sign
    assert (sign.heading, sign.n_planned, sign.is_closed) == (HEADING, 30, True)
    assert (sign.n_found, sign.n_classified, sign.n_failed) == (5, 16, 1)
    assert (sign.lines, sign.status, sign.error) == ((("top-1", "50 %"),), 3, "too many failed")


def test_a_run_hears_that_it_is_to_stop_and_only_this_run(destination, monkeypatch):
    monkeypatch.setattr("pipeline.audience.beacon.PERIOD_S", 0.05)
    asked = []
    with Beacon(destination, "session", "...", lambda: asked.append(1)) as beacon:
        beacon.headed(HEADING)
        ask_to_stop(destination, "another session")
        before = beacon.sign.n_told
        while beacon.sign.n_told < before + 3:
            pass
        assert asked == []

        ask_to_stop(destination, beacon.session)
        while not asked:
            pass
        assert destination.read_json("stop.json") is not None  # should this driver die now, the next one hears it
        beacon.ended(130, "stopped on request")

    assert destination.read_json("stop.json") is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [(3, ["error: it failed"]), (5, ["error: it failed", "to resume: python -m pipeline.run a b"])],
)
def test_attach_ends_as_the_run_has_ended(destination, capsys, status, expected):
    with Beacon(destination, "session", "python -m pipeline.run a b", lambda: None) as beacon:
        beacon.headed(HEADING)
        beacon.ended(status, "it failed")

    assert attach([destination.url]) == status
    assert capsys.readouterr().err.splitlines() == expected


def test_a_run_that_gives_no_sign_any_more_is_told_to_be_lost(destination, capsys, monkeypatch):
    monkeypatch.setattr("pipeline.attach.LOST_S", 0.5)
    monkeypatch.setattr("pipeline.attach.PERIOD_S", 0.1)
    with Beacon(destination, "session", "python -m pipeline.run a b", lambda: None) as beacon:
        beacon.headed(HEADING)

    assert attach([destination.url]) == 5
    assert "no sign of life" in capsys.readouterr().err


def test_a_driver_that_another_has_taken_over_from_stops_and_falls_silent(destination, monkeypatch):
    monkeypatch.setattr("pipeline.audience.beacon.PERIOD_S", 0.02)
    stopped = threading.Event()
    with Beacon(destination, "20261121", "...", stopped.set) as lost:
        lost.headed(HEADING)
        with Beacon(destination, "20261121", "...", pytest.fail, n_restarts=1) as later:
            later.headed(HEADING)
            assert stopped.wait(10)
            lost.ended(5, "the scheduler was lost")
            later.ended(0, None)

    assert Sign.read(destination) == later.sign
    assert later.sign.status == 0


def test_a_driver_that_was_begun_again_tells_its_end_even_where_it_never_got_to_work(destination):
    with Beacon(destination, "20261121", "...", pytest.fail) as first:
        first.headed(HEADING)
    with Beacon(destination, "20261121", "...", pytest.fail, n_restarts=1) as second:
        second.told(("finished", "nothing to do"))
        second.ended(0, None)

    assert Sign.read(destination).status == 0
    assert Sign.read(destination).first_lines == [("finished", "nothing to do")]


def test_no_sign_comes_after_the_last(destination, monkeypatch):
    monkeypatch.setattr("pipeline.audience.beacon.PERIOD_S", 0.0)
    for number in range(40):
        with Beacon(destination, f"{number:02d}", "...", pytest.fail) as beacon:
            beacon.headed(HEADING)
            beacon.ended(0, None)

        assert Sign.read(destination) == beacon.sign


def test_a_run_that_was_given_up_before_it_began_hears_so_at_once(destination):
    stopped = threading.Event()
    ask_to_stop(destination, "20261121")

    with Beacon(destination, "20261121", "...", stopped.set) as beacon:
        assert stopped.is_set()
        beacon.ended(130, "stopped on request, before it began")

    assert destination.read_json("stop.json") is None


def test_a_second_detached_run_is_refused_while_the_first_gives_signs(destination, monkeypatch):
    monkeypatch.setattr("pipeline.audience.beacon.PERIOD_S", 0.1)
    refuse_if_followed(destination)
    with Beacon(destination, "20261121", "...", pytest.fail) as beacon:
        beacon.headed(HEADING)
        with pytest.raises(UsageError, match="holds a detached run that goes on: follow it with python -m"):
            refuse_if_followed(destination)

    monkeypatch.setattr("pipeline.running.detaching.PERIOD_S", 0.3)
    refuse_if_followed(destination)


def test_bad_usage_is_one_line(tmp_path, capsys):
    local = run(str(tmp_path), str(tmp_path / "out"), "--detach", "--cluster", "cpu")

    assert local.returncode == 2
    assert local.stderr.startswith(
        "error: --detach cannot be given with --cluster cpu: this cluster ends with the comm"
    )
    assert attach([str(tmp_path / "out")]) == 2
    assert "holds no run that was begun with --detach" in capsys.readouterr().err
