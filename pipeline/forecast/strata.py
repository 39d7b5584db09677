"""An evenly spread sample of a stream of unknown length, in bounded memory. Pure.

The stream is cut into stretches of equal length, of each of which one item is kept at random; when there are too many,
two neighbours become one. So no part of the stream is left out, and each item is about as likely to be taken as any
other, but in streams of one to a few times the sample: there some are taken for sure
(stratified sampling; Cochran, Sampling Techniques, 1977, chapter 5).
"""

import random
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")

_FINENESS = 16
"""Stretches at least for each item of the sample, once there are so many: its own stretches then differ by 1/16."""


class Strata(Generic[T]):
    """Takes items one by one. What it takes is always the same for the same stream.

    Parameters
    ----------
    n_wanted
        Items of the sample; a stream that has no more is taken whole.
    """

    def __init__(self, n_wanted: int) -> None:
        self._n_wanted, self._most = n_wanted, 2 * _FINENESS * n_wanted
        self._random = random.Random(1)
        self._kept: list[T] = []
        self._stretch = self._n_in_last = 1

    def add(self, item: T) -> None:
        """Take the next item of the stream."""
        if self._n_in_last < self._stretch and self._kept:
            self._n_in_last += 1
            if self._random.random() * self._n_in_last < 1:
                self._kept[-1] = item
            return
        if len(self._kept) == self._most:
            self._kept = [self._one_of(pair) for pair in zip(self._kept[::2], self._kept[1::2], strict=True)]
            self._stretch *= 2
        self._kept.append(item)
        self._n_in_last = 1

    def sample(self) -> list[T]:
        """Return the sample in random order: each piece of it then stands for the whole stream."""
        n, n_kept = min(self._n_wanted, len(self._kept)), len(self._kept)
        ends = [n_kept * i // n for i in range(n + 1)] if n else [0]
        taken = [self._one_of(self._kept[begin:end]) for begin, end in pairwise(ends)]
        self._random.shuffle(taken)
        return taken

    def _one_of(self, items: "list[T] | tuple[T, ...]") -> T:
        return items[int(self._random.random() * len(items))]
