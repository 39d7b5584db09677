"""Whether compiling the model pays: by the images that are left, and by what it gained on this machine before.

No torch: a command decides it before there is a worker's process to load a model.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pipeline.records import ModelForm, ModelSpec
from pipeline.stages.user_cache import remember, remembered, user_cache

Asked = Literal["auto", "on", "off"]


OPEN_S = 1.0
"""Seconds to open a program that was compiled before."""

UNMEASURED_BREAK_EVEN = 5_000
"""Images for each worker from which compiling is taken to pay where it was never measured; see benchmarks/README.md."""

_TOPIC = "compiled"

_FORMAT = 1
"""Of what is compiled; to be raised with each change of `pipeline.stages.model.network.Program`."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What compiling cost and gained on this machine."""

    compile_s: float

    eager_images_per_s: float

    compiled_images_per_s: float

    def break_even(self, cost_s: float) -> float:
        """Return the images after which a cost in seconds is paid for; infinite where compiled is not faster.

        >>> round(Worth(40, 13, 16.5).break_even(40))
        2451
        """
        gain_s = 1 / self.eager_images_per_s - 1 / self.compiled_images_per_s
        return cost_s / gain_s if gain_s > 0 else float("inf")

    def keep(self, key: str) -> None:
        """Remember it for the next command."""
        remember(_TOPIC, {key: asdict(self)})


def micro_batch(precision: str) -> int:
    """Return the images of a forward pass on a CPU: so few that their activations stay in its cache."""
    return 8 if precision == "fp32" else 16


def known_worth(key: str) -> Worth | None:
    """Return what was remembered of a form, None where nothing was."""
    try:
        return Worth(**{name: float(value) for name, value in remembered(_TOPIC)[key].items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def break_even(key: str) -> float:
    """Return the images for each worker from which compiling pays here, as far as is known."""
    worth = known_worth(key)
    if worth is None:
        return UNMEASURED_BREAK_EVEN
    return worth.break_even(OPEN_S if is_kept(key) else worth.compile_s)


def is_kept(key: str) -> bool:
    """Return whether this machine has a form compiled already."""
    return (user_cache() / "compiled" / key).exists()


def next_load_s(loaded_s: float, key: str, *, was_kept: bool) -> float:
    """Return the seconds that loading a compiled form takes the next time, when what was compiled now is only opened.

    Parameters
    ----------
    loaded_s
        That it took now.
    was_kept
        Whether it was compiled before.
    """
    worth = None if was_kept else known_worth(key)
    return loaded_s if worth is None else max(OPEN_S, loaded_s - worth.compile_s)


def form_key(spec: ModelSpec, n_threads: int) -> str:
    """Return a name for all that decides a compiled form: the model, the processor, its threads, torch."""
    decides = [asdict(spec), micro_batch(spec.precision), n_threads, version("torch"), _processor(), _FORMAT]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def decide(asked: Asked, kind: str, n_images: int | None, pays_from: float) -> tuple[bool, str]:
    """Return whether to compile, and why, in words for people. Pure.

    Parameters
    ----------
    asked
        What ``--compile`` says.
    kind
        Of the workers: ``cpu``, ``cuda``, or anything else for those of another cluster.
    n_images
        So many images at least are left for each worker; None where that is not known.
    pays_from
        Images for each worker from which it pays.
    """
    if asked != "auto":
        return asked == "on", f"--compile {asked}"
    if kind != "cpu":
        return False, "what it gains on these workers was not measured"
    if pays_from == float("inf"):
        return False, "measured here before: it is not faster"
    if n_images is None:
        return False, f"how many images are left is not known; it pays from {pays_from:,.0f} for each worker"
    found = f"{n_images:,.0f} images" if n_images < pays_from else "images enough"
    return n_images >= pays_from, f"{found} for each worker; it pays from {pays_from:,.0f}"


def form_of(asked: Asked, batch_size: int, *, is_compiled: bool) -> ModelForm:
    """Return the form that was decided on; only where it was asked for is a model that cannot be compiled an error."""
    return ModelForm(batch_size, is_compiled, must_compile=asked == "on")


def _processor() -> str:
    """Return what tells this processor's instructions from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line for line in lines if line.startswith(("flags", "Features"))), "unknown")
