"""What ``pipeline.plan`` says beforehand, against what the run then takes: ``python -m benchmarks.plan_against_run``.

The demo's drawings, those included that are no usable image, are put into a bucket so many times under new names. Both
commands run as a person types them, one after the other, on the same S3 server and on whatever cluster OPTIONS name.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.bench import RESULTS
from benchmarks.machine import machine
from benchmarks.server import rclone_server
from pipeline.demo.home import made_images, made_weights
from pipeline.demo.s3 import CREDENTIALS
from pipeline.running.provenance import versions

ROOT = Path(__file__).parent.parent

GOAL = 0.25
"""How far the time may be from what was planned, as a share of it."""

_BUCKET = "planned"
_NUMBERS_APART = 100
"""Between the numbers of one drawing's copies."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--times", default=10, show_default=True, type=click.IntRange(min=1), help="Copies of each drawing.")
@click.option("--folder", default="demo", show_default=True, help="Where the demo keeps drawings and weights.")
@click.option(
    "--output", default=RESULTS / "plan_against_run.json", type=click.Path(path_type=Path), help="Where figures go."
)
@click.option("--price", "prices", multiple=True, type=(str, str), help="For the plan: core-hour 0.05 and the like.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(times: int, folder: str, output: Path, prices: list[tuple[str, str]], options: tuple[str, ...]) -> None:
    """Plan, run, and hold the one against the other. OPTIONS go to both commands."""
    home = Path(folder)
    weights = str(made_weights(home, click.echo).resolve())
    drawings = made_images(home, click.echo)
    with TemporaryDirectory(prefix="plan-", dir=home) as scratch:
        root, saved = Path(scratch) / "buckets", Path(scratch) / "plan.json"
        copy_drawings(drawings, root / _BUCKET, times)
        with rclone_server(root, Path(scratch) / "rclone.log") as endpoint:
            environment = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
            circumstances = {"machine": machine(), "versions": versions(), "options": options}
            ends = (f"s3://{_BUCKET}/Images", f"s3://{_BUCKET}/outcomes", "--weights", weights, *options)
            priced = [word for name, price in prices for word in (f"--price-{name}", price)]
            _command(environment, "plan", *ends, *priced, "--save", str(saved))
            _command(environment, "run", *ends, "--planned", str(saved))
        plan = json.loads(saved.read_text(encoding="utf-8"))
        record = json.loads((root / _BUCKET / "outcomes" / "run.json").read_text(encoding="utf-8"))
    told = circumstances | compared(plan, record)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    click.echo(table(told))


def compared(plan: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return planned, taken, and the second over the first, of a plan's JSON and the run's ``run.json``."""
    session, counts = record["sessions"][-1], record["counts"]
    asked = plan["requests"]["until_stored"]
    failed = plan["failures"]["n_images"]["all"]
    took_s = session["timings_s"]["total"]
    return {
        "n_images": counts["n_images"],
        "time_s": plan["seconds"] | _ratio(plan["seconds"]["expected"], took_s),
        "is_time_within_goal": abs(took_s / plan["seconds"]["expected"] - 1) <= GOAL,
        "is_time_in_range": plan["seconds"]["low"] <= took_s <= plan["seconds"]["high"],
        "requests": {kind: _ratio(n, session["requests"].get(kind, 0)) for kind, n in asked.items()},
        "failures": failed | _ratio(failed["expected"], counts["n_failed"]),
        "are_failures_in_range": failed["low"] <= counts["n_failed"] <= failed["high"],
    }


def table(told: dict[str, Any]) -> str:
    """Return the comparison for people."""
    rows = {"seconds": told["time_s"], "failed images": told["failures"]} | told["requests"]
    lines = [f"{told['n_images']:,} images{'planned':>18}{'took':>12}{'ratio':>8}"]
    for name, row in rows.items():
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        span = f"  range {row['low']:,.1f} to {row['high']:,.1f}" if "low" in row else ""
        lines.append(f"{name:<18}{row['planned']:>14,.1f}{row['took']:>12,.1f}{ratio:>8}{span}")
    return "\n".join([*lines, f"time within {GOAL:.0%}: {'yes' if told['is_time_within_goal'] else 'no'}"])


def copy_drawings(drawings: Path, bucket: Path, times: int) -> None:
    """Put every drawing into a bucket that is a folder so many times, under new names: links, not bytes."""
    for path in sorted(drawings.rglob("*.*")):
        wnid, _, number = path.stem.rpartition("_")
        for copy in range(times):
            name = f"{wnid}_{int(number) + copy * _NUMBERS_APART}{path.suffix}"
            target = bucket / path.relative_to(drawings).with_name(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)


def _ratio(planned: float, took: float) -> dict[str, Any]:
    return {
        "planned": round(planned, 2),
        "took": round(took, 2),
        "ratio": round(took / planned, 3) if planned else None,
    }


def _link(target: Path, path: Path) -> None:
    try:
        os.link(target, path)
    except OSError:  # another file system
        shutil.copyfile(target, path)


def _command(environment: dict[str, str], name: str, *args: str) -> None:
    command = [sys.executable, "-m", f"pipeline.{name}", *args]
    click.echo(f"\n$ python -m pipeline.{name} {' '.join(args)}")
    status = subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode
    if status:
        raise click.ClickException(f"pipeline.{name} ended with status {status}")


if __name__ == "__main__":
    main()
