"""A state dict's header, read without torch and without running anything: its tensors' names and shapes. Pure.

``torch.save`` writes a zip archive whose ``data.pkl`` rebuilds each tensor from a storage and a shape
(https://docs.pytorch.org/docs/stable/notes/serialization.html). Here the few globals that it may name are replaced by
functions that keep the shape; any other is refused, as ``weights_only=True`` does when the tensors themselves are read.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pipeline.errors import UsageError

Shape = tuple[int, ...]


def read_shapes(data: bytes, weights: str) -> dict[str, Shape] | None:
    """Return the shape of every tensor by name; None for the format before torch 1.6, which is no zip archive.

    Raises
    ------
    UsageError
        If this is no state dict, or holds anything but tensors.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            state = _HeaderUnpickler(io.BytesIO(archive.read(pickled))).load()
    except Exception as error:
        brief = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"--weights {weights}: not a state dict that torch can load safely ({brief})") from error
    if not isinstance(state, dict) or not all(isinstance(shape, _Tensor) for shape in state.values()):
        raise UsageError(f"--weights {weights}: expected a state dict of tensors (save model.state_dict())")
    return {name: tuple(shape) for name, shape in state.items()}


class _Tensor(tuple[int, ...]):
    """The shape that stands for a tensor."""

    __slots__ = ()


def _rebuild_tensor(_storage: object, _offset: int, size: Shape, *_: object) -> _Tensor:
    return _Tensor(size)


def _rebuild_parameter(tensor: _Tensor, *_: object) -> _Tensor:
    return tensor


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _HeaderUnpickler(pickle.Unpickler):
    """Knows no global that could run anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a global that a state dict may name."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, _: object) -> None:
        """Leave the storages where they are."""
