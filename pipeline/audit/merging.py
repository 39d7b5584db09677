"""Sorted tables as streams, held against each other a block at a time. Pure.

A table of any length takes the memory of one page for each ascending chain of its pages: a run that was continued five
times has six at most.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.audit.evidence import NO_VERSIONS


@dataclass(frozen=True, slots=True)
class Span:
    """What is remembered of a page of the plan that has rows."""

    page: int

    first: str
    """The image that sorts first."""

    last: str
    """The image that sorts last."""

    has_repeats: bool
    """Whether an image occurs in it more than once."""


def crossing(spans: Iterable[Span]) -> list[Span]:
    """Return the pages that may hold an image which is planned elsewhere too: the others need no second look.

    >>> a, b, c = Span(0, "a", "g", False), Span(1, "h", "n", False), Span(2, "n", "z", False)
    >>> [span.page for span in crossing([a, b, c])]
    [1, 2]
    """
    found: set[Span] = set()
    reach: Span | None = None
    for span in _sorted(spans):
        if span.has_repeats:
            found.add(span)
        if reach is not None and span.first <= reach.last:
            found |= {reach, span}
        reach = span if reach is None else max(reach, span, key=lambda item: item.last)
    return _sorted(found)


def chained(spans: Iterable[Span]) -> list[list[Span]]:
    """Return pages as the fewest chains of which each ascends and never touches itself.

    >>> a, b, c = Span(0, "a", "g", False), Span(1, "h", "n", False), Span(2, "b", "m", False)
    >>> [[span.page for span in chain] for chain in chained([a, b, c])]
    [[0, 1], [2]]
    """
    chains: list[list[Span]] = []
    for span in _sorted(spans):
        chain = next((chain for chain in chains if chain[-1].last < span.first), None)
        if chain is None:
            chains.append([span])
        else:
            chain.append(span)
    return chains


def merged(streams: Sequence[Iterator[pa.Table]]) -> Iterator[list[pa.Table]]:
    """Yield blocks of sorted streams, from the first image to the last; all rows of an image are in one block.

    Parameters
    ----------
    streams
        Each yields tables of the columns of `VERSIONS`, sorted by image, and every table beyond the one before.

    Yields
    ------
    list
        For each stream, in their order, its share of the block, which may be empty.
    """
    heads = [_next(stream) for stream in streams]
    while any(map(len, heads)):
        bound = min(_last(head) for head in heads if len(head))
        cuts = [_n_up_to(head, bound) for head in heads]
        yield [head.slice(0, cut) for head, cut in zip(heads, cuts, strict=True)]
        rests = [head.slice(cut) for head, cut in zip(heads, cuts, strict=True)]
        heads = [rest if len(rest) else _next(stream) for rest, stream in zip(rests, streams, strict=True)]


def _sorted(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.first, span.page))


def _next(stream: Iterator[pa.Table]) -> pa.Table:
    return next((table for table in stream if len(table)), NO_VERSIONS)


def _last(table: pa.Table) -> str:
    return str(table["image"][-1].as_py())


def _n_up_to(table: pa.Table, bound: str) -> int:
    images = table["image"]
    return bisect_right(range(len(images)), bound, key=lambda row: str(images[row].as_py()))
