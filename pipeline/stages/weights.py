"""A model's weights: found by name or URL, fetched once per node, checked by hash. Effects: storage, a disk cache.

Names are torchvision's and come with the transform they were trained for; anything else is the path or URL of a state
dict, read with ``weights_only=True`` so that a pickle cannot run code.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import torch
from filelock import FileLock
from torch import Tensor
from torchvision.models import WeightsEnum, get_model, get_model_weights

from pipeline.errors import StorageError, UsageError
from pipeline.records import Transform

Read = Callable[[str], bytes]
"""Returns the bytes behind a path or URL, or raises `StorageError`."""


def fetch_weights(name: str, weights: str, read: Read, sha256: str | None = None) -> bytes:
    """Return the bytes of a model's weights; where their hash is known they are fetched once per node.

    Raises
    ------
    UsageError
        If neither torchvision nor a file is called so.
    StorageError
        If they cannot be fetched, or have another hash than `sha256`.
    """
    known = torchvision_weights(name, weights)
    data = download(known.url) if known is not None else _read_cached(weights, read, sha256)
    if sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise StorageError(f"the weights have changed: expected the SHA-256 {sha256}; start the run again")
    return data


def torchvision_weights(name: str, weights: str) -> WeightsEnum | None:
    """Return torchvision's entry for a weights name (``IMAGENET1K_V2``, ``DEFAULT``), None for a path or URL."""
    members, prefix = get_model_weights(name).__members__, f"{get_model_weights(name).__name__}."
    entry = members.get(weights.removeprefix(prefix))
    if entry is None and (weights.startswith(prefix) or not any(mark in weights for mark in "/.\\")):
        names = ", ".join(members)
        raise UsageError(f"--weights {weights}: expected one of {names}, or the path or URL of a state dict")
    return entry


def transform_of(name: str, weights: str) -> Transform:
    """Return the transform that weights were trained for; a state dict has that of the model's newest weights."""
    entry = torchvision_weights(name, weights) or get_model_weights(name).DEFAULT
    preset = entry.transforms()
    return Transform(preset.resize_size[0], preset.crop_size[0], tuple(preset.mean), tuple(preset.std))


def load_state_dict(data: bytes, weights: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict.

    Raises
    ------
    UsageError
        If the bytes are no state dict, or hold anything but tensors.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"--weights {weights}: not a state dict that torch can load safely ({_brief(error)})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"--weights {weights}: expected a state dict of tensors (save model.state_dict())")
    return state


def check_fit(name: str, weights: str, state: dict[str, Tensor]) -> None:
    """Raise `UsageError` naming the first tensors that the model does not have in this shape."""
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in get_model(name).state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    # Old files have no batch counters; torch does without them, and so does inference.
    given = {key: shape for key, shape in expected.items() if key.endswith("num_batches_tracked")} | given
    wrong = sorted((key for key in expected.keys() | given.keys() if expected.get(key) != given.get(key)), key=str)
    if wrong:
        first = "; ".join(
            f"{key} is {given.get(key, 'missing')}, expected {expected.get(key, 'no such tensor')}" for key in wrong[:3]
        )
        raise UsageError(f"--weights {weights}: {len(wrong)} tensors do not fit {name}: {first}")


def download(url: str) -> bytes:
    """Return a file of torchvision's, checked against the hash in its name; one process of a node downloads it.

    Raises
    ------
    StorageError
        If it cannot be had, or is not what its name says.
    """
    path = _cache() / Path(url).name
    prefix = path.stem.rpartition("-")[2]
    with FileLock(f"{path}.lock"):
        if not path.exists() or not hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix):
            try:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
            except (OSError, RuntimeError) as error:
                message = f"cannot download {url}: {_brief(error)}; on a machine without internet give --weights a file"
                raise StorageError(message) from error
    return path.read_bytes()


def _read_cached(weights: str, read: Read, sha256: str | None) -> bytes:
    if sha256 is not None and (path := _cache() / f"{sha256}.pth").exists():
        return path.read_bytes()
    with FileLock(_cache() / f"{hashlib.sha256(weights.encode()).hexdigest()}.lock"):
        if sha256 is not None and path.exists():
            return path.read_bytes()
        data = read(weights)
        _keep(data)
        return data


def _keep(data: bytes) -> None:
    path = _cache() / f"{hashlib.sha256(data).hexdigest()}.pth"
    if path.exists():
        return
    half = path.with_name(f"{path.name}.{uuid4().hex}")
    half.write_bytes(data)
    half.replace(path)


def _cache() -> Path:
    """Return torch's own cache of checkpoints; ``TORCH_HOME`` moves it."""
    path = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write the weights cache {path}: {error}; set TORCH_HOME") from error
    return path


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
