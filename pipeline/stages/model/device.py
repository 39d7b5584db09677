"""Which device this process infers on, and what its faults look like."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import DeviceError

_NO_MEMORY_WORDS = ("ALLOC_FAILED", "CUDA error: out of memory")
"""What CUDA and its libraries say where torch's allocator raises `torch.OutOfMemoryError`."""

_DEVICE_FAULT_WORDS = ("CUDA error", "device-side assert", "cuDNN error")
"""What a `RuntimeError` says after which every call to the device fails."""


def best_device() -> str:
    """Return the device that this process should infer on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def device_faults() -> Iterator[None]:
    """Raise a `DeviceError` for what makes a device unusable; a kernel's fault can surface in any later call."""
    try:
        yield
    except RuntimeError as error:
        if is_device_fault(error):
            brief, *_ = str(error).split("\n", 1)
            raise DeviceError(f"{type(error).__name__}: {brief}") from error
        raise


def is_device_fault(error: RuntimeError) -> bool:
    """Return whether an error is the device's, out of memory included; else it is ours."""
    is_named = any(words in str(error) for words in _DEVICE_FAULT_WORDS)
    return is_named or isinstance(error, torch.AcceleratorError) or is_out_of_memory(error)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether memory ran out; an error that was raised while leaving a failed block hides what made it fail."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY_WORDS):
            return True
        error = error.__context__
    return False
