"""Other labels for stored answers: whatever interrupts it, no table is left judged by two kinds of labels."""

import pytest

from pipeline.destination import RUN_JSON, Destination
from pipeline.errors import StorageError
from pipeline.running.preflight import Labels
from pipeline.running.rescoring import is_judged_by, rescore
from pipeline.stages.classes import Classes, unlabelled
from pipeline.stages.outcomes import labels_of
from tests.stored_runs import store_run
from tests.tables import random_outcomes

NONE = Labels("none", unlabelled)


def labels_at(destination):
    return {labels_of(destination.read(name)) for name in destination.etags("outcomes")}


def test_a_rescoring_that_was_cut_short_is_gone_through_again(tmp_path, monkeypatch):
    destination = store_run(tmp_path, random_outcomes(3000))
    write, record = Destination.write, destination.read_json(RUN_JSON)

    def full(self, name, data):
        if name.endswith("000001.parquet"):
            raise StorageError("no space left")
        return write(self, name, data)

    monkeypatch.setattr(Destination, "write", full)
    with pytest.raises(StorageError):
        rescore(destination, record, NONE, Classes())
    monkeypatch.undo()
    halfway = destination.read_json(RUN_JSON)

    assert labels_at(destination) == {"none", "path"}
    assert not destination.is_marked()
    assert not is_judged_by(halfway, NONE)

    after, n_images = rescore(destination, halfway, NONE, Classes())

    assert labels_at(destination) == {"none"}
    assert n_images == 3000
    assert is_judged_by(after, NONE)
    assert is_judged_by(destination.read_json(RUN_JSON), NONE)


def test_a_complete_run_is_complete_afterwards_with_the_accuracy_that_it_has_now(tmp_path):
    destination = store_run(tmp_path, random_outcomes(100))

    rescore(destination, destination.read_json(RUN_JSON), NONE, Classes())

    assert destination.is_marked()
    assert destination.read_json(RUN_JSON)["accuracy"]["top1"]["n"] == 0
