"""Batch image inference on Dask: a bucket of images in, one defended answer per image out.

From Python the names below do what the commands do; what is printed and written is the same.

>>> from pipeline import RunConfig, evaluate, read_outcomes, run_pipeline
>>> config = RunConfig(images, outcomes, weights=weights, cluster="cpu", limit=8)
>>> tally = run_pipeline(config)  # doctest: +ELLIPSIS
dashboard ...
>>> tally.n_images
8
>>> evaluation = evaluate(read_outcomes(outcomes))
>>> evaluation.top1.n == tally.n_truth
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.evaluation import Evaluation, evaluate
    from pipeline.review.stored_outcomes import read_outcomes
    from pipeline.run import run_pipeline

__version__ = "0.1.0"

__all__ = ["Evaluation", "RunConfig", "evaluate", "read_outcomes", "run_pipeline"]

_HOMES = {
    "Evaluation": "pipeline.evaluation",
    "RunConfig": "pipeline.config",
    "evaluate": "pipeline.evaluation",
    "read_outcomes": "pipeline.review.stored_outcomes",
    "run_pipeline": "pipeline.run",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: a worker that unpickles a task should not wait for the command."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
