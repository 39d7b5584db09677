"""The records that travel between the stages. Pure: no I/O, no Dask, no torch.

==========  ======================================================================
``images``  an image, from its address to its row
``models``  what decides a model's predictions and its speed, and how it is asked
``parts``   what is to be done, and what came of it
==========  ======================================================================
"""

from pipeline.records.images import ImageBatch, ImageFailure, ImageRef, Outcome, Prediction, Sample, Stage
from pipeline.records.models import Busy, ModelForm, ModelSpec, Pipelined, Predict, Running, Transform
from pipeline.records.parts import Part, PartWork, Receipt, Tally, WorkerFacts

__all__ = [
    "Busy",
    "ImageBatch",
    "ImageFailure",
    "ImageRef",
    "ModelForm",
    "ModelSpec",
    "Outcome",
    "Part",
    "PartWork",
    "Pipelined",
    "Predict",
    "Prediction",
    "Receipt",
    "Running",
    "Sample",
    "Stage",
    "Tally",
    "Transform",
    "WorkerFacts",
]
