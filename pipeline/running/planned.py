"""A plan that was saved, held against a run: whether it is of that run, and what came of it. Effects: reads a file."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.forecast.estimate import Estimate
from pipeline.forecast.forecast import VERSION
from pipeline.forecast.words import time_words, verb_words
from pipeline.records import ModelSpec
from pipeline.running.fingerprint import differences, ingredients
from pipeline.storage import redact


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan said, as far as a run can be held against it."""

    name: str
    """Of the file."""

    identity: Mapping[str, Any]

    seconds: Estimate

    requests: Counter[str]
    """Until the last row is stored, by kind."""

    def refuse_if_other(self, config: RunConfig, source: str, spec: ModelSpec) -> None:
        """Raise `UsageError` if it is a plan of another run. A precision of ``auto`` is not compared."""
        ours = {name: value for name, value in identity_of(config, source, spec).items() if value != "auto"}
        if differing := differences(ours, self.identity):
            raise UsageError(
                f"--planned {self.name} is of another run, which has {'; '.join(differing)}: "
                "plan this run anew, or leave --planned out"
            )

    def beside(self, took_s: float, requests: Mapping[str, int]) -> dict[str, Any]:
        """Return what was planned and what a run took, side by side, with a sentence for people."""
        took = Counter(requests)
        sentence = (
            f"{time_words(self.seconds)}, {verb_words(self.requests)}; "
            f"took {time_words(Estimate.exact(took_s))}, {verb_words(took)}"
        )
        return {
            "sentence": sentence,
            "seconds": asdict(self.seconds),
            "requests": dict(self.requests),
            "took_s": round(took_s, 3),
            "took_of_planned": round(took_s / self.seconds.expected, 3),
        }


def identity_of(config: RunConfig, source: str, spec: ModelSpec) -> dict[str, Any]:
    """Return of which run a plan is: which images, and what decides their predictions."""
    narrowed = {"include": list(config.include), "exclude": list(config.exclude), "limit": config.limit}
    return {"source": redact(source)} | narrowed | ingredients(spec)


def read_planned(config: RunConfig) -> Planned | None:
    """Return the plan that ``--planned`` names, None where it names none; raise `UsageError` where it is no plan."""
    if config.planned is None:
        return None
    try:
        told = json.loads(Path(config.planned).read_text(encoding="utf-8"))
        if told["version"] != VERSION:
            raise ValueError(f"version {told['version']}")
        seconds = Estimate(*(float(told["seconds"][name]) for name in ("expected", "low", "high")))
        if not 0 < seconds.low <= seconds.expected <= seconds.high < math.inf:
            raise ValueError(f"seconds {seconds}")
        requests = Counter({str(kind): int(count) for kind, count in told["requests"]["until_stored"].items()})
        return Planned(config.planned, dict(told["for"]), seconds, requests)
    except OSError as error:
        raise UsageError(f"--planned {config.planned}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--planned {config.planned} is no plan: expected what this version's python -m pipeline.plan --save writes"
        ) from error
