"""Other labels for answers that are stored: every part is judged anew, and no image is read. Effects: storage."""

from collections.abc import Mapping
from typing import Any

import toolz

from pipeline.destination import OUTCOMES_FOLDER, RUN_JSON, SUCCESS, Destination, part_number
from pipeline.records import Tally
from pipeline.running.preflight import Labels
from pipeline.running.provenance import told_accuracy
from pipeline.stages.classes import Classes
from pipeline.stages.outcomes import BY_PATH, decode_outcomes, encode_outcomes, labels_of, tally_of
from pipeline.stages.score import rescored

_PARTS_AT_A_TIME = 64


_UNFINISHED = "is_being_rescored"
"""In ``run.json`` while some parts may still be judged by other labels."""


def is_judged_by(record: Mapping[str, Any], labels: Labels) -> bool:
    """Return whether every stored answer of a run is judged by these labels, as its ``run.json`` tells."""
    return record.get("labels", BY_PATH) == labels.identity and not record.get(_UNFINISHED)


def rescore(
    destination: Destination, record: Mapping[str, Any], labels: Labels, classes: Classes
) -> tuple[Mapping[str, Any], int]:
    """Judge what is stored by other labels; return what ``run.json`` says from now on, and the number of images.

    ``run.json`` is the first to tell of the labels, so that no task of a run with others commits any more; the mark
    comes last. Ended in between, ``run.json`` says so until a command has gone through all parts: see `is_judged_by`.
    """
    was_complete = destination.is_marked()
    destination.delete([SUCCESS])
    record = dict(record) | {"labels": labels.identity}
    destination.write_json(RUN_JSON, record | {_UNFINISHED: True})
    tally = Tally()
    names = sorted(name for name in destination.etags(OUTCOMES_FOLDER) if part_number(name) is not None)
    for page in toolz.partition_all(_PARTS_AT_A_TIME, names):
        for name, data in zip(page, destination.read_many(page), strict=True):
            tally.add(tally_of(_judged(destination, name, data, labels, classes)))
    record.pop(_UNFINISHED, None)
    if was_complete:
        record |= {"accuracy": told_accuracy(tally)}
    destination.write_json(RUN_JSON, record)
    if was_complete:
        destination.write(SUCCESS, b"")
    return record, tally.n_images


def _judged(destination: Destination, name: str, data: bytes, labels: Labels, classes: Classes) -> bytes:
    """Return a part as it is to stay, once it is stored so."""
    if labels_of(data) == labels.identity:
        return data
    outcomes, fingerprint = decode_outcomes(data)
    judged = [rescored(outcome, labels.label_of(outcome.image), classes) for outcome in outcomes]
    data = encode_outcomes(judged, fingerprint, labels=labels.identity)
    destination.write(name, data)
    return data
