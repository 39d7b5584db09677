"""Everything that can be checked before a worker is paid for: SOURCE, DESTINATION and the weights. Effects: storage."""

import hashlib
from dataclasses import dataclass, replace

from pipeline.config import RunConfig
from pipeline.destination import RUN_JSON, Destination
from pipeline.errors import StorageError, UsageError
from pipeline.records import ModelSpec
from pipeline.running.source import Source
from pipeline.stages.architectures import check_fit, check_known, known_shapes, torchvision_weights, transform_of
from pipeline.stages.category_file import read_categories
from pipeline.stages.classes import Classes, LabelOf, unlabelled
from pipeline.stages.label_table import read_label_table
from pipeline.stages.listing import SUFFIXES, Selection, is_manifest
from pipeline.stages.outcomes import BY_PATH
from pipeline.stages.state_dict import read_shapes
from pipeline.stages.tensor_names import taken
from pipeline.stages.weights import fetch_weights
from pipeline.storage import (
    GONE,
    ReadFault,
    StorageOptions,
    open_storage,
    read_whole,
    redact,
    resolve_url,
)

_CHECK_DEADLINE_S = 5.0
"""A wrong endpoint should be known now, not after a run's patience."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Where the truth comes from."""

    identity: str
    """``path``, ``none``, or a table's SHA-256: rows that were judged by others are judged anew."""

    label_of: LabelOf


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of the pipe, found usable."""

    source: Source
    destination: Destination

    def within(self, deadline_s: float) -> "Ends":
        """Return the same for checks that should each be over in so many seconds."""
        return Ends(self.source.within(deadline_s), self.destination.within(deadline_s))


def check_ends(config: RunConfig, options: StorageOptions, *, probes: bool = True) -> Ends:
    """Return the source and the destination once an image was read from the one and a probe written to the other.

    Parameters
    ----------
    options
        Where stores are: endpoint and region.
    probes
        Whether anything is written to the destination; else it is only looked at.

    Raises
    ------
    StorageError
        If either cannot be reached, or not with these rights.
    UsageError
        If there is no image, or the destination holds something else than a run.
    """
    ends = _ends(config, options)
    hurried = ends.within(_CHECK_DEADLINE_S)
    _check_apart(hurried)
    _check_source(hurried.source)
    _check_destination(hurried.destination, overwrite=config.overwrite)
    if probes:
        hurried.destination.probe()
    return ends


def check_model(config: RunConfig, options: StorageOptions) -> ModelSpec:
    """Return the model that a run will use, its weights fetched, hashed and found to fit; precision as asked for.

    Raises
    ------
    UsageError
        If there are no such weights, or they do not fit the model.
    StorageError
        If they cannot be fetched.
    """
    check_known(config.model)
    named = torchvision_weights(config.model, config.weights)
    categories = _categories(config, options)
    # Absolute, since a worker has a folder of its own.
    weights = named.name if named else resolve_url(config.weights)
    fetched = fetch_weights(weights, named.url if named else None, lambda url: read_whole(url, options))
    spec = ModelSpec(
        config.model, weights, fetched.sha256, transform_of(config.model, weights), config.precision, categories
    )
    _check_fit(spec, fetched.data)
    return spec


def check_labels(config: RunConfig, ends: Ends, spec: ModelSpec) -> Labels:
    """Return where the truth comes from, a table of labels read and found to name classes that the model has.

    Raises
    ------
    UsageError
        If it is no such table, or names classes that the model does not have.
    StorageError
        If it cannot be read.
    """
    classes = Classes(spec.categories)
    if config.labels == "none":
        return Labels("none", unlabelled)
    if config.labels == BY_PATH:
        return Labels(BY_PATH, classes.label_by_path())
    data = read_whole(resolve_url(config.labels), ends.destination.options)
    table = read_label_table(data, redact(config.labels), ends.source.folder, classes)
    return Labels(f"sha256:{hashlib.sha256(data).hexdigest()}", table)


def _categories(config: RunConfig, options: StorageOptions) -> tuple[str, ...] | None:
    if config.categories is None:
        return None
    return read_categories(read_whole(resolve_url(config.categories), options), redact(config.categories))


def _check_fit(spec: ModelSpec, data: bytes) -> None:
    """Raise `UsageError` unless the weights have the model's tensors, and a class for each category."""
    named_safely = redact(spec.weights)
    given = read_shapes(data, named_safely) or _shapes_by_torch(data, named_safely)
    expected = known_shapes(spec.name, spec.n_classes) or _shapes_by_building(spec)
    check_fit(spec.name, named_safely, expected, taken(given))


def _shapes_by_building(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors from the model itself, without room for them."""
    from pipeline.stages.model import tensor_shapes  # noqa: PLC0415  as below

    return tensor_shapes(spec.name, spec.n_classes, spec.transform.crop_size)


def _shapes_by_torch(data: bytes, weights: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a file of torch's older format."""
    from pipeline.stages.model import load_state_dict  # noqa: PLC0415  seconds: only where there is no other way

    return {name: tuple(tensor.shape) for name, tensor in load_state_dict(data, weights).items()}


def _ends(config: RunConfig, options: StorageOptions) -> Ends:
    selection = Selection(resolve_url(config.source), config.include, config.exclude, config.limit)
    options = replace(options, s3_client=config.s3_client)
    source_options = replace(options, anon=config.anon, requester_pays=config.requester_pays)
    return Ends(Source(selection, source_options), Destination(resolve_url(config.destination), options))


def _check_apart(ends: Ends) -> None:
    source, destination = ends.source.folder, ends.destination.url
    if source == destination or source.startswith(f"{destination}/"):
        raise UsageError(f"DESTINATION {destination} holds SOURCE {source}: give the outcomes a folder of their own")


def _check_destination(destination: Destination, *, overwrite: bool) -> None:
    if overwrite or destination.read_json(RUN_JSON) is not None:
        destination.refuse_if_foreign()
    else:
        destination.refuse_if_used()


def _check_source(source: Source) -> None:
    first = next(source.images(with_versions=False), None)
    if first is None:
        raise UsageError(
            f"no image under {source.url}: expected names that end in {' '.join(SUFFIXES)}, "
            "and that --include and --exclude admit"
        )
    body = open_storage(first.url, source.options).read_many([(first.url, "")])[0]
    is_named_only = is_manifest(source.url) and body == GONE  # it will have its row
    if isinstance(body, ReadFault) and not is_named_only:
        raise StorageError(f"cannot read {first.url}: {body.reason}")
