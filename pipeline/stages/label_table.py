"""Labels from a table of one's own, CSV or Parquet, with the columns ``image`` and ``class``. Pure: bytes in.

An image is named by its URL, or by its path below the source. A class is named as the model's categories name it, or by
its index; where the classes are ImageNet's, a WordNet id will do as well.
"""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.stages.classes import Classes
from pipeline.stages.labels import wnid_of_index

_MAX_NAMED = 5
"""Offenders that an error names."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Labels by image."""

    source: str
    """Below which an image's path may begin, as a URL."""

    labels: Mapping[str, str]
    """Each a label as `Classes.truth` takes it, by URL or by path below the source."""

    def __call__(self, url: str) -> str | None:
        """Return an image's label, None where the table does not name it."""
        label = self.labels.get(url)
        return label if label is not None else self.labels.get(url.removeprefix(f"{self.source}/"))


def read_label_table(data: bytes, name: str, source: str, classes: Classes) -> LabelTable:
    """Return the labels that a table gives.

    Parameters
    ----------
    data
        The bytes of a CSV file with a heading, or of a Parquet file.
    name
        What was given, for errors.
    source
        The folder of the images, as a URL.

    Raises
    ------
    UsageError
        If this is no such table, names an image twice, or names classes that the model does not have: the first five.
    """
    table = _read(data, name)
    images, given = table["image"].cast(pa.string()).to_pylist(), table["class"].cast(pa.string()).to_pylist()
    known = {text: label for text in set(given) if (label := _label(text, classes)) is not None}
    if unknown := [text for text in dict.fromkeys(given) if text is not None and text not in known]:
        raise UsageError(f"--labels {name}: no class of the model's is called {_first(unknown)}")
    if twice := [image for image, n in Counter(images).items() if n > 1]:
        raise UsageError(f"--labels {name}: more than one row for {_first(twice)}")
    rows = zip(images, given, strict=True)
    return LabelTable(source, {image: known[text] for image, text in rows if image is not None and text is not None})


def _read(data: bytes, name: str) -> pa.Table:
    try:
        is_parquet = data[:4] == b"PAR1"
        table = pq.read_table(pa.BufferReader(data)) if is_parquet else pa_csv.read_csv(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        brief = " ".join(str(error).split())[:200]
        raise UsageError(f"--labels {name}: neither a CSV nor a Parquet table ({brief})") from error
    if missing := [column for column in ("image", "class") if column not in table.column_names]:
        found = ", ".join(table.column_names)
        raise UsageError(f"--labels {name}: no column {missing[0]!r}; expected 'image' and 'class', found {found}")
    return table


def _label(given: str | None, classes: Classes) -> str | None:
    """Return the label that a name, an index or a WordNet id stands for."""
    if given is None:
        return None
    if given.isdecimal() and int(given) < len(classes.names) and given not in classes.names:
        return wnid_of_index(int(given)) if classes.are_imagenets else classes.names[int(given)]
    if not classes.are_imagenets:
        return given if classes.truth(given) else None
    if classes.truth(given):
        return given
    return wnid_of_index(classes.names.index(given)) if given in classes.names else None


def _first(offenders: list[str]) -> str:
    named = ", ".join(repr(offender) for offender in offenders[:_MAX_NAMED])
    return named + (f" and {len(offenders) - _MAX_NAMED:,} more" if len(offenders) > _MAX_NAMED else "")
