"""The names of a model's classes, from a file of one's own: a name in each line, or a JSON list. Pure: bytes in."""

import json
from collections import Counter

from pipeline.errors import UsageError

_MAX_NAMED = 5


def read_categories(data: bytes, name: str) -> tuple[str, ...]:
    """Return the names of the classes, by class index.

    Raises
    ------
    UsageError
        If this is no list of different names.
    """
    try:
        text = data.decode("utf-8-sig")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except ValueError as error:
        raise UsageError(f"--categories {name}: expected a name in each line, or a JSON list ({error})") from error
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise UsageError(f"--categories {name}: expected a JSON list of names")
    stripped = [one.strip() for one in names]
    while stripped and not stripped[-1]:  # the end of the last line
        stripped.pop()
    if not stripped or not all(stripped):
        raise UsageError(
            f"--categories {name}: expected a name for each class, found {len(stripped)} lines, some empty"
        )
    if twice := [one for one, n in Counter(stripped).items() if n > 1]:
        raise UsageError(f"--categories {name}: named twice: {', '.join(repr(one) for one in twice[:_MAX_NAMED])}")
    return tuple(stripped)
