"""What each worker of a local cluster does as it starts: it leaves Ctrl-C, and what to say of a fault, to the client.

A terminal sends SIGINT to every process in the foreground; without this it would kill the workers in mid-batch. And a
task's error reaches the client, who says it in one line; the worker's own traceback would come before it.
"""

import logging
import signal
import threading

from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Ignore SIGINT in this worker's process and log errors only; Dask calls this by its name."""
    logging.getLogger("distributed.worker").setLevel(logging.ERROR)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
