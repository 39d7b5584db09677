"""Images as they travel to their task: whole columns in one piece of bytes, which the scheduler passes on unopened.

As records they would be taken apart and put together again on their way, one by one: by the client, by the scheduler
(which unpickles the graph and pickles each task) and by the worker.
"""

import pickle
from collections.abc import Iterator, Sequence
from typing import overload

from pipeline.records import ImageRef


class PackedRefs(Sequence[ImageRef]):
    """A sequence of images that is unpacked where it is first looked into.

    Parameters
    ----------
    data
        What `pack` made of the images.
    """

    __slots__ = ("_data", "_refs")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._refs: tuple[ImageRef, ...] | None = None

    @classmethod
    def pack(cls, refs: Sequence[ImageRef]) -> "PackedRefs":
        """Return the images, packed."""
        columns = [[getattr(ref, name) for ref in refs] for name in ImageRef.__slots__]
        return cls(pickle.dumps(columns, protocol=pickle.HIGHEST_PROTOCOL))

    def __len__(self) -> int:
        return len(self._unpacked())

    @overload
    def __getitem__(self, index: int) -> ImageRef: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImageRef, ...]: ...
    def __getitem__(self, index: int | slice) -> ImageRef | tuple[ImageRef, ...]:
        return self._unpacked()[index]

    def __iter__(self) -> Iterator[ImageRef]:
        return iter(self._unpacked())

    def __reduce__(self) -> tuple[type["PackedRefs"], tuple[bytes]]:
        return PackedRefs, (self._data,)

    def _unpacked(self) -> tuple[ImageRef, ...]:
        if self._refs is None:
            columns = pickle.loads(self._data)  # noqa: S301  it came with the task
            self._refs = tuple(ImageRef(*row) for row in zip(*columns, strict=True))
        return self._refs
