"""A sample sent through the real path on the cluster that the run would have.

It reads, decodes, stacks and infers as the run does, and as `pipeline.running.tuning` tries settings; nothing is
committed. Effects: workers, which are left as they were found.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat

from distributed import Client

from pipeline.config import RunConfig
from pipeline.engine.graph import Batching
from pipeline.engine.inference import usable_cores
from pipeline.engine.sniffing import sniff
from pipeline.engine.trial import Extent, Pace, PaceTrial, TrialError
from pipeline.engine.worker import prepared_workers
from pipeline.errors import ClusterError
from pipeline.evaluation.trials import Setting
from pipeline.planning.surveying import Checked
from pipeline.records import ImageRef, Outcome
from pipeline.running.adoption import stored_run
from pipeline.running.provenance import Stopwatch, new_run_id
from pipeline.running.provision import (
    Provision,
    asked_for,
    expect_workers,
    is_on_cpu,
    joined_workers,
    provide,
    told_by_each,
)
from pipeline.stages.compiling import form_key, is_kept, next_load_s
from pipeline.stages.peek import Peekable
from pipeline.stages.precision import has_gpu

_CPU_BATCH = 16
"""Images of a batch where the model takes tens of milliseconds for each: enough batches to see how they differ."""

_LEAST_BATCHES = 6
"""That are counted at least: fewer tell little of how they differ."""

_MOST_WORKERS = 8
"""That a sample is sent through: what more of them would read is paid for, and tells little."""

_LEAST_ROUNDS = 3
"""Of all task slots: batches that end together tell no more of that than one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """What became of the sample."""

    given: Provision
    pace: Pace
    batch_size: int

    outcomes: dict[str, Outcome]
    """Of each image, by its URL."""

    formats: Counter[str]
    """By the bytes."""

    connect_s: float
    """Seconds until the workers were there and prepared."""

    load_s: float
    """Seconds until every worker has its model, the next time."""

    n_gpus: int


def sampled(
    config: RunConfig, checked: Checked, refs: Sequence[ImageRef], n_images: int, said: Callable[[str], None]
) -> Sampled:
    """Return what becomes of a sample on the cluster that the options name.

    Parameters
    ----------
    refs
        The sample.
    n_images
        That the run has to score: it decides whether its model is compiled.
    said
        Is told what is going on, for people.

    Raises
    ------
    PipelineError
        What would end a run too.
    """
    setting, stopwatch = asked_for(config), Stopwatch()
    expect_workers(config)
    with joined_workers(config, setting) as client:
        given = _provided(config, checked, refs[0], n_images, setting, client)
        with prepared_workers(client, given.job):
            stopwatch.lap("connect")
            said(f"{len(refs):,} images of them go through the cluster; dashboard {client.dashboard_link or 'none'}")
            return _tried(config, given, client, refs, stopwatch.timings_s["connect"])


def _provided(
    config: RunConfig, checked: Checked, ref: ImageRef, n_images: int, setting: Setting, client: Client
) -> Provision:
    ends, is_new = checked.ends, checked.stored is None
    many = Peekable(partial(islice, repeat(ref), n_images)) if is_new else None  # they were counted: nobody lists again
    given = provide(config, ends, checked.spec, checked.labels.identity, many, new_run_id(), setting, client)
    stored_run(config, ends.destination, ends.source.url, given.spec)  # now that the precision is known
    return given


def _tried(config: RunConfig, given: Provision, client: Client, refs: Sequence[ImageRef], connect_s: float) -> Sampled:
    is_small = is_on_cpu(config, client)
    batch_size = _batch_size(config, given, is_on_cpu=is_small)
    key = _program(given, client) if is_small else None
    was_kept = key is not None and is_kept(key)
    n_batches = max(_LEAST_BATCHES, math.ceil(len(refs) / batch_size))
    outcomes: dict[str, Outcome] = {}

    def keep(told: Sequence[Outcome]) -> None:
        outcomes.update({outcome.image: outcome for outcome in told})

    batching = Batching(batch_size, config.images_per_task)
    extent = Extent(n_batches, _LEAST_ROUNDS, _MOST_WORKERS)
    trial = PaceTrial(client, given.job, batching, refs, config.stall_timeout, threading.Event(), extent, keep)
    try:
        pace = trial.run()
    except TrialError as error:
        raise ClusterError(f"the sample did not get through: {error}") from error
    if not pace.workers:
        raise ClusterError("no worker told what it has: is the cluster still there?")
    formats = sniff(client, given.job, refs, config.stall_timeout)
    load_s = pace.loaded_s if key is None else next_load_s(pace.loaded_s, key, was_kept=was_kept)
    n_gpus = 0 if is_small else sum(told_by_each(client, has_gpu, "device"))
    return Sampled(given, pace, min(batch_size, len(refs)), outcomes, formats, connect_s, load_s, n_gpus)


def _program(given: Provision, client: Client) -> str | None:
    """Return the name under which the workers' compiled program is kept; None where they have none."""
    n_slots = client.nthreads().values()
    if not given.form.is_compiled or not n_slots:
        return None
    return form_key(given.spec, usable_cores(min(n_slots)))


def _batch_size(config: RunConfig, given: Provision, *, is_on_cpu: bool) -> int:
    """Return the images of a batch of the sample; a GPU, and a compiled program, want them as large as the run's."""
    return min(config.batch_size, _CPU_BATCH) if is_on_cpu and not given.form.is_compiled else config.batch_size
