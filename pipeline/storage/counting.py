"""How many requests this process has made of its stores, and how many bytes they carried. Effects: one set of counters.

A worker's process may work for several runs at once: what is done within `counted_for` is told apart.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_account: ContextVar[str] = ContextVar("account", default="")
_all: Counter[str] = Counter()
_news: defaultdict[str, Counter[str]] = defaultdict(Counter)
_lock = threading.Lock()


@contextmanager
def counted_for(account: str) -> Iterator[None]:
    """Count what is asked meanwhile for a run of this name."""
    token = _account.set(account)
    try:
        yield
    finally:
        _account.reset(token)


def counted_alike(function: Callable[P, R]) -> Callable[P, R]:
    """Return what counts in any thread for the run that is counted for here: a pool's threads do not inherit that."""
    context = copy_context()
    return lambda *args, **kwargs: context.copy().run(function, *args, **kwargs)


def requests() -> Counter[str]:
    """Return a copy of this process's counts since it began; the difference of two is what happened in between.

    Every attempt is one request: ``list`` (a page), ``stat``, ``read``, ``write``, ``delete`` (of up to 1,000 objects).
    ``retries`` are those among them that repeat one which failed. ``bytes_read`` are the bodies that came whole,
    ``bytes_written`` those that a store took.
    """
    with _lock:
        return _all.copy()


def requests_since_last(account: str = "") -> Counter[str]:
    """Return what was counted for a run since this was last asked; without a name, what was counted for none."""
    with _lock:
        return +_news.pop(account, Counter())


def count(**amounts: int) -> None:
    """Add to the counts, by their names."""
    with _lock:
        _all.update(amounts)
        _news[_account.get()].update(amounts)
