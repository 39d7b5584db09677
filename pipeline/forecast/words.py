"""A plan for people: short lines, each with its label. Pure."""

import math
from collections import Counter
from collections.abc import Iterator

from pipeline.forecast.estimate import Estimate
from pipeline.forecast.forecast import Forecast, Requests
from pipeline.forecast.prices import HOURS, KINDS, Bill
from pipeline.forecast.requests import VERBS
from pipeline.forecast.survey import Images
from pipeline.forecast.workers import workers_sentence

_UNITS = ((2 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))
"""From how many seconds on, the unit's seconds, its name."""

_MB = 1e6


def lines_of(forecast: Forecast, max_failure_rate: float) -> Iterator[tuple[str, str]]:
    """Yield the label and the text of each line.

    Parameters
    ----------
    max_failure_rate
        The share, in [0, 1], above which a run ends early.
    """
    sample, duration = forecast.sample, forecast.duration
    yield "images", f"{size_words(forecast.listed)}; by name {counts_words(forecast.listed.suffixes)}"
    yield "to do", f"{size_words(forecast.to_do)}, in {forecast.n_parts:,} part{'s' * (forecast.n_parts != 1)}"
    yield "model", forecast.model
    yield "compiled", forecast.compiled
    yield "sample", f"{sample.n_images:,} images, spread evenly; by their bytes {counts_words(sample.formats)}"
    yield from (("failures", line) for line in _failure_lines(forecast, max_failure_rate))
    yield "time", f"{time_words(duration.total_s)}, start-up and end included"
    yield "", f"start-up {duration.start_up_s:.1f} s; {_pace_words(forecast)}; tail {duration.tail_s:.1f} s"
    yield "cluster", _cluster_words(forecast)
    yield "requests", _request_words(forecast.requests)
    yield "money", money_words(forecast.bill)
    yield "bound by", str(forecast.verdict)
    yield "workers", workers_sentence(forecast.limits)
    yield from (("not planned", note) for note in forecast.notes)


def time_words(seconds: Estimate) -> str:
    """Return a time with its range, in the unit that suits it.

    >>> time_words(Estimate(5400.0, 5000.0, 6000.0))
    '90 (83-100) min'
    """
    unit, name = next((unit, name) for least, unit, name in _UNITS if seconds.expected >= least)
    return f"{seconds.words(unit)} {name}"


def size_words(images: Images) -> str:
    """Return how many images there are, and how large they are together."""
    unknown = f" and {images.n_unknown:,} of unknown size" if images.n_unknown else ""
    return f"{images.n_images:,} images, {images.n_bytes / _MB:,.1f} MB{unknown}"


def number_words(number: Estimate) -> str:
    """Return a number of whole things, its range rounded outwards.

    >>> number_words(Estimate(14.7, 6.2, 33.4)), number_words(Estimate.exact(3))
    ('15 (6-34)', '3')
    """
    low, high = math.floor(number.low), math.ceil(number.high)
    return f"{number.expected:,.0f}" if low == high else f"{number.expected:,.0f} ({low:,}-{high:,})"


def counts_words(counts: Counter[str], between: str = " ") -> str:
    """Return counts by name, the largest first.

    >>> counts_words(Counter({"PNG": 2, "JPEG": 1200}))
    '1,200 JPEG, 2 PNG'
    """
    return ", ".join(f"{count:,}{between}{name}" for name, count in counts.most_common() if count)


def verb_words(requests: Counter[str]) -> str:
    """Return requests as S3 calls them.

    >>> verb_words(Counter(write=3, read=1200, bytes_read=7))
    '1,200 GET, 3 PUT'
    """
    return ", ".join(f"{requests[kind]:,} {verb}" for kind, verb in VERBS.items() if requests[kind])


def money_words(bill: Bill) -> str:
    """Return what it costs, of what, and what has no price."""
    without = f"not priced: {', '.join(bill.unpriced)}" if bill.unpriced else ""
    idle = f"not used: {', '.join(bill.idle)}" if bill.idle else ""
    if not bill.items:
        return "; ".join(filter(None, [without, idle or "no --price option was given"]))
    items = [f"{item.amount} {item.kind.unit} × {item.price:g}" for item in bill.items]
    return "; ".join(filter(None, [f"{bill.total}, in the currency of the prices", ", ".join(items), without, idle]))


def _failure_lines(forecast: Forecast, max_failure_rate: float) -> Iterator[str]:
    failures = forecast.failures
    if not failures.reasons:
        yield f"{number_words(failures.expected(failures.share))} images (none of the sample)"
    for stage, share in failures.by_stage.items():
        reasons = Counter({reason: count for (place, reason), count in failures.reasons.items() if place == stage})
        told = counts_words(reasons, ": ")
        yield f"{number_words(failures.expected(share))} images in {stage} (of the sample {told})"
    if failures.n_before:
        yield f"{failures.n_before:,} images that failed before, and are not tried again"
    expected = failures.expected(failures.share).expected + failures.n_before
    if expected > max_failure_rate * forecast.listed.n_images:
        yield f"more than --max-failure-rate {max_failure_rate:.1%} allows: the run would end with status 3"


def _pace_words(forecast: Forecast) -> str:
    sample = forecast.sample
    seen = f"{sample.n_counted:,} in {sample.seconds:.0f} s, batches of {sample.batch_size}"
    if sample.share < 1:
        seen += f", on {sample.n_workers:,} of {forecast.workers.n_workers:,} workers"
    return f"{sample.images_per_s:,.1f} images/s, as seen of the sample ({seen})"


def _cluster_words(forecast: Forecast) -> str:
    workers, hours = forecast.workers, forecast.hours
    name = next(name for name in HOURS if hours[name].high > 0)
    unit = next(kind.unit for kind in KINDS if kind.name == name)
    gpus = f", {workers.n_gpus:,} GPU{'s' * (workers.n_gpus != 1)}" if workers.n_gpus else ""
    plural = "s" * (workers.n_workers != 1)
    return f"{hours[name]} {unit} ({workers.n_workers:,} worker{plural}{gpus}, {workers.n_cores:,} cores)"


def _request_words(requests: Requests) -> str:
    if not requests.on_s3:
        return "none of S3: neither end is there"
    only = "" if len(requests.on_s3) == 2 else f", as far as the {min(requests.on_s3)} is concerned"
    until, all_ = requests.until_stored, requests.of_s3
    if only:
        return f"{verb_words(all_)}{only}"
    return f"{verb_words(until)}; with the mark and the report {verb_words(all_)} at most"
