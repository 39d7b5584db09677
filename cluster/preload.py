"""What each worker of a local cluster does as it starts: it leaves Ctrl-C to the client, who decides what it means.

A terminal sends SIGINT to every process in the foreground; without this it would kill the workers in mid-batch.
"""

import signal
import threading

from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Ignore SIGINT in this worker's process; Dask calls this by its name."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
