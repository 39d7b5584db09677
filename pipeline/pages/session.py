"""What a run's record tells of the command that scored its last images. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a command was, start-up included."""

    n_scored: int

    seconds: float

    @property
    def images_per_s(self) -> float:
        """Images over seconds."""
        return self.n_scored / self.seconds


def last_session(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the last command's share that scored anything; None where the run has told of none."""
    scoring = [session for session in record.get("sessions", ()) if session["n_scored"]]
    return scoring[-1] if scoring else None


def speed_of(record: Mapping[str, Any]) -> Speed | None:
    """Return how fast the last command was that scored anything."""
    session = last_session(record)
    total_s = session["timings_s"]["total"] if session else 0.0
    return Speed(session["n_scored"], total_s) if session and total_s else None


def planned_sentence(record: Mapping[str, Any]) -> str | None:
    """Return what a plan had said of the last command that scored anything, beside what it took, as a sentence."""
    planned = (last_session(record) or {}).get("planned")
    return planned["sentence"] if planned else None


def verdict_sentence(record: Mapping[str, Any]) -> str | None:
    """Return what bounded the last command that scored anything, as a sentence."""
    verdict = (last_session(record) or {}).get("verdict")
    return verdict["sentence"] if verdict else None
