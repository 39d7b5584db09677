"""Decoding that one bad image can neither hold up nor bring down: the others of its chunk are always decoded.

The ordinary way is a thread with a deadline, at no cost to speak of. What hangs there, or what may have killed a
worker, is decoded in a process of its own with limits, and only there an image is blamed. Knows no Dask.
"""

import _thread
import threading
import time
from collections.abc import Sequence
from typing import TypeAlias

from pipeline.engine.decode_process import DecodeError, DecodeProcess, Limits, decode_process
from pipeline.records import ImageFailure, ImageRef, Sample, Transform
from pipeline.stages.decode import decode

DECODE_S = 30.0
"""Seconds that decoding one image may take; the largest that is let in takes about 5."""

MEMORY_BYTES = 2 << 30
"""What decoding one image may take in a process of its own; the largest that is let in takes about 1.6 GB."""

Item: TypeAlias = tuple[ImageRef, bytes]
Decoded: TypeAlias = Sample | ImageFailure


def decode_in_time(items: Sequence[Item], transform: Transform, deadline_s: float = DECODE_S) -> list[Decoded]:
    """Return what each image decodes to, in order, in this process: none takes longer than twice its deadline.

    An image that makes no progress, or finds no memory, is decoded once more by `decode_apart`, alone. Its thread
    cannot be stopped: see `n_abandoned`. A decoder that hangs without ever letting go of the interpreter holds this up.

    Raises
    ------
    RuntimeError
        As `decode_apart`.
    """
    results: list[Decoded] = []
    while len(results) < len(items):
        results += _DecodeThread(items[len(results) :], transform).decode_until_stuck(deadline_s)
        stuck = items[len(results) : len(results) + 1]
        results += decode_apart(stuck, transform, deadline_s)
    return results


def decode_apart(
    items: Sequence[Item], transform: Transform, deadline_s: float = DECODE_S, memory_bytes: int = MEMORY_BYTES
) -> list[Decoded]:
    """Return what each image decodes to, in order, whatever an image does to the process that decodes it.

    Parameters
    ----------
    items
        Decoded one at a time in a child process, which takes a third of a second to start.
    transform
        What is made of each image.
    deadline_s
        For each image, without the child's start.
    memory_bytes
        For each image, beyond what the child takes at its start; no limit but on Linux.

    Returns
    -------
    list
        An `ImageFailure` for each image that alone ended its child, or hung, or needed more memory.

    Raises
    ------
    RuntimeError
        If no child can be started: no image is to blame.
    """
    results: list[Decoded] = []
    while len(results) < len(items):
        with decode_process(transform, Limits(deadline_s, memory_bytes)) as process:
            results += _decode_until_fault(process, items[len(results) :])
    return results


def n_abandoned() -> int:
    """Return how many threads of this process still hang in an image that was given up.

    They hold a core or memory until the process is replaced.
    """
    return sum(running.locked() for running in _abandoned)


def _decode_until_fault(process: DecodeProcess, items: Sequence[Item]) -> list[Decoded]:
    decoded: list[Decoded] = []
    for ref, data in items:
        try:
            decoded.append(process.decode(ref, data))
        except DecodeError as fault:
            # Those before it may have spoiled the process: an image is blamed only where it was the first.
            return decoded or [ImageFailure(ref, "decode", str(fault))]
    return decoded


class _DecodeThread:
    """Decodes images one after another, up to one that hangs or finds no memory.

    A daemonic thread of `_thread`: one of `threading` takes three times as long to start, a tenth of a millisecond.
    """

    def __init__(self, items: Sequence[Item], transform: Transform) -> None:
        self._items = items
        self._transform = transform
        self._decoded: list[Decoded] = []
        self._error: BaseException | None = None
        self._progress_s = time.monotonic()
        self._is_abandoned = False
        self._running = threading.Lock()

    def decode_until_stuck(self, deadline_s: float) -> list[Decoded]:
        """Return the first images' outcomes: all of them, unless one made no progress for `deadline_s`."""
        self._running.acquire()
        _thread.start_new_thread(self._run, ())
        left_s = deadline_s
        while not self._running.acquire(timeout=max(0, left_s)):
            left_s = self._progress_s + deadline_s - time.monotonic()
            if left_s <= 0:
                self._is_abandoned = True
                _abandoned.append(self._running)
                break
        if self._error is not None:
            raise self._error
        return self._decoded.copy()  # a thread that was given up may come back and add one

    def _run(self) -> None:
        try:
            for ref, data in self._items:
                self._decoded.append(decode(ref, data, self._transform))
                self._progress_s = time.monotonic()
                if self._is_abandoned:
                    break
        except MemoryError:
            pass  # an image short, and the traceback let go, which holds what memory there is
        except BaseException as error:  # noqa: BLE001  it belongs to the thread that waits
            self._error = error
        finally:
            self._running.release()


_abandoned: list[threading.Lock] = []
"""Each held for as long as a thread that was given up runs."""
