"""What a run would find: both ends and the model checked, the source listed whole, the destination looked at.

Effects: reads storage; nothing is written.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import RunConfig
from pipeline.engine.plan import n_pages_of
from pipeline.engine.remaining import StoredRun, look_for_remaining
from pipeline.errors import UsageError
from pipeline.forecast.requests import Layout, Store
from pipeline.forecast.survey import Survey
from pipeline.records import ImageRef, ModelSpec
from pipeline.running.adoption import is_wider, stored_run
from pipeline.running.preflight import Ends, Labels, check_ends, check_labels, check_model
from pipeline.running.rescoring import is_judged_by
from pipeline.storage import options_from_environment, requests_since_last


@dataclass(frozen=True, slots=True)
class Checked:
    """What a run is given, found usable."""

    ends: Ends
    spec: ModelSpec
    labels: Labels

    stored: Mapping[str, Any] | None
    """What ``run.json`` says of the run to go on with."""

    is_marked: bool
    seconds: float
    """That the check took."""

    request_s: float
    """Seconds of one request to the destination."""

    requests: Counter[str]
    """What the check asked of its stores."""

    @property
    def is_rejudged(self) -> bool:
        """Whether stored answers are judged by other labels first."""
        return self.stored is not None and not is_judged_by(self.stored, self.labels)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What is listed, and what is left to do."""

    survey: Survey
    layout: Layout
    listing: Counter[str]
    """What listing the source asked of it."""

    n_failed: int = 0
    """Images that failed before, and are not tried again."""


def checked(config: RunConfig) -> Checked:
    """Return what a run is given, as it would check it, but for writing a probe.

    Raises
    ------
    PipelineError
        What would end the run before it begins.
    """
    requests_since_last()
    began = time.monotonic()
    options = options_from_environment()
    ends, spec = check_ends(config, options, probes=False), check_model(config, options)
    labels = check_labels(config, ends, spec)
    stored = stored_run(config, ends.destination, ends.source.url, spec)
    seconds, requests = time.monotonic() - began, requests_since_last()
    asked = time.monotonic()  # not before: the first request of a client opens its connection
    is_marked = ends.destination.is_marked()
    request_s = time.monotonic() - asked
    if stored is not None:  # or the run would not have asked
        requests += requests_since_last()
    requests_since_last()
    return Checked(ends, spec, labels, stored, stored is not None and is_marked, seconds, request_s, requests)


def surveyed(config: RunConfig, given: Checked) -> Surveyed:
    """Return what is listed and what of it a run would still score, one image in memory at a time.

    Raises
    ------
    StorageError
        If the listing or the destination cannot be read.
    """
    survey, found, began = Survey(), StoredRun(), time.monotonic()
    listed = _counted(given.ends.source.images(), survey, began)
    if given.stored is None:
        for ref in listed:
            survey.take(ref)
        found.n_new_images = survey.listed.n_images
    else:
        fingerprint, retry = given.stored["fingerprint"], config.retry_failed
        found = look_for_remaining(listed, given.ends.destination, fingerprint, survey.take, retry_failed=retry)
    if not survey.listed.n_images:
        raise UsageError(f"no image under {given.ends.source.url} any more")
    layout = _layout(config, given, found)
    listing = requests_since_last()
    if given.stored is not None:
        listing -= _looking(layout)
    return Surveyed(survey, layout, Counter({kind: listing[kind] for kind in ("list", "stat")}), found.n_failed)


def _counted(listed: Iterator[ImageRef], survey: Survey, began: float) -> Iterator[ImageRef]:
    for ref in listed:
        survey.listed.add(ref)
        yield ref
    survey.seconds = time.monotonic() - began


def _layout(config: RunConfig, given: Checked, found: StoredRun) -> Layout:
    n_new_parts = math.ceil(found.n_new_images / config.part_size)
    return Layout(
        Store(is_s3=given.ends.destination.url.startswith("s3://")),
        n_new_pages=n_pages_of(n_new_parts),
        n_new_parts=n_new_parts,
        n_pages=found.n_pages,
        n_changed_pages=found.n_changed_pages,
        n_parts=found.n_parts,
        n_open_parts=found.n_open_parts,
        is_new=given.stored is None,
        is_widened=given.stored is not None and is_wider(given.stored, config),
        is_marked=given.is_marked,
    )


def _looking(layout: Layout) -> Counter[str]:
    """Return the listings of the destination that looking for what remains took."""
    return layout.store.listing(layout.n_parts) + layout.store.listing(layout.n_pages + 1)
