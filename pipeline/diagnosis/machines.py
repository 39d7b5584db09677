"""Whether the workers have what a run needs of their machines, and use it. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.diagnosis.findings import Complaint, Finding, Level, counted, findings
from pipeline.diagnosis.vitals import Cuda, Patient, Vitals

LEAST_BYTES = 1 << 30
"""A worker that has put a batch through ResNet50 holds 0.9 GiB."""

AMPLE_BYTES = LEAST_BYTES * 3 // 2
"""With 600 MiB for the batches in flight nothing is paused or spilled, whatever the speed of the store."""

_OVERCOMMITTED = 1.2
"""Of a host's memory: Dask shares it out by threads, of which a worker has one more than cores."""

_TRUSTED_SKEW_S = 5.0
_SIGNED_SKEW_S = 15 * 60.0
"""S3 refuses requests that are older, or from the future."""

_WAITING = 4
"""Task slots of a worker whose tasks wait for its model: they take no core."""

_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")


def devices(patient: Patient) -> list[Finding]:
    """Find GPUs that workers share, and such as none uses."""
    complaints = [*_shared(patient.workers), *(idle for workers in patient.hosts.values() for idle in _idle(workers))]
    used = {gpu for worker in patient.workers for gpu in worker.visible_gpus[:1]}
    n_without = sum(not worker.visible_gpus for worker in patient.workers)
    told = f"{counted(len(used), 'GPU')}, one worker each; {counted(n_without, 'worker')} without"
    return findings("devices", complaints, told if used else "no GPU: all workers infer on their CPU")


def cuda(patient: Patient, told: Sequence[Cuda | None]) -> list[Finding]:
    """Find workers whose torch cannot use the GPU that they have."""
    complaints = [
        Complaint(
            Level.PROBLEM,
            worker.name,
            f"torch (CUDA {gpu.built_for or 'none'}) cannot use the GPU under driver {gpu.driver}: {gpu.fault}",
            "install a driver that knows this CUDA, or a torch for this driver (https://pytorch.org/get-started)",
        )
        for worker, gpu in zip(patient.workers, told, strict=True)
        if gpu is not None and gpu.fault is not None
    ]
    names = Counter(gpu.device for gpu in told if gpu is not None)
    seen = ", ".join(f"{n} x {name}" for name, n in names.items())
    return findings("cuda", complaints, f"torch can use {seen}" if names else "no worker has a GPU")


def memory(patient: Patient) -> list[Finding]:
    """Find workers whose limit is too low, or that may have more than there is."""
    complaints = [complaint for workers in patient.hosts.values() for complaint in _memory_on_host(workers)]
    limits = [worker.memory_bytes for worker in patient.workers]
    return findings("memory", complaints, f"{_gib(min(limits, default=0))} and more for each worker")


def threads(patient: Patient) -> list[Finding]:
    """Find workers with too few task slots, or more of them than their cores can serve."""
    complaints = [complaint for workers in patient.hosts.values() for complaint in _threads_on_host(workers)]
    n_slots = sorted({worker.n_slots for worker in patient.workers})
    told = " to ".join(str(n) for n in {n_slots[0]: 0, n_slots[-1]: 0}) if n_slots else "0"
    return findings("threads", complaints, f"{told} task slots for each worker")


def allocator(patient: Patient) -> list[Finding]:
    """Find workers whose allocator a run cannot set."""
    complaints = [
        Complaint(
            Level.WARNING,
            worker.name,
            f"its allocator is not glibc's ({worker.preloaded or worker.libc or 'unknown'}), so it cannot be set",
            "start it without LD_PRELOAD, on a system with glibc, unless you have measured that it is as fast",
        )
        for worker in patient.workers
        if worker.libc != "glibc" or any(name in worker.preloaded for name in _ALLOCATORS)
    ]
    n_set = sum(not worker.has_no_trim_threshold for worker in patient.workers)
    told = f"glibc's; a run mends MALLOC_TRIM_THRESHOLD_, which {counted(n_set, 'worker')} got from Dask"
    return findings("allocator", complaints, told)


def clocks(patient: Patient) -> list[Finding]:
    """Find processes whose clock differs from the client's."""
    complaints = [
        Complaint(
            Level.PROBLEM if abs(skew) > _SIGNED_SKEW_S else Level.WARNING,
            process.name,
            f"its clock is {abs(skew):,.0f} s {'ahead' if skew > 0 else 'behind'}",
            "set it by NTP: S3 refuses signatures that are 15 minutes off",
        )
        for process in patient.processes
        if abs(skew := _skew_s(process, patient)) > _TRUSTED_SKEW_S
    ]
    return findings("clocks", complaints, f"none is off by more than {_TRUSTED_SKEW_S:.0f} s")


def nannies(patient: Patient) -> list[Finding]:
    """Find workers that nobody begins again when they die."""
    complaints = [
        Complaint(
            Level.WARNING,
            worker.name,
            "it has no nanny: an image that kills it takes the worker away for good",
            "start it without --no-nanny",
        )
        for worker in patient.workers
        if not worker.has_nanny
    ]
    return findings("nannies", complaints, "a worker that dies is begun again")


def _shared(workers: Sequence[Vitals]) -> Iterator[Complaint]:
    """Containers of one machine have hosts of their own: only the GPU's id tells."""
    takers: dict[str, list[str]] = {}
    for worker in workers:
        for gpu in worker.visible_gpus[:1]:
            takers.setdefault(gpu, []).append(worker.name)
    mend = "start one worker for each GPU (dask cuda worker), or set CUDA_VISIBLE_DEVICES"
    for gpu, names in takers.items():
        if len(names) > 1:
            yield from (Complaint(Level.PROBLEM, name, f"they share {gpu}", mend) for name in names)


def _idle(workers: Sequence[Vitals]) -> Iterator[Complaint]:
    taken = {gpu for worker in workers for gpu in worker.visible_gpus[:1]}
    n_idle = max(worker.n_gpus for worker in workers) - len(taken)
    if n_idle > 0:
        what, mend = f"{counted(n_idle, 'GPU')} of it without a worker", "start one for each (dask cuda worker)"
        yield Complaint(Level.WARNING, f"host {workers[0].host}", what, mend)


def _memory_on_host(workers: Sequence[Vitals]) -> Iterator[Complaint]:
    for worker in workers:
        if 0 < worker.memory_bytes < AMPLE_BYTES:
            level = Level.PROBLEM if worker.memory_bytes < LEAST_BYTES else Level.WARNING
            what = f"a limit of {_gib(worker.memory_bytes)}, and a ResNet50 with its batches takes {_gib(AMPLE_BYTES)}"
            yield Complaint(level, worker.name, what, "start it with a higher --memory-limit")
        elif not worker.memory_bytes:
            what = "no memory limit: the system may end it, and what is beside it"
            yield Complaint(Level.WARNING, worker.name, what, "start it with --memory-limit")
    allowed, there = sum(worker.memory_bytes for worker in workers), workers[0].host_memory_bytes
    if allowed > there * _OVERCOMMITTED:
        what = f"its workers may take {_gib(allowed)}, and it has {_gib(there)}"
        yield Complaint(Level.WARNING, f"host {workers[0].host}", what, "give each its share with --memory-limit")


def _threads_on_host(workers: Sequence[Vitals]) -> Iterator[Complaint]:
    for worker in workers:
        if worker.n_slots < 2:
            what = "one task slot: nothing is read or decoded while the model computes"
            yield Complaint(Level.WARNING, worker.name, what, f"start it with --nthreads {len(worker.cores) + 1}")
    n_slots, n_cores = (
        sum(worker.n_slots for worker in workers),
        len({core for worker in workers for core in worker.cores}),
    )
    n_spare = _WAITING * len(workers)
    if n_slots > n_cores + n_spare:
        what = f"its workers have {n_slots} task slots together for {n_cores} cores: their models slow each other down"
        yield Complaint(Level.WARNING, f"host {workers[0].host}", what, "start fewer workers, or with fewer --nthreads")


def _skew_s(process: Vitals, patient: Patient) -> float:
    """Return by how much a clock is off at least: the process answered at some time between two of the client's."""
    before, after = patient.asked_s
    return max(0.0, process.clock - after) - max(0.0, before - process.clock)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 30):.1f} GiB"
