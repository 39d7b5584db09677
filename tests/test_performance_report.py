"""``--performance-report``: Dask's own page on a run, and a scheduler that is as it was."""

import re

import pytest
from distributed import Client, LocalCluster

from pipeline.audience.files import check_writable
from pipeline.errors import UsageError
from pipeline.running.performance import performance_reported
from tests.cluster_state import left_as_found


@pytest.fixture
def plain():
    """A client of a scheduler that has no dashboard, and so no task stream of its own."""
    options = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **options)
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def test_the_page_tells_of_the_tasks_and_the_scheduler_is_as_it_was(plain, tmp_path):
    with left_as_found(plain), performance_reported(plain, str(tmp_path / "report.html")):
        plain.submit(int, key="a-task-of-ours").result()

    page = (tmp_path / "report.html").read_text()
    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert "a-task-of-ours" in page


def test_nothing_is_done_where_none_is_asked_for(plain):
    with performance_reported(plain, None), left_as_found(plain):
        pass


def test_what_ends_a_run_is_told_though_the_page_cannot_be_written(plain, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    file = str(tmp_path / "file" / "report.html")

    with pytest.raises(KeyError, match="what ended the run"), performance_reported(plain, file):
        raise KeyError("what ended the run")

    assert "could not write the performance report" in caplog.text


def test_a_path_that_cannot_be_written_is_refused_before_the_start(tmp_path):
    for file in (tmp_path / "none" / "report.html", tmp_path):
        with pytest.raises(UsageError, match=re.escape(f"--performance-report {file}: expected the path of a file")):
            check_writable("--performance-report", str(file))


def test_looking_whether_it_can_be_written_changes_nothing(tmp_path):
    older = tmp_path / "older.html"
    older.write_text("older")

    for file in (str(older), str(tmp_path / "new.html")):
        check_writable("--performance-report", file)

    assert [path.name for path in tmp_path.iterdir()] == ["older.html"]
    assert older.read_text() == "older"
