"""A process of its own that decodes images one at a time, with limits on its memory and time. Knows no Dask.

It is started as a command: Dask's workers are daemonic, so `multiprocessing` may not start children there, and a fork
of a process with threads is unsafe.
"""

import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.records import ImageFailure, ImageRef, Sample, Transform
from pipeline.stages.decode import decode

START_S = 60.0
"""Seconds that a process has for its start; no image is blamed for them."""

GRACE_S = 5
"""Seconds after a deadline at which a process whose parent is gone ends itself."""

_COMMAND = "import sys; from pipeline.engine.decode_process import serve; serve(int(sys.argv[1]))"

_N_STARTS = 2
"""Times that a start is tried."""


class DecodeError(Exception):
    """The image in hand made its process end, hang, or use more memory than it may; says which."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding one image may cost."""

    deadline_s: float

    memory_bytes: int
    """Beyond what the process takes at its start. Enforced on Linux only."""


class DecodeProcess:
    """The parent's end of a process that decodes. After a `DecodeError` it is of no further use."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection, limits: Limits) -> None:
        self._process = process
        self._connection = connection
        self._limits = limits

    def decode(self, ref: ImageRef, data: bytes) -> Sample | ImageFailure:
        """Return what `pipeline.stages.decode.decode` makes of the image there.

        Raises
        ------
        DecodeError
            If it cannot be decoded within the limits.
        """
        try:
            self._connection.send((ref, data))
            if not self._connection.poll(self._limits.deadline_s):
                raise DecodeError(f"decoding took longer than {self._limits.deadline_s:g} s")
            decoded: Sample | ImageFailure | None = self._connection.recv()
        except (EOFError, OSError) as error:
            raise DecodeError(f"decoding {self._end()}") from error
        if decoded is None:
            raise DecodeError(f"decoding needs more than {self._limits.memory_bytes >> 20:,} MiB")
        return decoded

    def _end(self) -> str:
        try:
            status = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return "closed its process's connection"
        if status >= 0:
            return f"ended its process (exit status {status})"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"killed its process ({name})"


@contextmanager
def decode_process(transform: Transform, limits: Limits) -> Iterator[DecodeProcess]:
    """Start a process that decodes, and end it whatever it is doing.

    Raises
    ------
    RuntimeError
        If it cannot be started: that is no image's fault.
    """
    process, connection = _started(transform, limits)
    try:
        yield DecodeProcess(process, connection, limits)
    finally:
        connection.close()
        _kill(process)


def _started(transform: Transform, limits: Limits) -> tuple[subprocess.Popen[bytes], Connection]:
    why: OSError | None = None
    for _ in range(_N_STARTS):
        try:
            return _start(transform, limits)
        except OSError as error:
            why = error
    raise RuntimeError(f"cannot start a process to decode in: {why}") from why


def _start(transform: Transform, limits: Limits) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = multiprocessing.Pipe()
    with theirs:
        process = _spawn(theirs.fileno())
    with suppress(EOFError, OSError):
        ours.send((transform, limits))
        if ours.poll(START_S):
            ours.recv()
            return process, ours
    ours.close()
    raise ChildProcessError(_kill(process) or f"exit status {process.returncode}")


def _spawn(fd: int) -> subprocess.Popen[bytes]:
    # The child finds our modules as this process did; -P keeps the working folder's own out.
    path = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *(entry or str(Path.cwd()) for entry in sys.path)]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _COMMAND, str(fd)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        pass_fds=(fd,),
        process_group=0,  # Ctrl-C in a terminal is for the parent
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _kill(process: subprocess.Popen[bytes]) -> str:
    """End a process and return the last line that it left on stderr."""
    process.kill()
    _, stderr = process.communicate()
    return (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]


def serve(fd: int) -> None:
    """Decode what the parent sends until it hangs up. Runs in the child."""
    with Connection(fd) as parent, suppress(EOFError, OSError):
        transform, limits = parent.recv()
        _limit(limits.memory_bytes)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        parent.send("ready")
        while True:
            parent.send(_answer(parent, transform, limits))
            signal.alarm(0)


def _answer(parent: Connection, transform: Transform, limits: Limits) -> Sample | ImageFailure | None:
    """Return what becomes of the next image; None where memory does not suffice for it."""
    try:
        ref, data = parent.recv()
        # Nobody is there to end a process that hangs once its parent is gone.
        signal.alarm(math.ceil(limits.deadline_s) + GRACE_S)
        return decode(ref, data, transform)
    except MemoryError:
        return None


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        n_pages = int(Path("/proc/self/statm").read_text().split()[0])
        ceiling = n_pages * resource.getpagesize() + memory_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        ceiling = ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard)
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
