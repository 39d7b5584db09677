"""What processes have told of themselves. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process tells at once."""

    name: str
    """``client``, ``scheduler``, or ``worker`` and its address."""

    host: str
    python: str
    packages: Mapping[str, str | None]
    """Version of each that matters; None where it is not installed."""

    clock: float
    """Its time when it answered, in seconds since 1970."""

    cores: list[int]
    """Numbers of those that it may use, on its host."""

    libc: str
    preloaded: str
    """``LD_PRELOAD``."""

    has_no_trim_threshold: bool
    """Whether glibc is free to choose its own threshold."""

    visible_gpus: list[str]
    """Ids of the GPUs that it may use; the first is the one that it takes."""

    n_gpus: int
    """Those of its host."""

    n_slots: int = 0
    """Task slots; 0 where it is no worker."""

    memory_bytes: int = 0
    """Where Dask ends it; 0 is nowhere."""

    host_memory_bytes: int = 0
    has_nanny: bool = False


@dataclass(frozen=True, slots=True)
class Cuda:
    """How torch finds the GPU of a process."""

    driver: str | None
    built_for: str | None
    """The version of CUDA that torch was built for; None is none."""

    device: str | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class Patient:
    """A cluster, and whoever wants to use it."""

    address: str
    """Of its scheduler."""

    client: Vitals
    scheduler: Vitals | None
    """None where it is one of the `strangers`."""

    workers: tuple[Vitals, ...]
    asked_s: tuple[float, float]
    """The client's time before and after all of them were asked."""

    strangers: Mapping[str, str] = field(default_factory=dict)
    """Version of Python of each process that has another minor one: functions do not travel there, nor questions."""

    @property
    def processes(self) -> tuple[Vitals, ...]:
        """All that were asked but the client."""
        return (*filter(None, [self.scheduler]), *self.workers)

    @property
    def addresses(self) -> list[str]:
        """Of the workers, in their order."""
        return [worker.name.removeprefix("worker ") for worker in self.workers]

    @property
    def hosts(self) -> dict[str, list[Vitals]]:
        """The workers of each host."""
        names = sorted({worker.host for worker in self.workers})
        return {name: [worker for worker in self.workers if worker.host == name] for name in names}

    def without(self, package: str) -> "Patient":
        """Return the same, as if nobody asked for this package."""
        kept = {name: version for name, version in self.client.packages.items() if name != package}
        return replace(self, client=replace(self.client, packages=kept | {package: None}))
