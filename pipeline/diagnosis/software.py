"""Whether all processes run the same software: what differs fails late, and strangely. Pure."""

from collections import Counter
from collections.abc import Iterator

from distributed.versions import optional_packages, required_packages

from pipeline.diagnosis.findings import Complaint, Finding, Level, counted, findings
from pipeline.diagnosis.vitals import Patient, Vitals

OURS = "dask-image-inference"

_TRAVELLING = ("dask", "distributed", OURS)
"""Their objects travel between processes."""

_DECIDING = ("torch", "torchvision", "pillow", "numpy")
"""On the workers they decide predictions, which must not depend on who has made them; a scheduler does without."""

_USED = ("s3fs", "fsspec", "pyarrow", "obstore", "botocore")

PACKAGES = tuple(dict.fromkeys([*_TRAVELLING, *_DECIDING, *_USED, *required_packages, *optional_packages]))
"""All that is asked for: ours, and Dask's own list."""

_BESIDE = tuple(name for name in PACKAGES if name not in _DECIDING)

_FOR_A_SCHEDULER = tuple(dict.fromkeys([*_TRAVELLING, *(name for name in required_packages if name != "msgpack")]))
"""As Dask has it: `distributed.versions.scheduler_relevant_packages`."""


def python(patient: Patient) -> list[Finding]:
    """Find processes with another minor version of Python."""
    ours = minor(patient.client.python)
    complaints = [
        Complaint(
            Level.PROBLEM, process, f"Python {theirs}, here {patient.client.python}", f"start it with Python {ours}"
        )
        for process, theirs in patient.strangers.items()
    ]
    return findings("python", complaints, f"{ours} on {_all(patient)}")


def packages(patient: Patient) -> list[Finding]:
    """Find packages that a process lacks, or has in another version than the client."""
    complaints = [
        *(_differing(patient.scheduler, patient.client, _FOR_A_SCHEDULER) if patient.scheduler else ()),
        *(complaint for worker in patient.workers for complaint in _differing(worker, patient.client, _BESIDE)),
        *(complaint for name in _DECIDING for complaint in _disagreeing(name, patient)),
    ]
    told = ", ".join(f"{name} {patient.client.packages[name]}" for name in (OURS, "dask", "torch", "torchvision"))
    return findings("packages", complaints, f"the same on {_all(patient)}: {told}, and others")


def _differing(process: Vitals, client: Vitals, names: tuple[str, ...]) -> Iterator[Complaint]:
    for name in names:
        ours, theirs = client.packages[name], process.packages[name]
        if ours is None or ours == theirs:
            continue
        level = Level.PROBLEM if theirs is None or name in _TRAVELLING else Level.WARNING
        what = f"no {name}, here {ours}" if theirs is None else f"{name} {theirs}, here {ours}"
        yield Complaint(level, process.name, what, _mend(name, ours))


def _disagreeing(name: str, patient: Patient) -> Iterator[Complaint]:
    """Yield workers that lack a package or have another version than most, and a client that has another than those."""
    ours = patient.client.packages[name]
    found = Counter(version for worker in patient.workers if (version := worker.packages[name]) is not None)
    most = max(found, key=lambda version: (found[version], version == ours), default=ours)
    for worker in patient.workers:
        theirs = worker.packages[name]
        if theirs is None:
            yield Complaint(Level.PROBLEM, worker.name, f"no {name}", f"install {name} {most} there")
        elif _public(theirs) != _public(most):
            what = f"{name} {theirs}, on most workers {most}"
            yield Complaint(Level.PROBLEM, worker.name, what, f"install {name} {most} there")
    if ours is not None and _public(ours) != _public(most):
        what = f"{name} {ours}, on most workers {most}, which decides predictions"
        yield Complaint(Level.WARNING, "client", what, f"install {name} {most} here: run.json tells the client's")


def _public(version: str | None) -> str | None:
    """Return a version without what tells builds of it apart.

    >>> _public("2.15.0+cu130")
    '2.15.0'
    """
    return version and version.partition("+")[0]


def _mend(name: str, ours: str) -> str:
    return f"install {name} {ours} there{', or give --upload' if name == OURS else ''}"


def minor(python: str) -> str:
    """Return a version of Python without what does not matter to bytecode.

    >>> minor("3.11.7.final.0")
    '3.11'
    """
    return ".".join(python.split(".")[:2])


def _all(patient: Patient) -> str:
    return f"client, scheduler and {counted(len(patient.workers), 'worker')}"
