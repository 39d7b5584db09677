"""Faults injected where they happen in life: Pillow's loading of a poisoned image does to its process what it says.

Python imports a module of this name at its start, so with this folder on PYTHONPATH every process that inherits the
environment is affected: Dask's workers, their children. Nothing else is imported until Pillow is.
"""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HERE = Path(__file__).parent
MARK = b"POISON:"


def segfault():
    import ctypes

    ctypes.string_at(0)


def abort():
    import os

    os.abort()


def end():
    import os

    os._exit(3)


def hang():
    import time

    while True:
        time.sleep(0.1)


def freeze():
    """Hang without letting go of the interpreter."""
    import ctypes

    while True:
        ctypes.PyDLL(None).sleep(3600)


def memory():
    hoard = []
    while True:
        hoard.append(b"x" * (32 << 20))  # written to, so that it is really there


DEEDS = {deed.__name__: deed for deed in (segfault, abort, end, hang, freeze, memory)}


def poisoned(load):
    """Return Pillow's `ImageFile.load`, changed for images whose JPEG comment names a deed."""

    def load_or_suffer(image):
        comment = image.info.get("comment", b"")
        if isinstance(comment, bytes) and comment.startswith(MARK):
            DEEDS[comment.removeprefix(MARK).decode()]()
        return load(image)

    return load_or_suffer


class _Finder:
    """Poisons PIL.ImageFile when it is imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == "PIL.ImageFile" else None
        if spec is not None:
            exec_module = spec.loader.exec_module

            def exec_and_poison(module):
                exec_module(module)
                module.ImageFile.load = poisoned(module.ImageFile.load)

            spec.loader.exec_module = exec_and_poison
        return spec


def _run_the_one_that_this_one_hides():
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE.resolve()]
    spec = PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder)
    _run_the_one_that_this_one_hides()
