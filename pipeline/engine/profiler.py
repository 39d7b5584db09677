"""Dask's look at what a worker's threads are at, a hundred times a second: stopped where it can hang the interpreter.

Before CPython 3.11.9 ``sys._current_frames`` and a thread that begins or ends at that moment may wait for each other
for ever: https://github.com/python/cpython/issues/106883. In workers of ours threads begin and end all the time.
"""

import sys

from distributed import Worker

CAN_HANG = sys.version_info < (3, 11, 9)


def stop_profiler_if_it_can_hang(worker: Worker) -> None:
    """Leave the worker's profile on the dashboard as it stands, on the event loop's thread; nothing else is changed."""
    if CAN_HANG and "profile" in worker.periodic_callbacks:
        worker.periodic_callbacks["profile"].stop()
