"""How long it takes to look at a finished run, and how much memory, by the length of its table.

``python -m benchmarks.by_length --rows 10_000_000`` makes destinations on a local disk, of up to so many images, then
verifies each and writes its report, in a process of its own each. Memory of verify should not grow with the table;
seconds should grow with nothing else. Peaks are the process's whole resident set, libraries included.
"""

import json
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.machine import machine
from benchmarks.made_up import make

COMMAND = """
import sys
from importlib import import_module
from pathlib import Path
status = import_module(sys.argv[1]).main(sys.argv[2:])
print(Path("/proc/self/status").read_text())  # getrusage would tell the peak of whoever started this process
sys.exit(status)
"""

COMMANDS = ("pipeline.verify", "pipeline.report")

HERE = Path(__file__).parent


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, help="Images of the longest table.")
@click.option(
    "--folder", type=click.Path(file_okay=False), help="Where the tables are made (default: a temporary one)."
)
def main(rows: int, folder: str | None) -> None:
    """Measure tables of 100 thousand and 1 million rows and of ROWS; print a table, keep the figures."""
    lengths = sorted({length for length in (100_000, 1_000_000) if length < rows} | {rows})
    circumstances = {"machine": machine(), "versions": versions()}
    runs = []
    for length in lengths:
        with TemporaryDirectory(dir=folder) as destination:
            seconds = make(Path(destination), length)
            click.echo(f"{length:,} rows made in {seconds:.0f} s", err=True)
            for command in COMMANDS:
                runs.append({"command": command, "rows": length} | measured(command, destination))
                click.echo(line(runs[-1]))
            runs[-1]["bytes"] = (Path(destination) / "report.html").stat().st_size
    path = HERE / "results" / "by_length.json"
    path.write_text(json.dumps(circumstances | {"runs": runs}, indent=2) + "\n", encoding="utf-8")


def measured(command: str, destination: str) -> dict[str, Any]:
    """Return the seconds and the peak of memory of one command, which must succeed."""
    started = time.monotonic()
    arguments = [command, destination, *(["--thumbnails", "0"] if command == "pipeline.report" else [])]
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise click.ClickException(
            f"{command} ended with status {done.returncode}:\n{done.stdout}{done.stderr[-4000:]}"
        )
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(int(re.findall(r"VmHWM:\s*(\d+) kB", done.stdout)[-1]) / 1024),
    }


def line(run: dict[str, Any]) -> str:
    """Return one measurement for people. Pure."""
    rate = run["rows"] / run["seconds"]
    what = f"{run['command']:<16} {run['rows']:>12,} rows"
    return f"{what} {run['seconds']:>8.1f} s {rate:>10,.0f} rows/s {run['peak_mib']:>6} MiB at most"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the figures."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("pyarrow", "numpy", "fsspec")}


if __name__ == "__main__":
    main()
