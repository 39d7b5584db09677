"""Ground truth by WordNet id, and ImageNet's classes by index. Pure: two fact tables, read once.

The 1,000 WordNet ids of ImageNet in sorted order are the class indices; names are torchvision's categories. The 120
folders of Stanford Dogs (Khosla et al. 2011) are ImageNet classes too, though not a contiguous range of them.
"""

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

_FOLDER_WNID = re.compile(r"(n\d{8})(?:-.*)?", re.DOTALL)
_FILE_WNID = re.compile(r"(n\d{8})_.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Breed:
    """One of the 120 classes of Stanford Dogs."""

    wnid: str
    """WordNet id, such as ``n02085620``."""

    folder: str
    """The folder that holds its photos, such as ``n02085620-Chihuahua``."""

    class_index: int
    """Its class among ImageNet's 1,000."""

    @property
    def name(self) -> str:
        """The display name: the folder's, without the id and with spaces."""
        return self.folder.partition("-")[2].replace("_", " ")


@cache
def breeds() -> tuple[Breed, ...]:
    """Return the 120 breeds of Stanford Dogs, by ascending class index."""
    rows = [Breed(row["wnid"], row["folder"], int(row["class_index"])) for row in _table("stanford_dogs.csv")]
    return tuple(sorted(rows, key=lambda breed: breed.class_index))


@cache
def breed_class_indices() -> tuple[int, ...]:
    """Return the 120 ascending class indices that are breeds of Stanford Dogs."""
    return tuple(breed.class_index for breed in breeds())


@cache
def categories() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, by class index."""
    return tuple(row["torchvision_category"] for row in _table("imagenet_1k.csv"))


def wnid_of(image: str) -> str | None:
    """Return the known WordNet id that a path or URL names, or None: such an image has no truth.

    The nearest folder called ``n02085620`` or ``n02085620-Anything`` decides; where there is none, a file called
    ``n02085620_anything``. Only the 1,000 ids of ImageNet are known.

    >>> wnid_of("s3://bucket/dogs/Images/n02085620-Chihuahua/n02085620_10074.jpg")
    'n02085620'
    >>> wnid_of("s3://bucket/holiday/beach.jpg") is None
    True
    """
    *folders, name = PurePosixPath(image).parts or ("",)
    matches = [_FOLDER_WNID.fullmatch(folder) for folder in reversed(folders)] + [_FILE_WNID.fullmatch(name)]
    known = (match[1] for match in matches if match and match[1] in _class_index_by_wnid())
    return next(known, None)


def truth_index(wnid: str | None) -> int | None:
    """Return the class index of a WordNet id, or None where there is no known truth."""
    return None if wnid is None else _class_index_by_wnid().get(wnid)


def wnid_of_index(class_index: int) -> str:
    """Return the WordNet id of one of ImageNet's classes."""
    return tuple(_class_index_by_wnid())[class_index]


def display_name(wnid: str | None) -> str | None:
    """Return the breed's name as Stanford Dogs spells it, for other ids ImageNet's category, None without a truth."""
    class_index = truth_index(wnid)
    if wnid is None or class_index is None:
        return None
    return _breed_name_by_wnid().get(wnid, categories()[class_index])


@cache
def _class_index_by_wnid() -> dict[str, int]:
    return {row["wnid"]: int(row["class_index"]) for row in _table("imagenet_1k.csv")}


@cache
def _breed_name_by_wnid() -> dict[str, str]:
    return {breed.wnid: breed.name for breed in breeds()}


def _table(name: str) -> list[dict[str, str]]:
    with files(__package__).joinpath(name).open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
