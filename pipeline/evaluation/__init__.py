"""What outcomes say about a model, and figures about a run. Pure."""

from pipeline.evaluation.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
