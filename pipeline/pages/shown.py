"""An image on a page, with its thumbnail. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.pages.thumbnails import Thumbnail


@dataclass(frozen=True, slots=True)
class Shown:
    """What is said of it."""

    name: str
    truth: str | None
    answer: str | None
    confidence: float | None
    picture: str | None
    """A data URI."""

    why_not: str
    """Why there is no picture."""


def shown(row: Mapping[str, Any], thumbnail: Thumbnail, source: str) -> Shown:
    """Return a row of the outcomes table with its thumbnail, named by its path below the run's source."""
    name, truth, answer = row["image"].removeprefix(f"{source}/"), row["breed"], row["category"]
    return Shown(name, truth, answer, row["probability"], thumbnail.picture, thumbnail.why_not)
