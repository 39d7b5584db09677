"""What can end a run, each with the exit status that tells a script what happened. Pure.

Every message is one line that says what was given, what was expected and what to do. Builtin exceptions stay what they
are inside the stages; they become one of these where a run can no longer go on.
"""

from typing import ClassVar


class PipelineError(Exception):
    """A run ended early for a reason that the user can act on."""

    exit_status: ClassVar[int] = 1


class UsageError(PipelineError):
    """The command, an option or a setting cannot be used as it was given."""

    exit_status = 2


class FailureRateError(PipelineError):
    """More of the images failed than ``--max-failure-rate`` allows."""

    exit_status = 3


class StorageError(PipelineError):
    """The source or the destination refuses, or does not answer before its deadline."""

    exit_status = 4


class ClusterError(PipelineError):
    """The cluster was lost, never came or stalled; what was committed is safe."""

    exit_status = 5


class InterruptedRunError(PipelineError):
    """Ctrl-C or SIGTERM stopped the run; what was committed is safe."""

    exit_status = 130


class ModelLoadError(Exception):
    """The run's model cannot be loaded by this process; by another it may."""


class DeviceError(Exception):
    """The device of this worker process is unusable until the process is replaced."""


class WorkerUnfitError(Exception):
    """A worker cannot infer. The driver takes it out of the run, and does its work elsewhere.

    Parameters
    ----------
    worker
        Its address.
    reason
        One line for people.
    is_restartable
        Whether a new process in its place may be fit.
    """

    def __init__(self, worker: str, reason: str, is_restartable: bool) -> None:
        super().__init__(worker, reason, is_restartable)
        self.worker, self.reason, self.is_restartable = worker, reason, is_restartable

    def __str__(self) -> str:
        return f"worker {self.worker}: {self.reason}"
