"""Everything that a table of outcomes says about a model, in one record. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.answers import Answers, answers_of, breed_answers_of
from pipeline.evaluation.calibration import Calibration, Coverage, calibration, coverage
from pipeline.evaluation.confusion import ConfusionMatrix, confusion_matrix
from pipeline.evaluation.metrics import Share
from pipeline.evaluation.notable import FailureGroup, failure_groups
from pipeline.evaluation.per_class import ClassScore, balanced_accuracy, class_scores
from pipeline.stages.labels import breeds


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What outcomes say about a model."""

    n_images: int

    n_ok: int
    """Classified, with or without a known truth."""

    failures: tuple[FailureGroup, ...]
    """The most frequent first."""

    top1: Share
    """Classified images of known truth whose most probable class is the true one."""

    top5: Share
    """Those whose true class is among the five most probable."""

    breed: Share
    """Images of the 120 breeds whose most probable breed is the true one; of none where truth or model is another."""

    names: Mapping[int, str]
    """Of every class that is the truth of an image, or the answer to one."""

    is_among_breeds: bool
    """Whether `scores` and `confusion` are of the choice among the 120 breeds, and not among all classes."""

    scores: tuple[ClassScore, ...]
    """By class index."""

    balanced_accuracy: float | None
    """The mean recall of `scores`; None without any image of known truth."""

    confusion: ConfusionMatrix

    calibration: Calibration
    """Of the choice among all classes."""

    coverage: Coverage
    """Likewise."""

    @property
    def n_failed(self) -> int:
        """Images without an answer."""
        return self.n_images - self.n_ok

    def __str__(self) -> str:
        lines = [f"images       {self.n_images:,}: {self.n_ok:,} ok, {self.n_failed:,} failed"]
        lines += [f"top-1        {self.top1}", f"top-5        {self.top5}"]
        lines += [f"of breeds    {self.breed}"] if self.breed.n else []
        if self.balanced_accuracy is not None:
            lines.append(f"balanced     {self.balanced_accuracy:.1%}")
        if self.calibration.expected_error is not None:
            lines.append(f"calibration  expected error {self.calibration.expected_error:.1%}")
        lines += [f"failed       {group.n:,} in {group.stage}: {group.reason}" for group in self.failures]
        return "\n".join(lines)


def evaluate(outcomes: pa.Table) -> Evaluation:
    """Return what a table of outcomes, or any selection of its rows, says about the model.

    Parameters
    ----------
    outcomes
        With the columns of `pipeline.stages.outcomes.OUTCOMES_SCHEMA`, as `pipeline.read_outcomes` or any other Parquet
        reader returns them; it may be empty.
    """
    among_all, among_breeds = answers_of(outcomes), breed_answers_of(outcomes)
    judged = among_breeds if len(among_breeds) else among_all
    scores = class_scores(judged.truth, judged.answer)
    return Evaluation(
        n_images=len(outcomes),
        n_ok=_n_true(pc.equal(outcomes["status"], "ok")),
        failures=tuple(failure_groups(outcomes)),
        top1=_share(among_all),
        top5=Share(_n_true(outcomes["correct_top5"]), len(among_all)),
        breed=_share(among_breeds),
        names=class_names(outcomes),
        is_among_breeds=len(among_breeds) > 0,
        scores=tuple(scores),
        balanced_accuracy=balanced_accuracy(scores),
        confusion=confusion_matrix(judged.truth, judged.answer),
        calibration=calibration(among_all.confidence, among_all.is_correct),
        coverage=coverage(among_all.confidence, among_all.is_correct),
    )


def class_names(outcomes: pa.Table) -> dict[int, str]:
    """Return the name of every class that occurs, by its index: the truth's own where it is one, else the model's."""
    named = _pairs(outcomes, "class_index", "category") | _pairs(outcomes, "truth_index", "breed")
    if outcomes["breed_class_index"].null_count < len(outcomes):  # the table names the answer among all classes only
        named = {breed.class_index: breed.name for breed in breeds()} | named
    return named


def _pairs(outcomes: pa.Table, index: str, name: str) -> dict[int, str]:
    groups = outcomes.select([index, name]).group_by([index, name]).aggregate([])
    columns = zip(groups[index].to_pylist(), groups[name].to_pylist(), strict=True)
    return {i: words for i, words in columns if i is not None and words is not None}


def _share(answers: Answers) -> Share:
    return Share(int(np.count_nonzero(answers.is_correct)), len(answers))


def _n_true(column: pa.ChunkedArray) -> int:
    return pc.sum(column).as_py() or 0
