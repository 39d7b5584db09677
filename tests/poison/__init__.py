"""Images that kill, hang or fill the process that decodes them, wherever the poison environment is inherited.

monkeypatch.setenv("PYTHONPATH", poison_environment()["PYTHONPATH"])  # before the workers start
put(poisoned_jpeg("segfault"))
"""

import io
import os
from typing import Any

from PIL import Image

from tests.poison.sitecustomize import DEEDS, HERE, MARK

KINDS = tuple(DEEDS)
"""``segfault`` ``abort`` ``end`` (exits) ``hang`` ``freeze`` (hangs and holds the interpreter) ``memory``."""


def poisoned_jpeg(kind: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """Return a good JPEG, but where the poison environment is inherited."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {KINDS}")
    buffer = io.BytesIO()
    Image.new("RGB", size, (120, 90, 60)).save(buffer, "JPEG", comment=MARK + kind.encode(), **options)
    return buffer.getvalue()


def poison_environment() -> dict[str, str]:
    """Return what a process, and all that it starts, needs in its environment to suffer from poisoned images."""
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}
