"""What one GPU and the cores beside it can do without any engine: the model in each form, copies, decoding.

Every rate of the device is taken between CUDA events. Nothing here has been run on a GPU yet.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.engine.one_by_one import pipelined
from pipeline.records import ImageRef, ModelForm, ModelSpec, Pipelined, Prediction, Sample
from pipeline.stages.architectures import transform_of
from pipeline.stages.decode import decode
from pipeline.stages.model import Classifier, load_model, load_state_dict
from pipeline.stages.model.compiled import compiled_for_cuda
from pipeline.stages.model.fixed_shapes import FixedShapes, Forward
from pipeline.stages.model.graphs import GraphRecorder

PRECISIONS = ("bf16", "fp16", "fp32")
BATCH_SIZES = (80, 160, 320, 640, 1024)
COMPILED_SIZES = (80, 640)
"""Compiling takes up to a minute for each."""

TIMED_S = 0.4
"""Seconds for which each form is timed, after it has warmed up."""


def spec_of(weights: Path, precision: str) -> ModelSpec:
    """Return the model with the demo's weights."""
    return ModelSpec("resnet50", str(weights), "", transform_of("resnet50", str(weights)), precision)


def classifier_of(weights: Path, precision: str) -> Classifier:
    """Return the pipeline's own classifier on the GPU."""
    torch.backends.cudnn.benchmark = True
    return Classifier(spec_of(weights, precision), load_state_dict(weights.read_bytes(), str(weights)), "cuda")


def images_per_s(run: Callable[[], object], n_images: int, timed_s: float = TIMED_S) -> float:
    """Return the rate of what `run` launches, by CUDA events."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    n_runs = repeats(time.perf_counter() - began, timed_s)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(n_runs):
        run()
    end.record()
    torch.cuda.synchronize()
    return round(n_runs * n_images / (float(begin.elapsed_time(end)) / 1000), 1)


def repeats(one_s: float, timed_s: float) -> int:
    """Return how often to run what takes `one_s` so that it is timed for about `timed_s`. Pure."""
    return max(3, min(1000, round(timed_s / max(one_s, 1e-6))))


def forms(classifier: Classifier, n_images: int) -> Iterator[tuple[str, Forward]]:
    """Yield the forms of a model for one batch size by name, the quick ones first."""
    shapes = (n_images,)
    yield "eager", classifier.program
    yield "graph", FixedShapes(classifier.program, lambda: shapes, GraphRecorder())
    if n_images in COMPILED_SIZES:
        compiled = compiled_for_cuda(classifier.program)
        yield "compiled", compiled
        yield "compiled, graph", FixedShapes(compiled, lambda: shapes, GraphRecorder())
        yield "reduce-overhead", torch.compile(classifier.program, mode="reduce-overhead", dynamic=False)


@torch.inference_mode()
def model_alone(weights: Path, is_late: Callable[[], bool]) -> list[dict[str, Any]]:
    """Return the images/s on ready uint8 pixels on the device, softmax and top five included, in each form."""
    rows: list[dict[str, Any]] = []
    for precision in PRECISIONS:
        classifier = classifier_of(weights, precision)
        for n_images in BATCH_SIZES:
            images = torch.randint(0, 256, (n_images, 3, 224, 224), dtype=torch.uint8, device="cuda")
            images = images.to(memory_format=torch.channels_last)
            for name, forward in forms(classifier, n_images):
                row = {"precision": precision, "batch_size": n_images, "form": name}
                if is_late() or (precision != "bf16" and "compiled" in name) or ("reduce" in name and n_images != 80):
                    continue
                rows.append(row | measured(forward, images))
    return rows


def measured(forward: Forward, images: Tensor) -> dict[str, Any]:
    """Return a form's rate on a stream of its own, as recording needs it, or what went wrong."""
    try:
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            return {"images_per_s": images_per_s(lambda: forward(images), len(images))}
    except Exception as error:  # noqa: BLE001  one form that fails must not cost the others
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def copies(_weights: Path) -> dict[str, float]:
    """Return GB/s from host to device, for a batch of 80 and for eight of them."""
    rates = {}
    for n_images in (80, 640):
        for memory in ("pinned", "pageable"):
            host = torch.zeros((n_images, 3, 224, 224), dtype=torch.uint8, pin_memory=memory == "pinned")
            device = torch.empty_like(host, device="cuda")
            rate = images_per_s(partial(device.copy_, host, non_blocking=True), host.nbytes)
            rates[f"{memory}, {n_images} images"] = round(rate / 1e9, 2)
    return rates


def decoding(weights: Path, jpegs: Sequence[bytes], seconds: float = 5.0) -> dict[str, float]:
    """Return images/s of the pipeline's own decoding alone, on every core."""
    transform, n_cores = spec_of(weights, "fp32").transform, len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(n_cores) as pool:
        began, n_done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            list(pool.map(lambda data: decode(ImageRef("x", "", len(data)), data, transform), jpegs))
            n_done += len(jpegs)
        return {"cores": n_cores, "images_per_s": round(n_done / (time.perf_counter() - began), 1)}


def nvjpeg(jpegs: Sequence[bytes]) -> dict[str, float]:
    """Return images/s of decoding on the GPU, without resizing: an upper bound of what it could give the pipeline."""
    from torchvision.io import decode_jpeg  # noqa: PLC0415  built with CUDA, or not

    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in jpegs]
    rates = {}
    for n_images in (16, 80, 320):
        some = (encoded * (n_images // len(encoded) + 1))[:n_images]
        rates[f"batches of {n_images}"] = images_per_s(partial(decode_jpeg, some, device="cuda"), n_images)
    return rates


def out_of_memory(weights: Path, jpegs: Sequence[bytes]) -> dict[str, Any]:
    """Return what became of device batches for which memory did not suffice: no row may be lost or changed."""
    pixels = decoded(weights, jpegs)[:640]
    pixels = np.concatenate([pixels] * (640 // len(pixels) + 1))[:640]
    spec = spec_of(weights, "bf16")
    state = load_state_dict(weights.read_bytes(), str(weights))
    expected = answer_of(pipelined(load_model(spec, state, ModelForm())), pixels)
    model = pipelined(load_model(spec, state, ModelForm()))
    before = list(model.shapes)
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_reserved() + (1 << 30)) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        answer = answer_of(model, pixels)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    same = float((answer.class_index[:, 0] == expected.class_index[:, 0]).mean())
    return {"rows": len(answer.class_index), "same_class": same, "shapes": before, "shapes_after": list(model.shapes)}


def answer_of(model: Pipelined, pixels: NDArray[np.uint8]) -> Prediction:
    """Return a pipelined model's answer to one device batch."""
    return model.begin([pixels]).answer()


def decoded(weights: Path, jpegs: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return (N, 3, H, W) pixels as the pipeline decodes them."""
    transform = spec_of(weights, "fp32").transform
    samples = [decode(ImageRef("x", "", len(data)), data, transform) for data in jpegs]
    return np.stack([sample.pixels for sample in samples if isinstance(sample, Sample)])
