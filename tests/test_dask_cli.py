"""``dask pipeline run ...``: the commands below Dask's own, as its entry point takes them."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import click
import pytest

from pipeline.demo.s3 import fill_bucket
from tests.command_line import TIMEOUT_S, keys_of, read_outcomes
from tests.test_architecture import ROOT

AS_DASK_DOES = """
import sys
from importlib.metadata import EntryPoint
from dask.cli import _register_command_ep, cli
_register_command_ep(cli, EntryPoint("pipeline", sys.argv.pop(1), "dask_cli"))
cli(prog_name="dask")
"""
"""What the script ``dask`` does once this project is installed; its own list of entry points may be an older one."""


def entry_points():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["dask_cli"]


def dask(*args, **environment):
    command = [sys.executable, "-c", AS_DASK_DOES, entry_points()["pipeline"], *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=os.environ | environment
    )


def test_the_entry_point_is_a_group_of_commands_that_begin_quickly():
    loaded = EntryPoint("pipeline", entry_points()["pipeline"], "dask_cli").load()

    assert isinstance(loaded, click.Group)
    assert {"run", "verify", "report", "compare"} <= set(loaded.commands)
    code = "import sys, pipeline.dask_cli; sys.exit(bool({'distributed', 'torch', 'fsspec'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("name", ["run", "verify", "report", "compare"])
def test_each_command_reads_its_own_options_and_ends_with_its_own_status(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dask"])  # a command takes its place there
    group = EntryPoint("pipeline", entry_points()["pipeline"], "dask_cli").load()

    statuses = []
    for option in ("--help", "--colour"):
        with pytest.raises(SystemExit) as ended:
            group.main([name, option], standalone_mode=False)
        statuses.append(ended.value.code)

    said = capsys.readouterr()
    assert statuses == [0, 2]
    assert f"Usage: python -m pipeline.{name} [OPTIONS]" in said.out
    assert said.err.startswith("error: No such option")
    assert sys.argv == [f"python -m pipeline.{name}", "--colour"]


def test_dask_s_yaml_and_environment_count_there_too(tmp_path):
    (tmp_path / "ours.yaml").write_text("pipeline:\n  bach-size: 7\n")

    refused = dask("pipeline", "run", "s3://b/Images", "s3://b/out", DASK_CONFIG=str(tmp_path))
    environment = {"DASK_PIPELINE__PRECISION": "int8"}
    refused_too = dask("pipeline", "run", "s3://b/Images", "s3://b/out", **environment)

    assert (refused.returncode, refused_too.returncode) == (2, 2)
    assert "sets pipeline.bach_size" in refused.stderr
    assert "'int8' is not one of 'auto', 'fp32', 'bf16', 'fp16'" in refused_too.stderr


def test_a_run_typed_so_gives_its_rows_and_dask_s_own_report(s3, drawings, weights, tmp_path):
    fill_bucket("drawn-dogs", drawings)
    source, destination, report = "s3://drawn-dogs/Images", "s3://drawn-dogs/by-dask", tmp_path / "dask.html"
    options = ["--weights", str(weights), "--limit", "4", "--cluster", "cpu", "--performance-report", str(report)]

    done = dask("pipeline", "run", source, destination, *options)

    assert done.returncode == 0, done.stderr
    assert len(read_outcomes(s3, f"{destination}/outcomes")) == 4
    assert "by-dask/_SUCCESS" in keys_of("drawn-dogs", "by-dask/_")
    assert done.stdout.splitlines()[0].startswith("dashboard    http://127.0.0.1:")
    assert "preprocess" in report.read_text()
