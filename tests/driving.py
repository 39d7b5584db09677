"""A driver on a cluster inside the test's process, real storage, and a plain function in the model's place."""

import io
import threading
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
from PIL import Image

from pipeline.destination import RUN_JSON, SUCCESS, Destination
from pipeline.engine.drive import Driver, Limits
from pipeline.engine.graph import Batching
from pipeline.engine.worker import Job, prepared_workers
from pipeline.records import Transform
from pipeline.stages.listing import Selection, select
from pipeline.storage import open_storage, options_from_environment, resolve_url
from tests.stand_ins import load_brightest

TRANSFORM = Transform(resize_size=10, crop_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
BREED_FOLDER = "n02085620-Chihuahua"


class Watcher:
    """Remembers what a driver tells of its progress."""

    def __init__(self):
        self.totals, self.is_closed, self.n_classified, self.n_found, self.tallies = None, False, 0, 0, []

    def planned(self, totals, *, is_closed):
        self.totals, self.is_closed = totals, is_closed

    def found(self, n_images):
        self.n_found += n_images

    def classified(self, n_images):
        self.n_classified += n_images

    def committed(self, tally):
        self.tallies.append(replace(tally))


def draw(path, shade):
    """Draw an image that `tests.stand_ins.brightest` answers with `shade`."""
    Image.new("RGB", (12, 10), (shade,) * 3).save(path)


def draw_folder(folder: Path, n_images: int) -> str:
    """Draw images of which number *i* has the shade 5 *i* (modulo 256), and return the URL of their source."""
    breed = folder / BREED_FOLDER
    breed.mkdir(parents=True)
    for i in range(n_images):
        draw(breed / f"n02085620_{i:03d}.png", 5 * i % 256)
    return resolve_url(str(folder))


def new_job(destination_url: str, load_model=load_brightest, fingerprint="f" * 64) -> Job:
    options = options_from_environment()
    destination = Destination(destination_url, options)
    return Job(f"20261120T000000-{uuid4().hex[:6]}", fingerprint, destination, options, TRANSFORM, load_model)


def listing_of(source):
    return lambda: select(open_storage(source, options_from_environment()).list_pages(source), Selection(source))


def refs_of(source):
    return listing_of(source)()


def mark_complete(destination):
    """Conclude as the command does."""
    return lambda _totals, _tally: destination.write(SUCCESS, b"")


def driver_of(client, job, watcher, *, batching=Batching(batch_size=8), limits=Limits(), stop=None):  # noqa: B008
    job.destination.write_new_json(RUN_JSON, {"fingerprint": job.fingerprint})
    return Driver(client, job, batching, limits, watcher, stop or threading.Event())


def drive(client, job, listed, *, part_size=20, retry_failed=False, **settings):
    """Carry a run to its end as the command does; return the plan's totals, the counts, and who watched."""
    watcher = Watcher()
    driver = driver_of(client, job, watcher, **settings)
    conclude = mark_complete(job.destination)
    with prepared_workers(client, job):
        return (*driver.run(listed, part_size, conclude, retry_failed=retry_failed), watcher)


def rows_of(destination):
    """Return every row of the outcomes, read as plain Parquet."""
    names = sorted(name for name in destination.names() if name.startswith("outcomes/"))
    return [row for name in names for row in pq.read_table(io.BytesIO(destination.read(name))).to_pylist()]
