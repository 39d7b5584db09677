"""Finished runs made by hand: a table of outcomes, stored as a run leaves it, with the record that a run writes."""

import io
from collections import Counter

import pyarrow.parquet as pq

from pipeline.config import RunConfig
from pipeline.destination import RUN_JSON, SUCCESS, Destination, part_name
from pipeline.engine.account import Account
from pipeline.engine.plan import PlanTotals
from pipeline.records import ModelSpec, Tally, Transform, WorkerFacts
from pipeline.running.provenance import Stopwatch, begin, conclude, told_session
from pipeline.stages.outcomes import tally_of
from pipeline.storage import options_from_environment, resolve_url
from tests.driving import refs_of
from tests.tables import answered, failed, outcomes_of

TRANSFORM = Transform(resize_size=232, crop_size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ROWS_PER_PART = 1280


def store_run(folder, outcomes, source="s3://bucket/dogs/Images", *, precision="fp32", run_id="20261120T101010-abcdef"):
    """Store a table as a finished run's, and return its destination."""
    destination = Destination(resolve_url(str(folder)), options_from_environment())
    config = RunConfig(source, destination.url, precision=precision, weights="dogs.pth")
    spec = ModelSpec("resnet50", "dogs.pth", "a" * 64, TRANSFORM, precision)
    tally, n_parts = Tally(), 0
    for n_parts, start in enumerate(range(0, max(1, len(outcomes)), ROWS_PER_PART), start=1):
        sink = io.BytesIO()
        pq.write_table(outcomes.slice(start, ROWS_PER_PART), sink, compression="zstd")
        destination.write(part_name(n_parts - 1), sink.getvalue())
        tally.add(tally_of(sink.getvalue()))
    record = conclude(
        begin(run_id, config, source, spec),
        PlanTotals(n_images=len(outcomes), n_parts=n_parts),
        tally,
        _session(run_id, tally),
    )
    destination.write_json(RUN_JSON, record)
    destination.write(SUCCESS, b"")
    return destination


def store_drawn_run(folder, objects):
    """Lay drawings into a folder, store a run over them that made up its answers, and return its destination."""
    for key, data in objects:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    source = resolve_url(str(folder / "Images"))
    rows = [
        answered(151 + i % 5, 151 + i % 4, 0.3 + i / 100, image=ref.url, etag=ref.etag, size_bytes=ref.size_bytes)
        for i, ref in enumerate(refs_of(source))
    ]
    outcomes = outcomes_of([*rows, failed(), failed("read", "gone since it was listed")])
    return store_run(folder / "out", outcomes, source)


def _session(run_id, tally):
    stopwatch = Stopwatch()
    stopwatch.timings_s |= {"check": 2.5, "connect": 3.5, "compute": 52.0}
    account = Account(n_scored=tally.n_images, n_first=tally.n_images // 4, requests=Counter(read=tally.n_images))
    if tally.n_images:
        account.first_batch, account.last_commit = stopwatch.started + 9, stopwatch.started + 57
    account.spent_s.update({"read": 4.0, "decode": 11.0, "wait": 60.0, "infer": 62.0, "commit": 0.5, "cpu": 90.0})
    facts = WorkerFacts(host="10.0.0.7", n_slots=3, n_cores=2, has_model=True)
    return told_session(run_id, stopwatch, account, [facts], "no: too few images")
