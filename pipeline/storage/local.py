"""Files of a local disk that appear under their name whole or not at all. Effects: the disk.

Each is written beside its place under a hidden name. A process killed meanwhile leaves that file, which readers of
Parquet folders pass over.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def replace(path: str, data: bytes) -> None:
    """Put a file in the place of whatever stands there."""
    with _half(path, data) as half:
        half.replace(path)


def create(path: str, data: bytes) -> None:
    """Put a file where there is none.

    Exact where the disk knows hard links. Elsewhere, of two writers within the same instant the later one wins.

    Raises
    ------
    FileExistsError
        If there is one; it is left as it is.
    """
    with _half(path, data) as half:
        try:
            os.link(half, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if Path(path).exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
            half.replace(path)


@contextmanager
def _half(path: str, data: bytes) -> Iterator[Path]:
    half = Path(path).with_name(f".{Path(path).name}.{uuid4().hex}.partial")
    try:
        half.write_bytes(data)
        yield half
    finally:
        half.unlink(missing_ok=True)
