"""The program compiled: ahead of time on the CPU, where the result is kept between runs; as it runs on a GPU.

Compiling a ResNet50 takes half a minute of two cores and more. torch's own cache of graphs would spare only the C++
compiler: it traces the model anew each time, and that is a third of it. A program that was compiled ahead of time
(https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html) is opened in a second or two.
"""

import logging
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock
from torch import Tensor, nn

from pipeline.stages.compiling import Worth
from pipeline.stages.model.fixed_shapes import Forward
from pipeline.stages.user_cache import user_cache

N_TIMED = 3
"""Passes of either form by which a fresh program is measured."""


def compiled_for_cpu(program: nn.Module, buffer: Tensor, key: str) -> Callable[[Tensor], Tensor]:
    """Return a program's compiled form for one shape, from the cache or made now and measured.

    Parameters
    ----------
    program
        On the CPU.
    buffer
        Images in the shape and the memory layout that it is compiled for.
    key
        Names all that decides the compiled form; see `pipeline.stages.compiling.form_key`.

    Raises
    ------
    Exception
        Whatever torch or the C++ compiler raise where they cannot do it.
    """
    from torch._inductor import aoti_load_package  # noqa: PLC0415  seconds, for a model that is compiled only

    folder = user_cache() / "compiled" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # one process of a node compiles, the others open what it made
        began = time.perf_counter()
        if is_new := not folder.exists():
            _compile(program, buffer, folder)
        compiled_s = time.perf_counter() - began
        run: Callable[[Tensor], Tensor] = aoti_load_package(str(folder))
        if is_new:
            _rate(run, buffer, 1)
            Worth(compiled_s, _rate(program, buffer), _rate(run, buffer)).keep(key)
    return run


def compiled_for_cuda(program: nn.Module) -> Forward:
    """Return a program that is compiled when it first meets a shape; its launches are recorded by who calls it."""
    _prepare_cache()
    compiled: Forward = torch.compile(program, dynamic=False, fullgraph=True)
    return compiled


def _compile(program: nn.Module, buffer: Tensor, folder: Path) -> None:
    """Write a compiled program to a folder, whole or not at all."""
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415  as above

    _prepare_cache()
    with TemporaryDirectory(dir=folder.parent) as half:
        package, extracted = Path(half, "program.pt2"), Path(half, "program")
        # Given here, not set before: inductor's settings belong to the thread that sets them.
        settings = {"freezing": True}
        exported = torch.export.export(program, (buffer,))
        aoti_compile_and_package(exported, package_path=str(package), inductor_configs=settings)
        # Extracted once: from the package each process would extract it to a folder that is left if it is killed.
        with zipfile.ZipFile(package) as archive:
            archive.extractall(extracted)
        (top,) = extracted.iterdir()
        shutil.move(top, folder)


def _prepare_cache() -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache() / "inductor"))
    # It says that there is no CUDA, where none is asked for.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _rate(run: Callable[[Tensor], Tensor], buffer: Tensor, n_passes: int = N_TIMED) -> float:
    """Return images per second."""
    began = time.perf_counter()
    for _ in range(n_passes):
        run(buffer)
    return n_passes * len(buffer) / (time.perf_counter() - began)
