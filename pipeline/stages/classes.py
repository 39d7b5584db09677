"""What a model's answers are called, and which of them a label means: ImageNet's classes, or one's own. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from pipeline.stages.labels import categories, display_name, truth_index, wnid_of

LabelOf = Callable[[str], str | None]
"""Returns the label of an image by its URL, None where there is none."""


def unlabelled(_url: str) -> None:
    """Return no label, whatever the image."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The class that an image is of."""

    index: int

    name: str

    wnid: str | None
    """WordNet id; None where the classes are one's own."""


class Classes:
    """The classes of a model.

    Parameters
    ----------
    own
        Their names by class index; None is ImageNet's 1,000, whose labels are WordNet ids.
    """

    def __init__(self, own: tuple[str, ...] | None = None) -> None:
        self.names = categories() if own is None else own
        self.are_imagenets = own is None
        self._index_by_name = {} if own is None else {name: index for index, name in enumerate(own)}

    def truth(self, label: str | None) -> Truth | None:
        """Return what a label means, None for none, and for one that is no class."""
        if label is None:
            return None
        if self.are_imagenets:
            index, name = truth_index(label), display_name(label)
            return None if index is None or name is None else Truth(index, name, label)
        own_index = self._index_by_name.get(label)
        return None if own_index is None else Truth(own_index, label, None)

    def label_by_path(self) -> LabelOf:
        """Return what finds the label in an image's path, asked once for a folder instead of for each of its images.

        That is ImageNet's WordNet id, as `pipeline.stages.labels.wnid_of` finds it, or for classes of one's own the
        nearest folder that is called like one of them.
        """
        by_folder = lru_cache(self._label_of_folder)

        def label_of(url: str) -> str | None:
            folder, _, name = url.rpartition("/")
            return by_folder(folder) or (wnid_of(name) if self.are_imagenets else None)

        return label_of

    def _label_of_folder(self, folder: str) -> str | None:
        if self.are_imagenets:
            return wnid_of(f"{folder}/_")
        return next((part for part in reversed(folder.split("/")) if part in self._index_by_name), None)
