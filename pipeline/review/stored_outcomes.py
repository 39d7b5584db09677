"""A destination's outcomes as one table. Effects: storage."""

from collections.abc import Sequence
from typing import Any

import toolz

from pipeline.destination import OUTCOMES_FOLDER, RUN_JSON, Destination, part_number
from pipeline.errors import UsageError
from pipeline.stages.outcomes import OutcomesTable, join_outcomes
from pipeline.storage import options_from_environment, resolve_url

_PARTS_AT_A_TIME = 64


def read_outcomes(destination: str, columns: Sequence[str] | None = None) -> OutcomesTable:
    """Return the outcomes that stand at a destination, one row for each image, in the order of their parts.

    A million rows take some seconds and 250 MB. A run that is not complete has the rows that it has so far.

    Parameters
    ----------
    destination
        Folder of a run on any fsspec URL; S3 settings come from the environment.
    columns
        Those that are wanted; None is all.

    Returns
    -------
    pyarrow.Table
        With the columns of the README's table. Texts that recur, such as `breed`, are dictionaries: pandas makes
        categories of them.

    Raises
    ------
    UsageError
        If no run stands there.
    StorageError
        If it cannot be read.
    """
    stored = Destination(resolve_url(destination), options_from_environment())
    record_of(stored)
    return outcomes_at(stored, columns)


def record_of(stored: Destination) -> dict[str, Any]:
    """Return a run's ``run.json``; raise `UsageError` if no run stands there."""
    record = stored.read_json(RUN_JSON)
    if record is None:
        raise UsageError(f"{stored.url} holds no run: expected {RUN_JSON} and {OUTCOMES_FOLDER}/ below it")
    return record


def outcomes_at(stored: Destination, columns: Sequence[str] | None = None) -> OutcomesTable:
    """Return the outcomes of a destination that holds a run; see `read_outcomes`."""
    names = sorted(name for name in stored.etags(OUTCOMES_FOLDER) if part_number(name) is not None)
    pages = toolz.partition_all(_PARTS_AT_A_TIME, names)
    return join_outcomes((data for page in pages for data in stored.read_many(page)), columns)
