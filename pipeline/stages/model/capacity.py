"""The largest device batch that fits: found by doubling, remembered for the process and in the user's cache.

What is remembered may be wrong by now, since somebody else's process may hold memory of the device; then the classifier
halves it.
"""

from collections.abc import Callable

from pipeline.stages.user_cache import remember, remembered

BOUND = 1024
"""Images beyond which a larger device batch makes nothing faster."""

_TOPIC = "device_batches"

_known: dict[str, int] = {}


def device_batch(key: str, fits: Callable[[int], bool], smallest: int) -> int:
    """Return how many images fit into the device at a time, from memory or by trying.

    Parameters
    ----------
    key
        Names the device, the model, its precision and the images' size.
    fits
        Tries a number of images.
    smallest
        Images to begin with.
    """
    if key not in _known:
        stored = remembered(_TOPIC).get(key)
        if isinstance(stored, int) and stored > 0:
            _known[key] = stored
        else:
            _known[key] = largest_that_fits(fits, smallest)
            remember(_TOPIC, {key: _known[key]})
    return _known[key]


def largest_that_fits(fits: Callable[[int], bool], smallest: int, bound: int = BOUND) -> int:
    """Return the largest number that fits among `smallest` and its doubles up to `bound`; its halves where it does not.

    >>> largest_that_fits(lambda n: n <= 500, 80)
    320
    >>> largest_that_fits(lambda n: n <= 30, 80)
    20
    """
    size = smallest
    while size > 1 and not fits(size):
        size //= 2
    while size >= smallest and 2 * size <= bound and fits(2 * size):
        size *= 2
    return size
