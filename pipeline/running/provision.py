"""From settings to workers and to what they are given to do: a connected client, and the job in the form that suits it.

Some settings are decided only here, by the workers that there are: the precision, and the form of the model.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast

from distributed import Client, Worker

from cluster.connect import ClusterOptions, connect, is_local, local_kind
from cluster.forkserver import start_forkserver
from cluster.security import TlsFiles, worker_as_client
from cluster.upload import uploaded
from pipeline.config import RunConfig
from pipeline.diagnosis.examination import aside, ask, refuse_unfit
from pipeline.diagnosis.software import OURS
from pipeline.engine.graph import Batching
from pipeline.engine.inference import load_classifier, usable_cores
from pipeline.engine.worker import Job, model_resource
from pipeline.errors import ClusterError, UsageError
from pipeline.evaluation.trials import Setting
from pipeline.records import ModelForm, ModelSpec
from pipeline.running.fingerprint import fingerprint
from pipeline.running.preflight import Ends
from pipeline.running.upload import this_package
from pipeline.stages.compiling import Asked, break_even, decide, form_key, form_of
from pipeline.stages.peek import Peekable
from pipeline.stages.precision import fastest_cpu_precision, fastest_precision, has_gpu

_WORKERS_IMPORT = ("distributed.nanny", "pipeline.engine.tasks", "pipeline.stages.model")

_ANSWER_S = 60.0
"""Seconds that a worker has for importing torch and looking at its device."""


@dataclass(frozen=True, slots=True)
class Provision:
    """What the workers of a cluster are given to do."""

    spec: ModelSpec
    """With its precision as resolved."""

    form: ModelForm

    compiled: str
    """Whether the model is compiled, and why, for people."""

    job: Job


Provide: TypeAlias = Callable[[str, Setting, Client], Provision]
"""Returns what the workers of a client are given to do, under a run id and with a setting."""


def asked_for(config: RunConfig) -> Setting:
    """Return what the options say of the settings that decide nothing but speed."""
    return Setting(config.threads_per_worker, config.images_per_task)


def expect_workers(config: RunConfig) -> None:
    """Begin to import what workers on this machine's CPU will need, in the background.

    Raises
    ------
    UsageError
        If the options contradict each other.
    """
    options = cluster_options(config, asked_for(config))
    if local_kind(options.cluster) == "cpu":
        start_forkserver(_WORKERS_IMPORT)


@contextmanager
def joined_workers(config: RunConfig, setting: Setting) -> Iterator[Client]:
    """Yield a client with workers: of a local cluster that is closed afterwards, or of a remote one that is fit.

    Raises
    ------
    UsageError
        If the options cannot be used here.
    ClusterError
        If there is no such cluster, too few workers come, or it is not fit for a run.
    """
    with connected_client(cluster_options(config, setting)) as client, ExitStack() as stack:
        if not is_local(config.cluster):
            refuse_unfit(client, config.min_workers, without=OURS if config.upload else None)
        if config.upload and not is_local(config.cluster):
            with _told_as_ours():
                stack.enter_context(uploaded(client, this_package()))
        yield client


@contextmanager
def connected_client(options: ClusterOptions) -> Iterator[Client]:
    """Yield a client with workers, as they are; raises as `joined_workers`."""
    with ExitStack() as stack:
        with _told_as_ours():
            client = stack.enter_context(connect(options))
        yield client


@contextmanager
def _told_as_ours() -> Iterator[None]:
    """Raise what the cluster's side raises as an error with an exit status."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error
    except (ConnectionError, TimeoutError) as error:
        raise ClusterError(str(error)) from error


@contextmanager
def client_of_worker(worker: Worker) -> Iterator[Client]:
    """Yield a client of the cluster that a worker belongs to; unlike the worker's own it is closed afterwards."""
    security = worker_as_client(worker.security)
    with Client(worker.scheduler.address, security=security, set_as_default=False) as client:
        yield client


def provide(
    config: RunConfig,
    ends: Ends,
    spec: ModelSpec,
    labels: str,
    listed: Peekable | None,
    run_id: str,
    setting: Setting,
    client: Client,
) -> Provision:
    """Return what the workers of a client are given to do.

    Parameters
    ----------
    labels
        By which the answers are judged.
    listed
        Tells the number of images of a new run; of one that goes on nobody knows how many are left.
    """
    spec = replace(spec, precision=resolved_precision(config, client))
    form, compiled = _decided_form(config, spec, client, listed)
    form = replace(form, device_batch=setting.device_batch)
    job = Job(
        run_id=run_id,
        fingerprint=fingerprint(spec),
        destination=ends.destination,
        source_options=ends.source.options,
        transform=spec.transform,
        categories=spec.categories,
        labels=labels,
        load_model=partial(load_classifier, spec, form, ends.destination.options),
        decode_s=config.decode_timeout,
        model_resource=model_resource(client, config.model_resource),
    )
    return Provision(spec, form, compiled, job)


def batching_of(config: RunConfig, setting: Setting) -> Batching:
    """Return how parts are cut into tasks."""
    return Batching(config.batch_size, setting.images_per_task)


def resolved_precision(config: RunConfig, client: Client) -> str:
    """Return the precision as asked for; for ``auto`` the fastest that every worker has in hardware.

    Raises
    ------
    ClusterError
        If a worker cannot tell.
    """
    if config.precision != "auto":
        return config.precision
    if local_kind(config.cluster) == "cpu":
        return fastest_cpu_precision()
    return "bf16" if {*told_by_each(client, fastest_precision, "precision")} == {"bf16"} else "fp32"


def is_on_cpu(config: RunConfig, client: Client) -> bool:
    """Return whether every worker infers on its CPU.

    Raises
    ------
    ClusterError
        If a worker cannot tell.
    """
    kind = local_kind(config.cluster)
    return kind == "cpu" if kind in ("cpu", "cuda") else not any(told_by_each(client, has_gpu, "device"))


def cluster_options(config: RunConfig, setting: Setting, *, awaits_workers: bool = True) -> ClusterOptions:
    """Return which workers to use; raise `UsageError` where the options contradict each other."""
    tls = TlsFiles(config.tls_ca_file, config.tls_cert, config.tls_key)
    with _told_as_ours():
        n_min, n_threads = config.min_workers, setting.threads_per_worker
        return ClusterOptions(config.cluster, config.workers, n_min, n_threads, tls, awaits_workers)


def told_by_each(client: Client, question: Callable[[], Any], what: str) -> list[Any]:
    """Return what the workers say to a question, as far as they do so in time; at least one answer.

    Raises
    ------
    ClusterError
        If none can tell.
    """
    told = ask(client, aside, question, within_s=_ANSWER_S, workers=client.nthreads())
    answers = [answer for answer in told.values() if not isinstance(answer, BaseException)]
    try:
        # Where there is none in this moment, one may come for this.
        return answers or [client.submit(question, pure=False).result(timeout=_ANSWER_S)]
    except Exception as error:
        why = next(iter(told.values()), error)
        message = f"no worker could tell its {what} ({why}); install the pipeline there and at the scheduler"
        raise ClusterError(message) from error


def _decided_form(config: RunConfig, spec: ModelSpec, client: Client, listed: Peekable | None) -> tuple[ModelForm, str]:
    """Return the form in which the workers compute the model, and why, for people."""
    asked, kind, n_images, pays_from = cast("Asked", config.compile), local_kind(config.cluster), None, float("inf")
    if asked == "auto" and kind == "cpu":
        n_slots = client.nthreads()
        pays_from = break_even(form_key(spec, usable_cores(min(n_slots.values()))))
        if listed is not None and math.isfinite(pays_from):
            n_images = listed.at_least(math.ceil(pays_from) * len(n_slots)) // len(n_slots)
    is_compiled, why = decide(asked, kind, n_images, pays_from)
    form = form_of(asked, config.batch_size, is_compiled=is_compiled)
    return form, f"{'yes' if is_compiled else 'no'}: {why}"
