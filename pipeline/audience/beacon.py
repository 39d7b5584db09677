"""What a run that nobody watches leaves for those who will: ``DESTINATION/progress.json``. Effects: storage, a thread.

The same object is the audience of a run on a worker, and what ``python -m pipeline.attach`` reads.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from pipeline.audience.audience import Heading, Line
from pipeline.destination import PROGRESS, STOP, Destination
from pipeline.engine.plan import PlanTotals
from pipeline.errors import PipelineError, UsageError
from pipeline.evaluation.trials import Trial
from pipeline.records import Tally

logger = logging.getLogger("pipeline")

PERIOD_S = 4.0
"""Seconds between two signs of life: each is one PUT, and one GET that asks whether to stop."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A run's sign of life."""

    session: str
    """Of the command that began it; sorts by time."""

    resume: str
    """The command that goes on with the run."""

    n_restarts: int = 0
    """How often the run had to be begun again, on another worker."""

    n_told: int = 0
    """Grows with each sign."""

    opening: tuple[Line, ...] = ()
    """What was told before the heading."""

    heading: Heading | None = None
    n_planned: int = 0
    is_closed: bool = False
    """Whether `n_planned` is all there is."""

    n_found: int = 0
    n_classified: int = 0
    n_failed: int = 0
    lines: tuple[Line, ...] = ()
    """What was told after it."""

    status: int | None = None
    """The exit status that the run ended with; None while it goes on."""

    error: str | None = None

    @classmethod
    def read(cls, destination: Destination) -> "Sign | None":
        """Return the last sign of life at a destination, None where there is none; `UsageError` where it is no sign."""
        told = destination.read_json(PROGRESS)
        if told is None:
            return None
        try:
            heading = Heading(**told["heading"]) if told["heading"] else None
            lines = {part: tuple((label, text) for label, text in told[part]) for part in ("opening", "lines")}
            return cls(**told | {"heading": heading} | lines)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{destination.url}/{PROGRESS} is of another version of this package: follow that run with its own"
            ) from error

    @property
    def driver(self) -> tuple[str, int]:
        """What gave it. Of two the greater is the later: the run is its own, and the other stops."""
        return self.session, self.n_restarts

    @property
    def first_lines(self) -> list[Line]:
        """What is known of a run that has begun."""
        so_far = f"{self.n_planned:,} so far, the listing goes on" if self.n_planned else "being listed"
        n_images = f"{self.n_planned:,}" if self.is_closed else so_far
        return [*self.opening, *(self.heading.lines(n_images) if self.heading else ())]


@dataclass
class Beacon:
    """An `Audience` that gives signs of life, and hears whether to stop, from its beginning as a context to its end."""

    destination: Destination
    session: str
    resume: str
    stop: Callable[[], None]
    """Is called when somebody asks the run to stop, or has taken it over."""

    n_restarts: int = 0
    """How often the run was begun again: whoever follows it has seen a sign of this session."""

    _is_taken_over: bool = False
    _is_asked: bool = False
    _changed: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.sign = Sign(self.session, self.resume, self.n_restarts)
        self._thread = threading.Thread(target=self._go_on, name="beacon", daemon=True)

    def __enter__(self) -> Self:
        """Hear whether the run was given up meanwhile, give the first sign, and go on giving them."""
        self._listen()
        self._give()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._fall_silent()

    def tried(self, trial: Trial) -> None:
        """Leave out what is tried before: it can be read in ``run.json``."""

    def headed(self, heading: Heading) -> None:
        """Give a sign at once: somebody waits for this one."""
        self._change(heading=heading)
        self._give()

    def planned(self, totals: PlanTotals, *, is_closed: bool) -> None:
        """Take note."""
        self._change(n_planned=totals.n_images, is_closed=is_closed)

    def found(self, n_images: int) -> None:
        """Take note."""
        self._change(n_found=self.sign.n_found + n_images)

    def classified(self, n_images: int) -> None:
        """Take note."""
        self._change(n_classified=self.sign.n_classified + n_images)

    def committed(self, tally: Tally) -> None:
        """Take note."""
        self._change(n_failed=tally.n_failed)

    def told(self, line: Line) -> None:
        """Take note."""
        part = "lines" if self.sign.heading else "opening"
        self._change(**{part: (*getattr(self.sign, part), line)})

    def close(self) -> None:
        """Go on: results follow."""

    def ended(self, status: int, error: str | None) -> None:
        """Give the last sign; what was asked of the run is settled with it."""
        self._fall_silent()  # or an earlier one, still on its way, could come after the last
        self._listen()
        self._change(status=status, error=error)
        if not self._is_taken_over:
            self._give()
        if self._is_asked:
            self._settle()

    def _fall_silent(self) -> None:
        self._over.set()
        self._thread.join()

    def _change(self, **told: Any) -> None:
        with self._changed:
            self.sign = replace(self.sign, **told)

    def _go_on(self) -> None:
        while not self._over.wait(PERIOD_S):
            self._listen()
            if not self._is_taken_over:
                self._give()

    def _give(self) -> None:
        self._change(n_told=self.sign.n_told + 1)
        try:
            self.destination.write_json(PROGRESS, _plain(self.sign))
        except PipelineError as error:  # the next one may get through
            logger.warning("cannot give a sign of life: %s", error)

    def _listen(self) -> None:
        """Hear whether somebody asks the run to stop, or carries it on."""
        try:
            last, asked = Sign.read(self.destination), self.destination.read_json(STOP)
            self._is_taken_over = last is not None and last.driver > self.sign.driver
            self._is_asked = asked is not None and asked.get("session") == self.session
        except PipelineError as error:  # as above
            logger.warning("cannot hear whether to stop: %s", error)
        if self._is_asked or self._is_taken_over:
            self.stop()

    def _settle(self) -> None:
        """Take away what was asked; not before, since a driver that dies while it stops leaves that to the next."""
        try:
            self.destination.delete([STOP])
        except PipelineError as error:
            logger.warning("cannot take %s away: %s", STOP, error)


def ask_to_stop(destination: Destination, session: str) -> None:
    """Have a run stop soon, with what is in flight finished."""
    destination.write_json(STOP, {"session": session})


def _plain(sign: Sign) -> dict[str, Any]:
    told: Mapping[str, Any] = asdict(sign)
    return dict(told)
