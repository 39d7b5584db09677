"""glibc's allocator, set so that activations are reused instead of mapped and unmapped for every layer.

Dask's nanny sets ``MALLOC_TRIM_THRESHOLD_``, which also turns off glibc's dynamic mmap threshold; threads other than
the main one allocate from arenas, whose heaps of 64 MB come and go. Both are mended from inside the process, so it
works on every kind of cluster. See ``mallopt(3)``, and ``heap_trim`` in glibc's ``malloc/arena.c``.
"""

import ctypes
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MMAP_THRESHOLD_BYTES = 32 << 20
"""The largest that glibc accepts on 64 bits."""

_TRIM_THRESHOLD_BYTES = 512 << 20

_TOP_PAD_BYTES = 64 << 20
"""As large as a heap, which is then never unmapped: a limit on arenas comes too late for those that there are."""


def mend_allocator() -> bool:
    """Set the thresholds of this process's allocator; return False where there is no glibc."""
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    settings = {
        _M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES,
        _M_TRIM_THRESHOLD: _TRIM_THRESHOLD_BYTES,
        _M_TOP_PAD: _TOP_PAD_BYTES,
        _M_ARENA_MAX: 1,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def return_free_memory() -> None:
    """Give the system back what this process has freed: once, after something large that will not come again."""
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
