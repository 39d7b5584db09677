"""How many requests this process has made of its stores, and how many bytes they carried. Effects: one counter."""

import threading
from collections import Counter

_counts: Counter[str] = Counter()
_told: Counter[str] = Counter()
_lock = threading.Lock()


def requests() -> Counter[str]:
    """Return a copy of this process's counts since it began; the difference of two is what happened in between.

    Every attempt is one request: ``list`` (a page), ``stat``, ``read``, ``write``, ``delete`` (of up to 1,000 objects).
    ``retries`` are those among them that repeat one which failed. ``bytes_read`` are the bodies that came whole,
    ``bytes_written`` those that a store took.
    """
    with _lock:
        return _counts.copy()


def requests_since_last() -> Counter[str]:
    """Return what this process counted since it was last asked this."""
    with _lock:
        news = _counts - _told
        _told.update(news)
        return news


def count(**amounts: int) -> None:
    """Add to the counts, by their names."""
    with _lock:
        _counts.update(amounts)
