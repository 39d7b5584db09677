"""The one level of retries of a store: a deadline for each request, jitter, and a budget for all of them together.

The loop is `stamina <https://stamina.hynek.me>`_'s; the pauses are ours, since stamina's lose their jitter once they
have reached the longest one. Effects: waits, and counts attempts.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from pipeline.storage.counting import count
from pipeline.storage.s3_body import DamagedBodyError
from pipeline.storage.s3_errors import may_pass

T = TypeVar("T")

_DAMAGED_ATTEMPTS = 5
"""After so many damaged bodies it is the object that is damaged, not the way to it."""

_DYING_AFTER = 40
"""Failures in a row, of all requests of this process, after which none of them hurries: more than one salvo of them."""

_FIRST_PAUSE_S = 0.2

# A retry is routine: a line for each would bury what matters.
logging.getLogger("stamina").setLevel(logging.ERROR)


class Retries:
    """Repeats the requests of one store as long as it makes sense. Lives on one event loop.

    A store that answers some requests costs those that fail an exponential pause each, from 0.1 s on. A store that has
    answered none of the last 40 is left alone for the longest pause after every failure, whoever asks.
    """

    def __init__(self, longest_pause_s: float) -> None:
        self._longest_pause_s = longest_pause_s
        self._n_failures_in_a_row = 0

    async def run(
        self,
        verb: str,
        call: Callable[[], Awaitable[T]],
        deadline_s: float,
        failed: Exception | None = None,
        *,
        is_retry: bool = False,
    ) -> T:
        """Return what a call returns, or raise its last error: one that will not pass, or that of the deadline.

        Parameters
        ----------
        verb
            What each attempt counts as.
        call
            Makes one attempt.
        deadline_s
            Seconds for all attempts and pauses together; `TimeoutError` if not even the first was over by then.
        failed
            The error of an attempt that was made elsewhere, which stands for the first.
        is_retry
            Whether there was such an attempt, though its error may tell nothing.
        """
        failures: list[Exception] = []  # that might have passed
        attempts = stamina.retry_context(on=lambda error: self._pause(error, failures), attempts=None, timeout=None)
        try:
            async with asyncio.timeout(deadline_s):
                async for attempt in attempts:
                    with attempt:
                        if failed is not None and attempt.num == 1:
                            raise failed
                        return await self._once(verb, call, is_retry=is_retry or attempt.num > 1)
        except TimeoutError as silence:
            raise (failures[-1] if failures else silence) from None
        raise AssertionError("stamina ends with a result or an exception")

    async def _once(self, verb: str, call: Callable[[], Awaitable[T]], *, is_retry: bool) -> T:
        count(**{verb: 1, "retries": int(is_retry)})
        answer = await call()
        self._n_failures_in_a_row = 0
        return answer

    def _pause(self, error: Exception, failures: list[Exception]) -> bool | float:
        """Return the seconds to wait before the next attempt, or False where none would help."""
        if not may_pass(error):  # such is the cancellation by the deadline, which stamina shows us too
            return False
        failures.append(error)
        if sum(isinstance(failure, DamagedBodyError) for failure in failures) >= _DAMAGED_ATTEMPTS:
            return False
        self._n_failures_in_a_row += 1
        is_dying = self._n_failures_in_a_row > _DYING_AFTER
        exponential_s = _FIRST_PAUSE_S * 2 ** min(len(failures) - 1, 10)
        pause_s = self._longest_pause_s if is_dying else min(exponential_s, self._longest_pause_s)
        return pause_s * random.uniform(0.5, 1.0)
