"""A listing that was looked into: what was seen is not listed a second time."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from pipeline.records import ImageRef


class Peekable:
    """Lists as often as it is called, the first time from where looking ahead stopped.

    Parameters
    ----------
    listed
        Lists the images, lazily.
    """

    def __init__(self, listed: Callable[[], Iterable[ImageRef]]) -> None:
        self._listed = listed
        self._seen: list[ImageRef] = []
        self._rest: Iterator[ImageRef] | None = None

    def at_least(self, n_images: int) -> int:
        """Return how many images there are, `n_images` where there are as many or more. To be called before any use."""
        return len(self.first(n_images))

    def first(self, n_images: int) -> list[ImageRef]:
        """Return the first images, fewer where there are no more. To be called before any use."""
        if self._rest is None:
            self._rest = iter(self._listed())
        self._seen += islice(self._rest, max(0, n_images - len(self._seen)))
        return self._seen[:n_images]

    def __call__(self) -> Iterator[ImageRef]:
        """Yield every image."""
        if self._rest is None:
            return iter(self._listed())
        seen, rest, self._seen, self._rest = self._seen, self._rest, [], None
        return chain(seen, rest)
