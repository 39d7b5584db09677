"""How long ``python -m pipeline.verify`` takes, and how much memory, by the length of the table.

``python -m benchmarks.verify --rows 10_000_000`` makes destinations on a local disk, of up to so many images, then
verifies each in a process of its own. What is planned twice is looked for too: the last tenth of the images were added
by a second run, so that its pages lie across those of the first. Memory should not grow with the table; seconds should
grow with nothing else. Peaks are the process's whole resident set, libraries included.
"""

import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.machine import machine
from pipeline.stages.outcomes import OUTCOMES_SCHEMA, PLAN_SCHEMA

PART_SIZE = 1280
PAGE_SIZE = 64 * PART_SIZE
FINGERPRINT = "f" * 64

VERIFY = """
import sys
from pathlib import Path
from pipeline.verify import main
status = main(sys.argv[1:])
print(Path("/proc/self/status").read_text())  # getrusage would tell the peak of whoever started this process
sys.exit(status)
"""

HERE = Path(__file__).parent


@click.command()
@click.option("--rows", default="10_000_000", show_default=True, help="Images of the longest table.")
@click.option(
    "--folder", type=click.Path(file_okay=False), help="Where the tables are made (default: a temporary one)."
)
def main(rows: str, folder: str | None) -> None:
    """Measure verify on tables of 100 thousand and 1 million rows and of ROWS; print a table, keep the figures."""
    lengths = sorted({length for length in (100_000, 1_000_000) if length < int(rows)} | {int(rows)})
    circumstances = {"machine": machine(), "versions": versions()}
    runs = []
    for length in lengths:
        with TemporaryDirectory(dir=folder) as destination:
            seconds = make(Path(destination), length)
            click.echo(f"{length:,} rows made in {seconds:.0f} s", err=True)
            runs.append({"rows": length} | verified(destination))
        click.echo(line(runs[-1]))
    path = HERE / "results" / "verify.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(circumstances | {"runs": runs}, indent=2) + "\n", encoding="utf-8")


def make(folder: Path, n_images: int) -> float:
    """Make a complete destination of so many images; return the seconds that it took."""
    started = time.monotonic()
    (folder / "plan").mkdir()
    (folder / "outcomes").mkdir()
    counts, n_parts = np.zeros(4, np.int64), 0
    for number, page in enumerate(pages(n_images)):
        n_page_parts = -(-len(page) // PART_SIZE)
        parts = n_parts + np.arange(len(page), dtype=np.int32) // PART_SIZE
        _write(page.append_column("part", pa.array(parts, pa.int32())).cast(PLAN_SCHEMA), folder / _page(number))
        rows = answered(page)
        for part in range(n_page_parts):
            _write(rows.slice(part * PART_SIZE, PART_SIZE), folder / _part(n_parts + part))
        counts += [pc.sum(rows[name]).as_py() or 0 for name in ("correct", "correct_top5", "correct_breed")] + [
            len(rows)
        ]
        n_parts += n_page_parts
    (folder / "plan/_CLOSED").write_text(json.dumps({"n_images": n_images, "n_parts": n_parts}))
    (folder / "run.json").write_text(json.dumps(record(*counts.tolist())))
    (folder / "_SUCCESS").touch()
    return time.monotonic() - started


def pages(n_images: int) -> Iterator[pa.Table]:
    """Yield the pages of a plan without their parts: every tenth image came with a second listing."""
    images = np.arange(n_images)
    for generation in (images[images % 10 != 5], images[images % 10 == 5]):
        for begin in range(0, len(generation), PAGE_SIZE):
            yield identities(generation[begin : begin + PAGE_SIZE])


def identities(images: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Table:
    """Return made-up images by their numbers, in the order of their URLs: 70 characters, and an MD5's 32."""
    names = pc.utf8_lpad(pa.array(images // 1000).cast(pa.string()), 8, "0")
    numbers = pc.utf8_lpad(pa.array(images).cast(pa.string()), 12, "0")
    urls = pc.binary_join_element_wise(
        "s3://my-training-data/photos/2026",
        names,
        pc.binary_join_element_wise("img", numbers, "original.jpg", "_"),
        "/",
    )
    hexes = np.frombuffer(np.random.default_rng(int(images[0])).bytes(16 * len(images)).hex().encode(), "S32")
    etags = pa.array(hexes).cast(pa.string())
    return pa.table({"image": urls, "etag": etags, "size_bytes": 60_000 + images % 70_000})


def answered(page: pa.Table) -> pa.Table:
    """Return made-up outcomes of images, all classified and of known truth."""
    n = len(page)
    random = np.random.default_rng(n)
    classes = random.integers(0, 1000, n, dtype=np.int16)
    top5 = pa.ListArray.from_arrays(
        np.arange(0, 5 * n + 1, 5, dtype=np.int32), random.integers(0, 1000, 5 * n, np.int16)
    )
    chances = pa.ListArray.from_arrays(np.arange(0, 5 * n + 1, 5, dtype=np.int32), random.random(5 * n, np.float32))
    columns = {
        "wnid": _same("n02106030", n),
        "breed": _same("collie", n),
        "truth_index": classes,
        "status": _same("ok", n),
        "stage": pa.nulls(n, pa.string()),
        "reason": pa.nulls(n, pa.string()),
        "class_index": classes,
        "category": _same("collie", n),
        "probability": random.random(n, np.float32),
        "top5_index": top5,
        "top5_probability": chances,
        "correct": random.random(n) < 0.8,
        "correct_top5": random.random(n) < 0.95,
        "breed_class_index": classes,
        "breed_probability": random.random(n, np.float32),
        "correct_breed": random.random(n) < 0.9,
        "width": np.full(n, 500, np.int32),
        "height": np.full(n, 375, np.int32),
        "batch_id": _same("000003-07", n),
    }
    tables = {name: page[name] for name in page.column_names} | columns
    rows = pa.table({name: tables[name] for name in OUTCOMES_SCHEMA.names}, schema=OUTCOMES_SCHEMA)
    return rows.replace_schema_metadata({b"fingerprint": FINGERPRINT})


def record(top1: int, top5: int, breed: int, n: int) -> dict[str, Any]:
    """Return what run.json would tell."""
    hits = {"top1": top1, "top5": top5, "breed": breed}
    return {
        "fingerprint": FINGERPRINT,
        "counts": {"n_images": n, "n_ok": n, "n_failed": 0, "failures": []},
        "accuracy": {name: {"n": n, "n_hits": n_hits, "value": n_hits / n} for name, n_hits in hits.items()},
    }


def verified(destination: str) -> dict[str, Any]:
    """Return the seconds and the peak of memory of one verification, which must prove the destination."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", VERIFY, destination], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise click.ClickException(f"verify ended with status {done.returncode}:\n{done.stdout}{done.stderr[-4000:]}")
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(int(re.findall(r"VmHWM:\s*(\d+) kB", done.stdout)[-1]) / 1024),
    }


def line(run: dict[str, Any]) -> str:
    """Return one measurement for people. Pure."""
    rate = run["rows"] / run["seconds"]
    return f"{run['rows']:>12,} rows {run['seconds']:>8.1f} s {rate:>10,.0f} rows/s {run['peak_mib']:>6} MiB at most"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the figures."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("pyarrow", "numpy", "fsspec")}


def _page(number: int) -> str:
    return f"plan/page-{number:06d}.parquet"


def _part(number: int) -> str:
    return f"outcomes/part-{number:06d}.parquet"


def _same(text: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [text]).cast(pa.string())


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


if __name__ == "__main__":
    main()
