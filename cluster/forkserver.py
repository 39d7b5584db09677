"""The process that workers of this machine are forked from. It imports what they need while the client still checks.

Torch, Dask and the pipeline take each new process three seconds and more to import. Here one process does it, which
runs nothing else; workers are forked from it in milliseconds, those too that take the place of one that died. See
https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver

import dask.config

_METHOD = "distributed.worker.multiprocessing-method"

_environment: dict[str, str] | None = None
"""What the process was started with, and workers are forked with; None while there is none."""


def start_forkserver(modules: Sequence[str]) -> None:
    """Start the process, which imports the modules in the background; where there is one already it stays as it is.

    Nothing happens where Dask's configuration asks for another way of starting workers, or outside Linux: there the
    libraries of the system do not bear a fork.
    """
    global _environment  # noqa: PLW0603  multiprocessing has one for each process, too
    if _environment is not None or not sys.platform.startswith("linux") or dask.config.get(_METHOD) != "spawn":
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
    forkserver.ensure_running()
    _environment = dict(os.environ)


@contextmanager
def forked_workers() -> Iterator[None]:
    """Have Dask fork the workers that it starts meanwhile, if there is a process to fork them from.

    One with other environment variables than ours now will not do: workers find their keys there.
    """
    with dask.config.set({_METHOD: "forkserver"} if _environment == dict(os.environ) else {}):
        yield
