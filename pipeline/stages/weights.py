"""The bytes of a model's weights: fetched once per node, checked by hash. Effects: the network, a disk cache."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from pipeline.errors import StorageError

Read = Callable[[str], bytes]
"""Returns the bytes behind a path or URL, or raises `StorageError`."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The bytes of a file of weights."""

    data: bytes

    sha256: str
    """Of the data, in hexadecimal."""

    @classmethod
    def of(cls, data: bytes) -> "Weights":
        """Return the bytes with their hash: half a second for a ResNet50's, so it is taken once."""
        return cls(data, hashlib.sha256(data).hexdigest())


def fetch_weights(weights: str, url: str | None, read: Read, sha256: str | None = None) -> Weights:
    """Return a model's weights; where their hash is known they are fetched once per node.

    Parameters
    ----------
    weights
        The path or URL of a state dict, or a name of torchvision's.
    url
        Where torchvision has the file of that name; None for a path or URL of the user's own.
    read
        Reads the user's own.
    sha256
        What the bytes must hash to, in hexadecimal.

    Raises
    ------
    StorageError
        If they cannot be fetched, or have another hash than `sha256`.
    """
    fetched = download(url) if url is not None else _read_cached(weights, read, sha256)
    if sha256 not in (None, fetched.sha256):
        raise StorageError(f"the weights have changed: expected the SHA-256 {sha256}; start the run again")
    return fetched


def download(url: str) -> Weights:
    """Return a file of torchvision's, checked against the hash in its name; one process of a node downloads it.

    Raises
    ------
    StorageError
        If it cannot be had, or is not what its name says.
    """
    path = _cache() / Path(url).name
    prefix = path.stem.rpartition("-")[2]
    with FileLock(f"{path}.lock"):
        found = Weights.of(path.read_bytes()) if path.exists() else None
        if found is None or not found.sha256.startswith(prefix):
            import torch  # noqa: PLC0415  seconds, for a node's first time only

            try:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
            except (OSError, RuntimeError) as error:
                message = f"cannot download {url}: {_brief(error)}; on a machine without internet give --weights a file"
                raise StorageError(message) from error
            found = Weights.of(path.read_bytes())
    return found


def _read_cached(weights: str, read: Read, sha256: str | None) -> Weights:
    if sha256 is not None and (path := _cache() / f"{sha256}.pth").exists():
        return Weights.of(path.read_bytes())
    with FileLock(_cache() / f"{hashlib.sha256(weights.encode()).hexdigest()}.lock"):
        if sha256 is not None and path.exists():
            return Weights.of(path.read_bytes())
        fetched = Weights.of(read(weights))
        _keep(fetched)
        return fetched


def _keep(weights: Weights) -> None:
    path = _cache() / f"{weights.sha256}.pth"
    if path.exists():
        return
    half = path.with_name(f"{path.name}.{uuid4().hex}")
    half.write_bytes(weights.data)
    half.replace(path)


def _cache() -> Path:
    """Return torch's own cache of checkpoints, where ``torch.hub.get_dir`` says; ``TORCH_HOME`` moves it."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    path = Path(home, "hub", "checkpoints").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write the weights cache {path}: {error}; set TORCH_HOME") from error
    return path


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
