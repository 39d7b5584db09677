"""A model on one device: uint8 pixels in, top fives out. The one owner of torch's forward pass.

================  ====================================================================
``network``       the model itself: weights, folding, normalising
``answers``       logits to top fives, on the device; one small array comes back
``device``        which device there is, and what its faults look like
``classifier``    any device, one batch at a time; memory that runs out loses no row
``fixed_shapes``  a few batch sizes only, smaller ones padded
``compiled``      the program compiled: kept between runs, for the CPU
``graphs``        CUDA graphs: one launch for a whole device batch
``capacity``      the largest device batch that fits: probed, remembered
``streams``       CUDA's streams, events and pinned memory
``overlap``       a GPU that takes in the next device batch while it computes the last
``load``          all of it, put together for the device at hand
================  ====================================================================
"""

from pipeline.stages.model.answers import top5
from pipeline.stages.model.classifier import Classifier
from pipeline.stages.model.device import best_device
from pipeline.stages.model.load import load_model
from pipeline.stages.model.network import PRECISIONS, load_state_dict, tensor_shapes

__all__ = ["PRECISIONS", "Classifier", "best_device", "load_model", "load_state_dict", "tensor_shapes", "top5"]
