"""Ctrl-C and SIGTERM: the first asks a run to stop soon, the second stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a run was asked to stop.

    Until `is_graceful` is set there is nothing worth finishing, and the first signal stops at once too.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.is_graceful = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take a signal."""
        if not self.is_graceful or self.event.is_set():
            raise KeyboardInterrupt
        self.event.set()
        name = signal.Signals(number).name
        click.echo(f"\n{name}: finishing the parts in flight, at most 25 s; once more stops at once", err=True)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield what the signals of this process ask for; the former handlers come back afterwards."""
    request = StopRequest()
    former = {number: signal.signal(number, request.handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
