"""``--tune``: which threads, images per task and device batch are the fastest on the source's first images.

Each number of threads has a local cluster of its own, opened and closed; a remote one is taken as it is. Nothing is
left there, and the destination is not touched.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from distributed import Client

from cluster.connect import is_local
from pipeline.config import RunConfig
from pipeline.engine.trial import Pace, PaceTrial, TrialError
from pipeline.engine.worker import prepared_workers
from pipeline.errors import InterruptedRunError
from pipeline.evaluation.trials import Setting, Trial, Tunable, Tuning, descend
from pipeline.running.provenance import new_run_id
from pipeline.running.provision import Provide, Provision, asked_for, batching_of, is_on_cpu
from pipeline.stages.compiling import micro_batch
from pipeline.stages.peek import Peekable
from pipeline.storage import open_storage

N_BATCHES = 8
"""Batches of different images; trials that need more take them again."""


class Tuner:
    """Makes the trials of one command.

    Parameters
    ----------
    config
        The run that is to be fast. What an option sets is not varied.
    listed
        Whose first images are taken; they will be listed again.
    workers
        Opens or joins workers, and leaves them.
    provided
        Returns what workers are given to do, under a run id and with a setting.
    told
        Is told of each trial when it is over.
    stop
        Set from outside to end it early.
    """

    def __init__(
        self,
        config: RunConfig,
        listed: Peekable,
        workers: Callable[[Setting], AbstractContextManager[Client]],
        provided: Provide,
        told: Callable[[Trial], None],
        stop: threading.Event,
    ) -> None:
        self._config, self._told, self._stop = config, told, stop
        self._refs = listed.first(N_BATCHES * config.batch_size)
        self._workers, self._provided = workers, provided
        self._requests: Counter[str] = Counter()
        self._opened = ExitStack()
        self._client: Client | None = None
        self._n_threads: int | None = None

    def run(self) -> Tuning:
        """Return what was tried, and with it the fastest setting.

        Raises
        ------
        PipelineError
            What would end a run too: the store refuses, the cluster is lost, a signal.
        """
        began = time.monotonic()
        with self._opened:
            start, varied = self._start()
            trials = descend(start, varied, self._config.batch_size, self._measure)
        return Tuning(trials, time.monotonic() - began, self._requests)

    def _start(self) -> tuple[Setting, list[Tunable]]:
        """Return the settings as they would have been, and those of them that are to be varied."""
        config, asked = self._config, asked_for(self._config)
        client = self._connect(asked.threads_per_worker)
        given = self._provided(new_run_id(), asked, client)
        if is_local(config.cluster):
            self._warm_up(given)
        has_slices = is_on_cpu(config, client) and not given.form.is_compiled  # compiled programs have one shape
        device_batch = min(micro_batch(given.spec.precision), config.batch_size) if has_slices else None
        is_free: dict[Tunable, bool] = {
            "threads_per_worker": is_local(config.cluster) and asked.threads_per_worker is None,
            "images_per_task": asked.images_per_task is None,
            "device_batch": has_slices,
        }
        images_per_task = asked.images_per_task or config.batch_size
        return Setting(self._n_threads, images_per_task, device_batch), [name for name in is_free if is_free[name]]

    def _warm_up(self, given: Provision) -> None:
        """Read the images once: or only the first trial would find them in no cache of this machine."""
        storage, size = open_storage(self._refs[0].url, given.job.source_options), self._config.batch_size
        for i in range(0, len(self._refs), size):
            if self._stop.is_set():
                raise InterruptedRunError("stopped on request")
            storage.read_many([(ref.url, ref.etag) for ref in self._refs[i : i + size]])

    def _measure(self, setting: Setting) -> Trial:
        try:
            pace = self._pace(setting)
            self._requests.update(pace.requests)
            trial = Trial(setting, pace.n_images, pace.steady_s)
        except TrialError as error:
            trial = Trial(setting, fault=str(error))
            self._disconnect()  # what comes next should not inherit the harm
        self._told(trial)
        return trial

    def _pace(self, setting: Setting) -> Pace:
        client, config = self._connect(setting.threads_per_worker), self._config
        job, batching = self._provided(new_run_id(), setting, client).job, batching_of(config, setting)
        with prepared_workers(client, job):
            return PaceTrial(client, job, batching, self._refs, config.stall_timeout, self._stop).run()

    def _connect(self, n_threads: int | None) -> Client:
        """Return a client of workers with so many threads, as they were opened last where that fits."""
        if self._client is None or n_threads != self._n_threads:
            self._disconnect()
            self._client = self._opened.enter_context(self._workers(Setting(n_threads)))
            if is_local(self._config.cluster):
                self._n_threads = min(self._client.nthreads().values())
        return self._client

    def _disconnect(self) -> None:
        self._opened.close()
        self._client = None
