"""Everything that can be checked before a worker is paid for: SOURCE, DESTINATION and the weights. Effects: storage."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.config import RunConfig
from pipeline.destination import RUN_JSON, Destination
from pipeline.errors import UsageError
from pipeline.records import ImageRef, ModelSpec
from pipeline.stages.architectures import check_fit, torchvision_weights, transform_of
from pipeline.stages.listing import SUFFIXES, Selection, select
from pipeline.stages.state_dict import read_shapes
from pipeline.stages.weights import fetch_weights
from pipeline.storage import StorageOptions, open_storage, options_from_environment, read_whole, redact, resolve_url

MODEL = "resnet50"

_CHECK_DEADLINE_S = 5.0
"""A wrong endpoint should be known now, not after a run's patience."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of the pipe, found usable."""

    selection: Selection
    source_options: StorageOptions
    destination: Destination

    def listed(self) -> Iterator[ImageRef]:
        """Yield the images of the source, lazily."""
        pages = open_storage(self.selection.folder, self.source_options).list_pages(self.selection.folder)
        return select(pages, self.selection)


def check_ends(config: RunConfig) -> Ends:
    """Return the source and the destination once an image was read from the one and a probe written to the other.

    Raises
    ------
    StorageError
        If either cannot be reached, or not with these rights.
    UsageError
        If there is no image, or the destination holds something else than a run.
    """
    ends = _ends(config)
    hurried = Ends(ends.selection, _hurried(ends.source_options), _hurried_destination(ends.destination))
    _check_apart(hurried)
    _check_source(hurried)
    _check_destination(hurried.destination, overwrite=config.overwrite)
    return ends


def check_model(config: RunConfig) -> ModelSpec:
    """Return the model that a run will use, its weights fetched, hashed and found to fit; precision as asked for.

    Raises
    ------
    UsageError
        If there are no such weights, or they do not fit the model.
    StorageError
        If they cannot be fetched.
    """
    options = options_from_environment()
    named = torchvision_weights(MODEL, config.weights)
    # Absolute, since a worker has a folder of its own.
    weights = config.weights if named else resolve_url(config.weights)
    fetched = fetch_weights(weights, named.url if named else None, lambda url: read_whole(url, options))
    named_safely, data = redact(weights), fetched.data
    check_fit(MODEL, named_safely, read_shapes(data, named_safely) or _shapes_by_torch(data, named_safely))
    return ModelSpec(MODEL, weights, fetched.sha256, transform_of(MODEL, config.weights), config.precision)


def _shapes_by_torch(data: bytes, weights: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a file of torch's older format."""
    from pipeline.stages.model import load_state_dict  # noqa: PLC0415  seconds: only where there is no other way

    return {name: tuple(tensor.shape) for name, tensor in load_state_dict(data, weights).items()}


def _ends(config: RunConfig) -> Ends:
    selection = Selection(resolve_url(config.source), config.include, config.exclude, config.limit)
    destination = Destination(resolve_url(config.destination), options_from_environment(s3_client=config.s3_client))
    source_options = options_from_environment(
        anon=config.anon, requester_pays=config.requester_pays, s3_client=config.s3_client
    )
    return Ends(selection, source_options, destination)


def _check_apart(ends: Ends) -> None:
    source, destination = ends.selection.folder, ends.destination.url
    if source == destination or source.startswith(f"{destination}/"):
        raise UsageError(f"DESTINATION {destination} holds SOURCE {source}: give the outcomes a folder of their own")


def _check_destination(destination: Destination, *, overwrite: bool) -> None:
    if overwrite or destination.read_json(RUN_JSON) is not None:
        destination.refuse_if_foreign()
    else:
        destination.refuse_if_used()
    destination.probe()


def _check_source(ends: Ends) -> None:
    first = next(ends.listed(), None)
    if first is None:
        raise UsageError(
            f"no image under {ends.selection.source}: expected names that end in {' '.join(SUFFIXES)}, "
            "and that --include and --exclude admit"
        )
    read_whole(first.url, ends.source_options)


def _hurried(options: StorageOptions) -> StorageOptions:
    return replace(options, deadline_s=_CHECK_DEADLINE_S, attempt_s=_CHECK_DEADLINE_S / 2)


def _hurried_destination(destination: Destination) -> Destination:
    return replace(destination, options=_hurried(destination.options))
