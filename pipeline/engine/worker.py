"""What a worker process holds for a run: its settings and its inference thread. Set up by a Dask worker plugin.

Importing this module also tells Dask the true size of the records that hold pixels: without it each counts 64 bytes,
and no worker would ever be seen to fill up.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from dask.sizeof import sizeof
from distributed import Client, Scheduler, Status, Worker, WorkerPlugin, get_worker

from pipeline.destination import Destination
from pipeline.engine.allocator import mend_allocator
from pipeline.engine.balance import LastAnswer
from pipeline.engine.caretaker import Caretaker
from pipeline.engine.inference import InferenceThread, usable_cores
from pipeline.engine.isolation import DECODE_S, n_abandoned
from pipeline.engine.profiler import stop_profiler_if_it_can_hang
from pipeline.engine.spending import Spending
from pipeline.errors import ClusterError
from pipeline.records import ImageBatch, Pipelined, Predict, Sample, Transform, WorkerFacts
from pipeline.stages.classes import Classes
from pipeline.stages.outcomes import BY_PATH
from pipeline.storage import StorageOptions, counted_for, requests_since_last

logger = logging.getLogger("pipeline")

FORGET_S = 10.0
"""Seconds that workers have for letting go of a run."""

HUNG_S = 30.0
"""Seconds after a run's end in which its threads must have come to theirs."""

_REFERENCES_BYTES = 400
"""About what an image's address and version take."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every task of a run needs to know; travels to each worker once, not with each task."""

    run_id: str

    fingerprint: str
    """Decides whether predictions are interchangeable; a task refuses a worker that holds another."""

    destination: Destination

    source_options: StorageOptions

    transform: Transform

    load_model: Callable[[], Predict | Pipelined]
    """Loads the model that the fingerprint stands for, in the worker's process."""

    categories: tuple[str, ...] | None = None
    """Names of the model's classes, by index; None is ImageNet's."""

    labels: str = BY_PATH
    """By which labels the answers are judged; the labels themselves travel with the images."""

    decode_s: float = DECODE_S
    """Seconds that decoding one image may take."""

    model_resource: str | None = None
    """The Dask resource of the workers that load the model; None is every worker."""

    @property
    def plugin_name(self) -> str:
        """Named by run and fingerprint: a worker never scores one run with another's weights."""
        return f"pipeline-{self.run_id}-{self.fingerprint[:16]}"


class PipelinePlugin(WorkerPlugin):  # type: ignore[misc]
    """Prepares a worker process for a run, quickly: the model loads on its own thread while images are read."""

    idempotent = True

    def __init__(self, job: Job) -> None:
        self.job = job
        self.name = job.plugin_name
        self.spending = Spending()
        self.inference: InferenceThread | None = None

    def setup(self, worker: Worker) -> None:
        """Mend the process and start the inference thread."""
        mend_allocator()
        stop_profiler_if_it_can_hang(worker)
        if self.job.model_resource in (None, *worker.state.total_resources):
            self.inference = InferenceThread(self._load, usable_cores(worker.state.nthreads), self.spending)
            worker.metrics[self.name] = self._last_answer

    def teardown(self, worker: Worker) -> None:
        """Let the model go; the worker stays as it was found, or a new process takes its place if a thread hangs."""
        if self.inference is not None:
            self.inference.close()
            del worker.metrics[self.name]
        worker.loop.call_later(HUNG_S, _replace_if_hung, worker, self.inference)

    def _load(self) -> Predict | Pipelined:
        with counted_for(self.name):
            return self.job.load_model()

    @cached_property
    def classes(self) -> Classes:
        """The classes of the run's model."""
        return Classes(self.job.categories)

    def _last_answer(self, _: Worker) -> LastAnswer | None:
        return self.inference.last_answer if self.inference is not None else None

    def __getstate__(self) -> dict[str, Job]:
        return {"job": self.job}

    def __setstate__(self, state: dict[str, Job]) -> None:
        self.__init__(state["job"])  # type: ignore[misc]


def _replace_if_hung(worker: Worker, inference: InferenceThread | None) -> None:
    """End a process that a thread of the run still holds, for its nanny to begin another: no thread can be stopped."""
    hangs = n_abandoned() or (inference is not None and inference.is_busy)
    if hangs and worker.nanny is not None and worker.status == Status.running:
        logger.warning("a thread of a run that is over hangs in %s: its process is replaced", worker.address)
        os._exit(1)


@contextmanager
def prepared_workers(client: Client, job: Job) -> Iterator[None]:
    """Prepare every worker of a cluster, those that join later too, and leave them as they were.

    That holds for a driver that is killed too: then a plugin of the scheduler does it.

    Raises
    ------
    ClusterError
        If a worker cannot be prepared: as a rule it lacks this package.
    """
    plugin, caretaker = PipelinePlugin(job), Caretaker(client.id, job.plugin_name)
    try:
        client.register_plugin(caretaker)
        client.register_plugin(plugin)
    except Exception as error:
        _forget(client, plugin.name, caretaker.name)
        raise ClusterError(f"a worker cannot be prepared ({error}): install the pipeline there as here") from error
    try:
        yield
    finally:
        _forget(client, plugin.name, caretaker.name)


def model_resource(client: Client, name: str) -> str | None:
    """Return the name if some worker of the cluster has that Dask resource, so that the others go without the model."""
    return name if client.run_on_scheduler(_is_offered, name) else None


def _is_offered(resource: str, dask_scheduler: Scheduler) -> bool:
    return any(resource in worker.resources for worker in dask_scheduler.workers.values())


def worker_facts(client: Client, job: Job, workers: Sequence[str] | None = None) -> list[WorkerFacts]:
    """Return what the workers of a run have, or those among them that are named, as far as they say so in time."""
    return told_by_workers(client, _facts, job.plugin_name, workers=workers)


def await_models(client: Client, job: Job, timeout_s: float) -> None:
    """Return once every worker of a run has loaded its model, or could not, or the time is over."""
    told_by_workers(client, _loaded, job.plugin_name, timeout_s=timeout_s)


def told_by_workers(
    client: Client,
    question: Callable[..., Any],
    *args: Any,
    workers: Sequence[str] | None = None,
    timeout_s: float = FORGET_S,
) -> list[Any]:
    """Return what the workers say to a question, all or those that are named, as far as they do so in time."""
    ask = partial(client._run, question, *args, workers=workers, on_error="ignore")  # noqa: SLF001  as in _forget
    try:
        told = client.sync(ask, callback_timeout=timeout_s)
    except Exception as error:  # noqa: BLE001  what is only told must not decide how a run ends
        logger.warning("could not ask the workers (%s): %s", question.__name__, error)
        return []
    return list(told.values())


def can_anyone_infer(client: Client, job: Job) -> bool:
    """Return whether a worker of a run has its model, or may get it yet; true where nobody can be asked."""
    told = told_by_workers(client, _can_infer, job.plugin_name)
    return any(told) or not told


async def _can_infer(plugin_name: str, dask_worker: Worker) -> bool:
    inference = dask_worker.plugins[plugin_name].inference
    if inference is None:
        return False
    loading = asyncio.ensure_future(inference.loaded())
    await asyncio.wait([loading], timeout=FORGET_S / 2)
    return not loading.done() or loading.exception() is None


async def _loaded(plugin_name: str, dask_worker: Worker) -> None:
    inference = dask_worker.plugins[plugin_name].inference
    if inference is not None:
        await inference.loaded()


def _facts(plugin_name: str, dask_worker: Worker) -> WorkerFacts:
    plugin = dask_worker.plugins[plugin_name]
    return WorkerFacts(
        host=dask_worker.ip,
        n_slots=dask_worker.state.nthreads,
        n_cores=usable_cores(sys.maxsize),
        has_model=plugin.inference is not None,
        requests=requests_since_last(plugin_name),
        spent_s=plugin.spending.since_last(),
    )


def _forget(client: Client, plugin_name: str, caretaker_name: str) -> None:
    """Take the plugins away; a cluster that cannot any more must not decide how a run ends."""
    if client.status != "running":
        return
    # The public method of the first waits without limit for a worker that hangs. The caretaker goes last: where this is
    # stopped in between, it sees to the rest.
    for forget, name in (
        (client._unregister_worker_plugin, plugin_name),  # noqa: SLF001
        (client.scheduler.unregister_scheduler_plugin, caretaker_name),
    ):
        try:
            client.sync(forget, name=name, callback_timeout=FORGET_S)
        except Exception as error:  # noqa: BLE001  workers leave at any time
            logger.warning("could not take %s away from every process: %s", name, error)


def current_plugin(plugin_name: str) -> PipelinePlugin:
    """Return the plugin of the worker that runs the calling task.

    Raises
    ------
    RuntimeError
        If this worker was not prepared for the run.
    """
    worker = get_worker()
    plugin = worker.plugins.get(plugin_name)
    if not isinstance(plugin, PipelinePlugin):
        raise RuntimeError(  # noqa: TRY004  None, in practice: the plugin is not there
            f"worker {worker.address} was not prepared for {plugin_name}; restart it"
        )
    return plugin


@sizeof.register(Sample)  # type: ignore[untyped-decorator]
def _sample_bytes(sample: Sample) -> int:
    return int(sample.pixels.nbytes) + _REFERENCES_BYTES


@sizeof.register(ImageBatch)  # type: ignore[untyped-decorator]
def _batch_bytes(batch: ImageBatch) -> int:
    return int(batch.pixels.nbytes) + _REFERENCES_BYTES * (len(batch.refs) + len(batch.failures))
