"""A model on any device, one batch at a time; memory that runs out loses no row.

A `Classifier` belongs to one thread. Normalising, the model, softmax and the choice of the top five run on its device;
only the top fives come back.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import DeviceError
from pipeline.records import ModelSpec, Prediction
from pipeline.stages.compiling import micro_batch
from pipeline.stages.model.answers import unpacked
from pipeline.stages.model.device import device_faults, is_out_of_memory
from pipeline.stages.model.network import PRECISIONS, Program, network


class Classifier:
    """A model on its device.

    Where a batch does not fit into the device's memory it goes through in halves, and later ones do so at once.

    Parameters
    ----------
    spec
        Which model, with which transform and precision.
    state
        Its state dict.
    device
        ``cpu`` or ``cuda``.
    """

    def __init__(self, spec: ModelSpec, state: dict[str, Tensor], device: str) -> None:
        self.device = torch.device(device)
        self.slice_size = micro_batch(spec.precision) if self.device.type == "cpu" else sys.maxsize
        """Images per forward pass, at most."""
        self.faster: Callable[[Tensor], Tensor] | None = None
        """Computes what `program` computes, compiled or recorded; used where it is set."""
        self.let_go: Callable[[], None] | None = None
        """Lets go of memory that `faster` holds, for when memory runs out."""
        model, dtype = network(spec.name, state, spec.n_classes, spec.transform.crop_size), PRECISIONS[spec.precision]
        self.program = Program(model, spec.transform, dtype, has_breeds=spec.categories is None).to(self.device)
        """Answers (N, 3, H, W) uint8 images on the device, as many as there are at a time."""
        if spec.precision == "fp32":
            # TensorFloat-32 keeps 10 bits of mantissa: not what a caller of fp32 asked for.
            torch.backends.cudnn.allow_tf32 = False

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Classify images.

        Parameters
        ----------
        pixels
            (N, 3, H, W), N > 0.

        Raises
        ------
        DeviceError
            If the device fails for good, or a single image does not fit into its memory.
        """
        with device_faults():
            return unpacked(self.in_slices(torch.from_numpy(pixels)).cpu().numpy())

    def in_slices(self, images: Tensor) -> Tensor:
        """Return the packed answers to (N, 3, H, W) uint8 images, on the device; `slice_size` go through at a time.

        Raises
        ------
        DeviceError
            If a single image does not fit into the device's memory.
        """
        done: list[Tensor] = []
        while len(images):
            some = images[: self.slice_size]
            answer = self.if_it_fits(some)
            if answer is None:
                self._halve(len(some))
                continue
            done.append(answer)
            images = images[len(some) :]
        return done[0] if len(done) == 1 else torch.cat(done)

    def if_it_fits(self, images: Tensor) -> Tensor | None:
        """Return the packed answers to images that go through together, None where memory does not suffice."""
        # The mend must wait until the except block is left: in it the error holds the tensors that fill the memory.
        try:
            return (self.faster or self.program)(images.to(self.device))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _halve(self, n_images: int) -> None:
        if n_images == 1:
            raise DeviceError(f"not even one image fits into the memory of {self.device}")
        if self.let_go is not None:
            self.let_go()
        torch.cuda.empty_cache()
        self.slice_size = n_images // 2
