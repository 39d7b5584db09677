"""Complete destinations of made-up images, of any length, for benchmarks. Effects: files.

The last tenth of the images were added by a second run, so that its pages lie across those of the first. The answers
are those of a model that recognises four of five dogs, and is as often right as it claims.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config import RunConfig
from pipeline.engine.plan import PlanTotals
from pipeline.records import ModelSpec, Tally, Transform
from pipeline.running.fingerprint import fingerprint
from pipeline.running.provenance import Session, begin, conclude
from pipeline.stages.labels import breeds, categories
from pipeline.stages.outcomes import OUTCOMES_SCHEMA, PLAN_SCHEMA

PART_SIZE = 1280
PAGE_SIZE = 64 * PART_SIZE
SPEC = ModelSpec("resnet50", "dogs.pth", "a" * 64, Transform(232, 224, (0.5,) * 3, (0.2,) * 3), "fp32")
SOURCE = "s3://my-training-data/photos"


def make(folder: Path, n_images: int) -> float:
    """Make a complete destination of so many images; return the seconds that it took."""
    started = time.monotonic()
    (folder / "plan").mkdir()
    (folder / "outcomes").mkdir()
    tally, n_parts = Tally(), 0
    for number, page in enumerate(pages(n_images)):
        n_page_parts = -(-len(page) // PART_SIZE)
        parts = n_parts + np.arange(len(page), dtype=np.int32) // PART_SIZE
        _write(page.append_column("part", pa.array(parts, pa.int32())).cast(PLAN_SCHEMA), folder / _page(number))
        rows = answered(page)
        for part in range(n_page_parts):
            _write(rows.slice(part * PART_SIZE, PART_SIZE), folder / _part(n_parts + part))
        tally.add(_tally(rows))
        n_parts += n_page_parts
    (folder / "plan/_CLOSED").write_text(json.dumps({"n_images": n_images, "n_parts": n_parts}))
    totals = PlanTotals(n_images, n_parts)
    (folder / "run.json").write_text(json.dumps(record(folder, totals, tally)))
    (folder / "_SUCCESS").touch()
    return time.monotonic() - started


def pages(n_images: int) -> Iterator[pa.Table]:
    """Yield the pages of a plan without their parts: every tenth image came with a second listing."""
    images = np.arange(n_images)
    for generation in (images[images % 10 != 5], images[images % 10 == 5]):
        for start in range(0, len(generation), PAGE_SIZE):
            yield identities(generation[start : start + PAGE_SIZE])


def identities(images: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Table:
    """Return made-up images by their numbers, in the order of their URLs: 70 characters, and an MD5's 32."""
    names = pc.utf8_lpad(pa.array(images // 1000).cast(pa.string()), 8, "0")
    numbers = pc.utf8_lpad(pa.array(images).cast(pa.string()), 12, "0")
    urls = pc.binary_join_element_wise(
        f"{SOURCE}/2026",
        names,
        pc.binary_join_element_wise("img", numbers, "original.jpg", "_"),
        "/",
    )
    hexes = np.frombuffer(np.random.default_rng(int(images[0])).bytes(16 * len(images)).hex().encode(), "S32")
    etags = pa.array(hexes).cast(pa.string())
    return pa.table({"image": urls, "etag": etags, "size_bytes": 60_000 + images % 70_000})


def answered(page: pa.Table) -> pa.Table:
    """Return made-up outcomes of images, all classified and of known truth."""
    n, dogs = len(page), breeds()
    random = np.random.default_rng(n)
    of_breeds = np.array([breed.class_index for breed in dogs], np.int16)
    breed = random.integers(0, len(dogs), n, dtype=np.int32)
    probability = random.beta(4, 1, n).astype(np.float32)
    is_right = random.random(n) < probability
    answer = of_breeds[np.where(is_right, breed, (breed + random.integers(1, 12, n)) % len(dogs))]
    others = random.integers(0, 1000, (n, 4), dtype=np.int16)
    chances = np.sort(random.random((n, 4), np.float32) * (1 - probability[:, None]) / 4)[:, ::-1]
    columns = {
        "wnid": _named([breed.wnid for breed in dogs], breed),
        "breed": _named([breed.name for breed in dogs], breed),
        "truth_index": of_breeds[breed],
        "status": _same("ok", n),
        "stage": pa.nulls(n, pa.string()),
        "reason": pa.nulls(n, pa.string()),
        "class_index": answer,
        "category": _named(categories(), answer.astype(np.int32)),
        "probability": probability,
        "top5_index": _fives(np.column_stack([answer, others])),
        "top5_probability": _fives(np.column_stack([probability, chances])),
        "correct": is_right,
        "correct_top5": is_right | (random.random(n) < 0.5),
        "breed_class_index": answer,
        "breed_probability": probability,
        "correct_breed": is_right,
        "width": random.integers(200, 3000, n, dtype=np.int32),
        "height": random.integers(200, 3000, n, dtype=np.int32),
        "batch_id": _same("000003-07", n),
    }
    tables = {name: page[name] for name in page.column_names} | columns
    rows = pa.table({name: tables[name] for name in OUTCOMES_SCHEMA.names}, schema=OUTCOMES_SCHEMA)
    return rows.replace_schema_metadata({b"fingerprint": fingerprint(SPEC)})


def record(destination: Path, totals: PlanTotals, tally: Tally) -> dict[str, Any]:
    """Return what run.json would tell."""
    config = RunConfig(SOURCE, str(destination), weights=SPEC.weights, precision=SPEC.precision)
    begun = begin("20261120T101010-abcdef", config, SOURCE, SPEC)
    timings_s = {"check": 2.5, "connect": 3.5, "compute": 3600.0}
    session = Session("20261120T101010-abcdef", begun["started_at"], tally.n_images, timings_s, {}, None, {}, "no")
    return conclude(begun, totals, tally, session)


def _tally(rows: pa.Table) -> Tally:
    n = len(rows)
    hits = {name: pc.sum(rows[name]).as_py() or 0 for name in ("correct", "correct_top5", "correct_breed")}
    return Tally(n, n, n, hits["correct"], hits["correct_top5"], n, hits["correct_breed"])


def _named(names: Sequence[str], indices: NDArray[np.int32]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(indices, list(names)).cast(pa.string())


def _fives(values: NDArray[Any]) -> pa.Array:
    return pa.ListArray.from_arrays(np.arange(0, values.size + 1, 5, dtype=np.int32), values.ravel())


def _page(number: int) -> str:
    return f"plan/page-{number:06d}.parquet"


def _part(number: int) -> str:
    return f"outcomes/part-{number:06d}.parquet"


def _same(text: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [text]).cast(pa.string())


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
