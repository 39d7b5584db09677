"""What workers without a model add to one that has it: ``python -m benchmarks.mixed``.

The worker with the model is tied to one core, its device (a stand-in that takes its time and no core) beside it; the
helper has a core of its own. Where decoding or reading is the bottleneck the helper should add what it has; where the
model is, it should cost nothing, and few pixels should cross over. In turn and repeated; a ratio compares two runs of
one pair.
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.bottlenecks import Case
from benchmarks.case_run import Run, draw, run_case
from benchmarks.machine import machine
from pipeline.running.provenance import versions

RESULTS = Path(__file__).parent / "results" / "mixed.json"

CASES = [
    Case("decode", "1 more core", "large", 400, threads=3, cores=1, crop_size=224, model_s=0.01),
    Case("read", "one more worker", "small", 800, threads=3, cores=1, crop_size=224, read_s=0.4),
    Case("inference", "one more worker with a model", "small", 800, threads=3, cores=1, crop_size=224, model_s=0.03),
]


@click.command()
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1), help="Pairs of runs of each case.")
def main(repeats: int) -> None:
    """Measure each case alone and helped in turn; print a table, keep the figures as JSON."""
    circumstances = {"machine": machine(), "versions": versions()}
    with TemporaryDirectory() as folder:
        draw(Path(folder), {case.images: case.n_images for case in CASES})
        told = [helped(Path(folder), case, repeats) for case in CASES]
    RESULTS.write_text(json.dumps(circumstances | {"cases": told}, indent=2) + "\n", encoding="utf-8")


def helped(folder: Path, case: Case, repeats: int) -> dict[str, Any]:
    """Run a case alone and with one helper in turn; return the figures of both."""
    pairs = [(run_case(folder, case), run_case(folder, replace(case, helpers=1))) for _ in range(repeats)]
    gains = sorted(both.images_per_s / alone.images_per_s for alone, both in pairs)
    told = {
        "bound_by": case.bound_by,
        "alone": [_figures(alone, case) for alone, _ in pairs],
        "helped": [_figures(both, case) for _, both in pairs],
        "gain": {"median": round(median(gains), 2), "min": round(gains[0], 2), "max": round(gains[-1], 2)},
    }
    over = median(both.received_bytes for _, both in pairs) / (case.n_images * 3 * case.crop_size**2)
    click.echo(
        f"{case.bound_by:<10} alone {median(alone.images_per_s for alone, _ in pairs):6.1f} images/s, with a helper "
        f"{median(gains):.2f} ({gains[0]:.2f}-{gains[-1]:.2f}) times that; {over:.0%} of the pixels crossed over"
    )
    return told


def _figures(run: Run, case: Case) -> dict[str, Any]:
    return {
        "images_per_s": round(run.images_per_s, 2),
        "verdict": str(run.verdict),
        "received_bytes": run.received_bytes,
        "pixel_bytes": case.n_images * 3 * case.crop_size**2,
    }


if __name__ == "__main__":
    main()
