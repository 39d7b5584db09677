"""What a way answered to each image, read from what it left in the bucket, and whether that is fair play.

A way without an outcome for every image, or with another class than the others where the transform is the same, has no
figure. Two ways may differ in an image whose two best classes are as good as equally probable: arithmetic in another
order decides those.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click
import pyarrow.parquet as pq

TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
"""How far apart, in [0, 1], two ways may put the probability of a class."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A way's best class for an image."""

    class_index: int

    margin: float | None = None
    """How much more probable it is than the second best, in [0, 1], where the way tells."""


def answers_below(folder: Path) -> dict[str, Answer]:
    """Return the answers in a folder's Parquet tables, by the image's name."""
    found = {}
    for path in sorted(folder.rglob("outcomes/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            if row.get("status", "ok") == "ok":
                top5 = row.get("top5_probability")
                found[_name(row["image"])] = Answer(row["class_index"], top5 and top5[0] - top5[1])
    return found


def tutorial_names_below(folder: Path) -> set[str]:
    """Return the names of the images in the tutorial's own outcomes."""
    return {outcome["name"] for path in folder.glob("*.json") for outcome in json.loads(path.read_text("utf-8"))}


def check_complete(way: str, answered: set[str], images: list[str]) -> None:
    """Raise `click.ClickException` unless every image, and nothing else, was answered."""
    if answered != set(images):
        lacking, foreign = len(set(images) - answered), len(answered - set(images))
        raise click.ClickException(f"{way}: no outcome for {lacking} of {len(images)} images, {foreign} foreign ones")


def check_alike(way: str, answers: Mapping[str, Answer], reference: Mapping[str, Answer], precision: str) -> int:
    """Return how many images as good as tied are answered otherwise than in the reference, which tells its margins.

    Raises
    ------
    click.ClickException
        If an image is answered otherwise that is no such tie.
    """
    others = [image for image, answer in answers.items() if answer.class_index != reference[image].class_index]
    wrong = [image for image in others if (reference[image].margin or 0.0) > TOLERANCE[precision]]
    if wrong:
        raise click.ClickException(f"{way}: another class for {len(wrong)} images, {wrong[0]} among them")
    return len(others)


def _name(url: str) -> str:
    return PurePosixPath(url).stem
