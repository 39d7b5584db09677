"""From a state dict to a model in the form that suits this process's device. It belongs to the calling thread."""

import logging

import torch
from torch import Tensor

from pipeline.records import ModelForm, ModelSpec, Pipelined, Predict
from pipeline.stages.compiling import form_key, known_worth, micro_batch
from pipeline.stages.model.capacity import device_batch
from pipeline.stages.model.classifier import Classifier
from pipeline.stages.model.compiled import compiled_for_cpu, compiled_for_cuda
from pipeline.stages.model.device import best_device
from pipeline.stages.model.fixed_shapes import FixedShapes, doubled, once_prepared
from pipeline.stages.model.graphs import GraphRecorder
from pipeline.stages.model.overlap import Overlapped
from pipeline.stages.model.streams import CudaStreams

logger = logging.getLogger("pipeline")


def load_model(spec: ModelSpec, state: dict[str, Tensor], form: ModelForm) -> Predict | Pipelined:
    """Return a model on this process's device, as fast as it gets there.

    Raises
    ------
    RuntimeError
        If it must be compiled and cannot be.
    """
    classifier = Classifier(spec, state, best_device())
    if classifier.device.type == "cuda":
        return on_cuda(classifier, spec, form)
    if form.is_compiled:
        compile_if_possible(classifier, spec, must_compile=form.must_compile)
    elif form.device_batch is not None:
        classifier.slice_size = form.device_batch
    return classifier


def compile_if_possible(classifier: Classifier, spec: ModelSpec, *, must_compile: bool) -> None:
    """Have a classifier on the CPU compute in compiled form, where that can be had and is faster.

    Raises
    ------
    RuntimeError
        If it must be and cannot be.
    """
    key, side = form_key(spec, torch.get_num_threads()), spec.transform.crop_size
    n_images = micro_batch(spec.precision)
    buffer = torch.zeros((n_images, 3, side, side), dtype=torch.uint8).to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            run = compiled_for_cpu(classifier.program, buffer, key)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if must_compile:
            raise RuntimeError(f"--compile on: the model cannot be compiled here ({reason})") from error
        logger.warning("the model is not compiled, which costs speed only: %s", reason)
        return
    worth = known_worth(key)
    if must_compile or worth is None or worth.compiled_images_per_s > worth.eager_images_per_s:
        classifier.faster = FixedShapes(run, lambda: (n_images,), once_prepared)


def on_cuda(classifier: Classifier, spec: ModelSpec, form: ModelForm) -> Overlapped:
    """Return a classifier on a GPU that overlaps copying and computing, its launches recorded as CUDA graphs."""
    # The cores are for decoding: this thread only launches, and copies into pinned memory.
    torch.set_num_threads(1)
    # Shapes stay the same, since device batches are padded: worth a search for the fastest algorithms.
    torch.backends.cudnn.benchmark = True
    classifier.slice_size = _largest_device_batch(classifier, spec, form.batch_size)
    forward = compiled_for_cuda(classifier.program) if form.is_compiled else classifier.program
    shapes = FixedShapes(forward, lambda: doubled(form.batch_size, classifier.slice_size), GraphRecorder())
    classifier.faster, classifier.let_go = shapes, shapes.forget
    return Overlapped(classifier, CudaStreams(), form.batch_size)


def _largest_device_batch(classifier: Classifier, spec: ModelSpec, smallest: int) -> int:
    side = spec.transform.crop_size

    @torch.inference_mode()
    def fits(n_images: int) -> bool:
        """Return whether so many images go through together."""
        is_enough = classifier.if_it_fits(torch.zeros((n_images, 3, side, side), dtype=torch.uint8)) is not None
        torch.cuda.empty_cache()
        return is_enough

    key = f"{torch.cuda.get_device_name()}, {spec.name}, {spec.precision}, {side}x{side}"
    return device_batch(key, fits, smallest)
