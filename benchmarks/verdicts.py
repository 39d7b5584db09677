"""Whether the verdict is right: ``python -m benchmarks.verdicts`` makes each bottleneck by hand, then lifts it.

Every case runs on worker processes of this machine, with a bottleneck that is told in ``bottlenecks.py``; then it runs
once more with more of what the verdict named. The gain that came is held against the gain that was foretold: both are
of the steady throughput, but for a run bounded by its start-up, where the whole counts. Repeated in turn; the median of
the gains decides.
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.bottlenecks import CASES, Case, Lift
from benchmarks.case_run import SIZES, draw, run_case
from benchmarks.machine import machine
from pipeline.running.provenance import versions

TOLERANCE = 0.25


@click.command()
@click.option("--repeats", default=3, show_default=True, help="Pairs of runs for each case.")
@click.option("--only", default=None, help="The bottleneck to try, such as decode.")
def main(repeats: int, only: str | None) -> None:
    """Print a table and keep the figures."""
    circumstances = {"machine": machine(), "versions": versions()}
    with TemporaryDirectory() as folder:
        draw(Path(folder), {size: most_images(size) for size in SIZES})
        told = [tried(Path(folder), case, lift, repeats) for case, lift in CASES if only in (None, case.bound_by)]
    if only is None:
        path = Path(__file__).parent / "results" / "verdicts.json"
        path.write_text(json.dumps(circumstances | {"cases": told}, indent=2) + "\n", encoding="utf-8")
    if not all(case["is_named"] and case["is_within"] for case in told):
        raise click.ClickException("a verdict was wrong")


def most_images(size: str) -> int:
    """Return how many images of a size the cases want at most, lifted or not."""
    return max(2 * case.n_images for case, _ in CASES if case.images == size)


def tried(folder: Path, case: Case, lift: Lift, repeats: int) -> dict[str, Any]:
    """Run a case and its lifted twin in turn; return what was foretold and what came."""
    pairs = [(run_case(folder, case), run_case(folder, replace(case, **lift(case)))) for _ in range(repeats)]
    foretold = median(before.verdict.gain for before, _ in pairs)
    gains = sorted(after.images_per_s / before.images_per_s for before, after in pairs)
    verdicts = [(before.verdict.bound_by, before.verdict.lever) for before, _ in pairs]
    told = {
        "made": case.bound_by,
        "verdict": str(pairs[0][0].verdict),
        "is_named": all(verdict == (case.bound_by, case.lever) for verdict in verdicts),
        "foretold": round(foretold, 2),
        "came": [round(gain, 2) for gain in gains],
        "is_within": abs(median(gains) / foretold - 1) <= TOLERANCE,
    }
    click.echo(f"{case.bound_by:<10} foretold {foretold:.2f} came {told['came']}  {told['verdict']}")
    return told


if __name__ == "__main__":
    main()
