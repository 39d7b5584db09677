"""A run's settings: one record, from which the command line, Dask's configuration and the checks are made.

Every option of the command also works as ``DASK_PIPELINE__OPTION`` and under ``pipeline:`` in Dask's YAML; what the
command line says goes first. See https://docs.dask.org/en/stable/configuration.html.
"""

import math
import shlex
from collections.abc import Container, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import click
import dask.config

from pipeline.errors import UsageError

COUNT = click.IntRange(min=1)


class FiniteRange(click.FloatRange):
    """A number between limits that is neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; raises `click.BadParameter`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def _option(help_: str, default: Any, type_: Any = str, **settings: Any) -> Any:
    return field(default=default, metadata={"help": help_, "type": type_, **settings})


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The settings of one run; see ``python -m pipeline.run --help`` for each."""

    source: str
    """Folder or glob of images, on any fsspec URL."""

    destination: str
    """Folder for the outcomes, on any fsspec URL."""

    cluster: str = _option(
        "Workers: 'auto' (this machine's GPUs, else its CPU), 'cuda', 'cpu', a scheduler's ADDRESS or SCHEDULER-FILE.",
        "auto",
    )
    workers: int | None = _option(
        "Worker processes of a local cluster (default: one per GPU, or per 8 cores).", None, COUNT
    )
    min_workers: int = _option(
        "Begin with the first N workers; 0 is for a cluster that begins them when there is work.",
        1,
        click.IntRange(min=0),
    )
    threads_per_worker: int | None = _option(
        "Task slots of each local worker (default: its share of the cores, and one to spare).", None, COUNT
    )
    tls_ca_file: str | None = _option("CA file of a tls:// scheduler, in PEM, as Dask has it.", None, metavar="FILE")
    tls_cert: str | None = _option("Certificate for a tls:// scheduler, in PEM.", None, metavar="FILE")
    tls_key: str | None = _option("Private key of --tls-cert, in PEM.", None, metavar="FILE")
    upload: bool = _option(
        "Bring this package to a scheduler and workers that lack it, for as long as the run needs it.",
        False,
        bool,
        is_flag=True,
    )
    model_resource: str = _option(
        "Only workers with this Dask resource load the model, where there are such; others help with decoding.",
        "GPU",
        metavar="NAME",
    )
    batch_size: int = _option("Images in one stack.", 80, COUNT)
    batches_per_part: int = _option("Batches in one Parquet object, the unit of commit.", 16, COUNT)
    images_per_task: int | None = _option("Images read and decoded by one task (default: a whole batch).", None, COUNT)
    model: str = _option("A torchvision classification model, by its name.", "resnet50")
    weights: str = _option(
        "A torchvision weights name of the model's (DEFAULT: its newest), or the path or URL of a state dict.",
        "DEFAULT",
    )
    categories: str | None = _option(
        "File with the name of each class of a model of one's own, one a line or a JSON list (default: ImageNet's).",
        None,
        metavar="FILE",
    )
    labels: str = _option(
        "The truth: 'path' (WordNet ids, or folders called like --categories), 'none', or a CSV or Parquet FILE with "
        "columns image and class.",
        "path",
        metavar="path|none|FILE",
    )
    precision: str = _option(
        "Arithmetic of the model; 'auto' is the fastest that the devices have in hardware.",
        "auto",
        click.Choice(["auto", "fp32", "bf16", "fp16"]),
    )
    compile: str = _option(
        "Compile the model: 'auto' where there are images enough to pay for it, 'on', 'off'.",
        "auto",
        click.Choice(["auto", "on", "off"]),
    )
    tune: bool = _option(
        "First measure, on a few hundred images, which threads, images per task and device batch are the fastest.",
        False,
        bool,
        is_flag=True,
    )
    include: tuple[str, ...] = _option(
        "Take only images that match this glob below SOURCE; may be repeated.", (), multiple=True, metavar="GLOB"
    )
    exclude: tuple[str, ...] = _option(
        "Leave out images that match this glob below SOURCE; may be repeated.", (), multiple=True, metavar="GLOB"
    )
    limit: int | None = _option("Take the first N images.", None, COUNT)
    max_failure_rate: float = _option(
        "Share of the images, from 0 to 1, that may fail.", 0.05, FiniteRange(0, 1), metavar="SHARE"
    )
    anon: bool = _option("Read SOURCE without credentials, as public buckets allow.", False, bool, is_flag=True)
    requester_pays: bool = _option("Agree to pay for reading SOURCE.", False, bool, is_flag=True)
    s3_client: str = _option(
        "What reads from S3: 's3fs', or 'obstore' where ETags vouch for the bytes; 'auto' is the faster, obstore.",
        "auto",
        click.Choice(["auto", "obstore", "s3fs"]),
    )
    retry_failed: bool = _option("Score again the images that failed before.", False, bool, is_flag=True)
    decode_timeout: float = _option(
        "Give an image up whose decoding takes longer than so many seconds.",
        30.0,
        FiniteRange(min=0.1),
        metavar="SECONDS",
    )
    stall_timeout: float = _option(
        "End when nothing was done for so many seconds.", 600.0, FiniteRange(min=1), metavar="SECONDS"
    )
    performance_report: str | None = _option(
        "Write Dask's own report on the run (task stream, profile, bandwidth) to an HTML file.", None, metavar="FILE"
    )
    planned: str | None = _option(
        "A plan that python -m pipeline.plan --save wrote: say at the end what came of it.", None, metavar="FILE"
    )
    no_report: bool = _option("Leave out DESTINATION/report.html.", False, bool, is_flag=True)
    detach: bool = _option(
        "Leave the run to a remote cluster and return; follow it with python -m pipeline.attach.",
        False,
        bool,
        is_flag=True,
    )
    overwrite: bool = _option("Begin anew on a DESTINATION that holds another run.", False, bool, is_flag=True)
    debug: bool = _option("Show tracebacks and more logs.", False, bool, is_flag=True)

    def __post_init__(self) -> None:
        for setting in _options():
            value = getattr(self, setting.name)
            if value is not None and not setting.metadata.get("multiple"):
                self._check(setting, value)

    def _check(self, setting: Field[Any], value: Any) -> None:
        try:
            click.types.convert_type(setting.metadata["type"]).convert(value, None, None)
        except click.BadParameter as error:
            raise UsageError(f"{_flag(setting.name)} {value}: {error.message}") from error

    @property
    def part_size(self) -> int:
        """Images in one part."""
        return self.batch_size * self.batches_per_part


def parameters(names: Container[str] | None = None, *, are_ends_needed: bool = True) -> list[click.Parameter]:
    """Return the command line that makes a `RunConfig`.

    Parameters
    ----------
    names
        The options of a command that has not all of them.
    are_ends_needed
        Whether SOURCE and DESTINATION must be given.
    """
    ends: list[click.Parameter] = [
        click.Argument([name], required=are_ends_needed) for name in ("source", "destination")
    ]
    return ends + [
        click.Option(
            [_flag(setting.name)],
            default=setting.default,
            show_default=setting.default not in (None, False, ()),
            **dict(setting.metadata),
        )
        for setting in _options()
        if names is None or setting.name in names
    ]


def configured_defaults() -> dict[str, Any]:
    """Return the options that Dask's configuration sets, by their Python name.

    Raises
    ------
    UsageError
        If it sets one that does not exist: a misspelt setting must not be silently ignored.
    """
    settings = dask.config.get("pipeline", {}) or {}
    if not isinstance(settings, Mapping):
        raise UsageError(f"Dask's configuration sets pipeline to {settings!r} (or DASK_PIPELINE): expected options")
    named = {key.replace("-", "_"): value for key, value in settings.items()}
    known = {setting.name for setting in fields(RunConfig)}
    if unknown := sorted(named.keys() - known):
        raise UsageError(
            f"Dask's configuration sets pipeline.{unknown[0]} (or DASK_PIPELINE__{unknown[0].upper()}), "
            f"which is no option; expected one of {', '.join(sorted(known))}"
        )
    return {name: value for name, given in named.items() if (value := _as_typed(name, given)) is not None}


def _as_typed(name: str, value: Any) -> Any:
    """Return a value of Dask's configuration as the command line would have it: YAML and Dask make their own of some.

    ``off`` is False in YAML, ``none`` is None to Dask, and 1 may stand for true.
    """
    setting = next((setting for setting in _options() if setting.name == name), None)
    if setting is None or value is None:
        return "none" if name == "labels" else value
    if setting.metadata.get("multiple"):
        return [str(one) for one in _listed(value)]
    if not setting.metadata.get("is_flag"):
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
    try:
        return click.BOOL.convert(str(value), None, None)
    except click.BadParameter as error:
        raise UsageError(
            f"Dask's configuration sets pipeline.{name} (or DASK_PIPELINE__{name.upper()}) to {value!r}: "
            "expected true or false"
        ) from error


def command_line(config: Mapping[str, Any]) -> str:
    """Return the command that a configuration stands for; it never begins anew.

    >>> command_line({"source": "s3://b/dogs", "destination": "out", "precision": "bf16", "exclude": ["*/x"]})
    "python -m pipeline.run s3://b/dogs out --precision bf16 --exclude '*/x'"
    """
    words = ["python", "-m", "pipeline.run", config["source"], config["destination"]]
    for setting in _options():
        value = config.get(setting.name)
        is_default = value in (None, False, setting.default, list(_listed(setting.default)))
        if is_default or setting.name == "overwrite":
            continue
        words += (
            [_flag(setting.name)]
            if value is True
            else [w for v in _listed(value) for w in (_flag(setting.name), str(v))]
        )
    return shlex.join(words)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _options() -> list[Field[Any]]:
    return [setting for setting in fields(RunConfig) if setting.default is not MISSING]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
