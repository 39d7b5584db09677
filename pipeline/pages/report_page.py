"""The report on one run, from its record and what its outcomes say. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import command_line
from pipeline.evaluation import Evaluation
from pipeline.evaluation.calibration import Coverage
from pipeline.evaluation.confusion import most_confused
from pipeline.evaluation.per_class import ClassScore
from pipeline.pages.pictures import heatmap
from pipeline.pages.rendering import render
from pipeline.pages.session import last_session, planned_sentence, speed_of, verdict_sentence
from pipeline.pages.shown import Shown

COMMAND = "python -m pipeline.report"

MOST_CLASSES = 1_000
MOST_CONFUSIONS = 20
MOST_FAILED = 200
"""Names of failed images that the page has room for."""

MOST_ODD = 10
"""Odd images of each kind."""

_N_POINTS = 200
_WANTED = (0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a report is made of."""

    record: Mapping[str, Any]
    """The run's ``run.json``."""

    is_complete: bool
    evaluation: Evaluation
    mistakes: Sequence[Shown]
    failed: Sequence[Mapping[str, Any]]
    """The first failed rows, each with ``image`` and ``reason``."""

    odd: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
    """Kinds of oddities with their images, each with ``names`` and ``detail``."""


def report_page(report: Report) -> str:
    """Return the report as a page of HTML."""
    evaluation, record = report.evaluation, report.record
    session = last_session(record)
    scores = _worst_first(evaluation.scores)
    facts = {
        "title": f"{record['fingerprint_of']['model']} on {record['source']}",
        "record": record,
        "is_complete": report.is_complete,
        "evaluation": evaluation,
        "sections": _sections(report, session),
        "speed": speed_of(record),
        "verdict": verdict_sentence(record),
        "planned": planned_sentence(record),
        "noun": "breed" if evaluation.is_among_breeds else "class",
        "nouns": "breeds" if evaluation.is_among_breeds else "classes",
        "scores": scores,
        "n_scores_left_out": len(evaluation.scores) - len(scores),
        "confusions": most_confused(evaluation.confusion, MOST_CONFUSIONS),
        "class_names": [evaluation.names.get(index, str(index)) for index in evaluation.confusion.classes],
        "matrix": heatmap(evaluation.confusion.counts) if evaluation.scores else None,
        "coverage": _points(evaluation.coverage),
        "thresholds": _thresholds(evaluation.coverage),
        "mistakes": report.mistakes,
        "are_shown": any(shown.picture for shown in report.mistakes),
        "failed": report.failed,
        "odd": [(title, rows) for title, rows in report.odd if rows],
        "laps": _seconds((session or {}).get("timings_s", {}), leave_out="total"),
        "spent": _seconds((session or {}).get("spent_s", {})),
        "provenance": _provenance(record),
        "run_command": command_line(record["config"]),
    }
    return render("report.html.j2", COMMAND, facts)


def _sections(report: Report, session: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    evaluation = report.evaluation
    named = [
        ("classes", "Breeds" if evaluation.is_among_breeds else "Classes", bool(evaluation.scores)),
        ("confusion", "Confusions", bool(evaluation.scores)),
        ("calibration", "Calibration", evaluation.calibration.expected_error is not None),
        ("mistakes", "Mistakes", bool(report.mistakes)),
        ("failed", "Failed and odd images", True),
        ("time", "Time", bool(session and session["spent_s"])),
        ("provenance", "Provenance", True),
    ]
    return [(identifier, name) for identifier, name, is_there in named if is_there]


def _worst_first(scores: Sequence[ClassScore]) -> list[ClassScore]:
    """Return the classes with the most images, by recall; those without images of their own come last."""
    largest = sorted(scores, key=lambda score: -score.n)[:MOST_CLASSES]
    return sorted(largest, key=lambda score: (score.recall.value is None, score.recall.value or 0.0, -score.n))


def _points(coverage: Coverage) -> list[dict[str, float]]:
    """Return the curve at no more points than can be seen."""
    n = len(coverage.threshold)
    taken = sorted({round(i * (n - 1) / (_N_POINTS - 1)) for i in range(_N_POINTS)}) if n else []
    shares, accuracies = coverage.coverage, coverage.accuracy
    return [{"coverage": float(shares[i]), "accuracy": float(accuracies[i])} for i in taken]


def _thresholds(coverage: Coverage) -> list[str]:
    lines = []
    for wanted in _WANTED:
        threshold = coverage.threshold_for(wanted)
        if threshold is None:
            lines.append(f"No threshold gives {wanted:.0%}.")
            continue
        kept = float(coverage.coverage[coverage.threshold.searchsorted(threshold)])
        lines.append(
            f"{wanted:.0%} of what is kept is right from a confidence of {threshold:.3f} on: {kept:.1%} of it all."
        )
    return lines


def _seconds(seconds: Mapping[str, float], leave_out: str = "") -> list[dict[str, Any]]:
    return [{"name": name, "seconds": value} for name, value in seconds.items() if name != leave_out]


def _provenance(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what decides the predictions, and what was asked of the stores for them."""
    decisive = [(name.replace("_", " "), value) for name, value in record["fingerprint_of"].items()]
    requests = [f"{n:,} {kind.replace('_', ' ')}" for kind, n in record.get("requests", {}).items()]
    compiled = [session["compiled"] for session in record.get("sessions", ())][-1:]
    return [
        ("weights", record["config"]["weights"]),
        *decisive,
        ("fingerprint", record["fingerprint"]),
        *[("compiled", words) for words in compiled],
        *([("requests", ", ".join(requests))] if requests else []),
    ]
