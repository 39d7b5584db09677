"""The comparison of two runs, as text and as a page. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.comparison import Comparison, Paired
from pipeline.pages.rendering import percent, points, render
from pipeline.pages.session import speed_of, verdict_sentence
from pipeline.pages.shown import Shown

COMMAND = "python -m pipeline.compare"

SIGNIFICANT = 0.05
"""A p-value below this is called a difference."""

_N_CLASSES = 5
"""Classes that the text names."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the two."""

    label: str
    """``A`` or ``B``."""

    url: str
    record: Mapping[str, Any]
    """Its ``run.json``."""

    @property
    def model(self) -> str:
        """What decides its predictions, in short."""
        known = self.record["fingerprint_of"]
        weights = f"{self.record['config']['weights']} (SHA-256 {known['weights_sha256'][:12]})"
        return f"{known['model']} {weights} in {known['precision']}"


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What a comparison is made of."""

    a: Run
    b: Run
    comparison: Comparison
    only_a: Sequence[Shown]
    """Images that only A has right, with B's answer."""

    only_b: Sequence[Shown]


def compare_page(compared: Compared) -> str:
    """Return the comparison as a page of HTML."""
    comparison, paired = compared.comparison, compared.comparison.paired
    disputes = [("A", "B", compared.only_a), ("B", "A", compared.only_b)]
    facts = {
        "title": "Two runs on the same images",
        "runs": [_told(compared.a), _told(compared.b)],
        "sections": [
            ("images", "Images"),
            *([("classes", "Classes")] if paired.n else []),
            *[(f"only-{right.lower()}", f"Only {right} is right") for right, _, shown in disputes if shown],
            *([("calibration", "Calibration")] if paired.n else []),
            ("speed", "Speed"),
        ],
        "comparison": comparison,
        "paired": paired,
        "agreement": comparison.agreement,
        "sentence": sentence(paired),
        "differences": _differences(compared),
        "by_class": _by_class(comparison),
        "disputes": disputes,
    }
    return render("compare.html.j2", COMMAND, facts)


def compare_text(compared: Compared) -> list[tuple[str, str]]:
    """Return the comparison as lines of a label and a text."""
    comparison, paired = compared.comparison, compared.comparison.paired
    a, b = comparison.a, comparison.b
    lines = [
        ("A", f"{compared.a.url}: {compared.a.model}"),
        ("B", f"{compared.b.url}: {compared.b.model}"),
        ("images", f"{comparison.n_common:,} in both at one version, of {a.n_images:,} and {b.n_images:,}"),
        ("failed", f"{a.n_failed_alone:,} in A alone, {b.n_failed_alone:,} in B alone"),
        ("accuracy A", str(paired.a)),
        ("accuracy B", str(paired.b)),
        ("B less A", sentence(paired)),
        (
            "right",
            f"both {paired.n_both:,}, only A {paired.n_only_a:,}, only B {paired.n_only_b:,}, none {paired.n_none:,}",
        ),
        ("agreement", f"{percent(comparison.agreement.value)} got the same answer"),
        ("calibration", f"expected error A {_error(a)}, B {_error(b)}"),
    ]
    moved = [(name, pair) for name, pair in _by_class(comparison)[:_N_CLASSES] if pair.difference]
    lines += [("by class", f"{name}: {points(pair.difference)} points ({pair.n:,} images)") for name, pair in moved]
    speeds = [(run.label, speed) for run in (compared.a, compared.b) if (speed := speed_of(run.record))]
    if speeds:
        told = ", ".join(f"{label} {speed.images_per_s:.1f}" for label, speed in speeds)
        lines.append(("images/s", f"{told}, start-up included"))
    return lines


def sentence(paired: Paired) -> str:
    """Return what the two accuracies come to."""
    if paired.difference is None:
        return "No image of known truth was classified by both."
    low, high = paired.interval
    is_clear = paired.p_value < SIGNIFICANT
    words = f"B is {'better' if paired.difference > 0 else 'worse'}" if is_clear else "no difference can be told"
    size = f"{points(paired.difference)} points, 95 % interval {points(low)} to {points(high)}"
    return f"{words} ({size}; McNemar's p = {paired.p_value:.2g})"


def _error(side: Any) -> str:
    return percent(side.calibration.expected_error)


def _told(run: Run) -> dict[str, Any]:
    return {
        "label": run.label,
        "url": run.url,
        "model": run.model,
        "speed": speed_of(run.record),
        "verdict": verdict_sentence(run.record),
    }


def _differences(compared: Compared) -> list[tuple[str, Any, Any]]:
    a, b = compared.a.record["fingerprint_of"], compared.b.record["fingerprint_of"]
    return [(name.replace("_", " "), a.get(name), b.get(name)) for name in a | b if a.get(name) != b.get(name)]


def _by_class(comparison: Comparison) -> list[tuple[str, Paired]]:
    """Return every class by name, those with the largest differences first."""
    named = [(comparison.names.get(index, str(index)), pair) for index, pair in comparison.by_class.items()]
    return sorted(named, key=lambda item: (-abs(item[1].difference or 0.0), item[0]))
