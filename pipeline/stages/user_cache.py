"""What is known of this machine between runs, in the user's cache: losing it costs seconds. Effects: disk."""

import json
import logging
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

logger = logging.getLogger("pipeline")


def user_cache() -> Path:
    """Return this project's folder in the user's cache, which need not exist; ``XDG_CACHE_HOME`` moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dask-image-inference"


def remembered(topic: str) -> dict[str, Any]:
    """Return what is known of a topic, by key; nothing where the file is damaged or cannot be read."""
    try:
        facts = json.loads(_path(topic).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def remember(topic: str, facts: dict[str, Any]) -> None:
    """Add facts to a topic, whole or not at all; where the cache cannot be written nothing happens."""
    path = _path(topic)
    half = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(remembered(topic) | facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        half.replace(path)
    except OSError as error:
        logger.info("%s is not remembered: %s", topic, error)


def _path(topic: str) -> Path:
    return user_cache() / f"{topic}.json"
