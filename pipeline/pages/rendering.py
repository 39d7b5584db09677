"""From facts to a page: templates in which every value is escaped. Pure, but for the templates.

Names come out of buckets: Jinja's autoescaping (https://jinja.palletsprojects.com/en/stable/api/#autoescaping) keeps
them from being HTML, and the page's Content-Security-Policy lets no script run but its own, nor anything be loaded.
"""

import base64
import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup


def render(template: str, command: str, facts: dict[str, Any]) -> str:
    """Return a page of HTML that needs nothing beside it.

    Parameters
    ----------
    command
        What wrote it.
    facts
        What the template shows.
    """
    script = _own("script.js")
    about = {
        "command": command,
        "version": version("dask-image-inference"),
        "style": Markup(_own("style.css")),  # noqa: S704  ours
        "script": Markup(script),  # noqa: S704  ours
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _environment().get_template(template).render(about | facts)


def percent(share: float | None) -> str:
    """Return a share for people.

    >>> percent(0.6912), percent(None)
    ('69.1%', '–')
    """
    return "–" if share is None else f"{share:.1%}"


def points(share: float | None) -> str:
    """Return a difference of two shares for people, in percentage points.

    >>> points(0.0123), points(-0.5), points(None)
    ('+1.2', '−50.0', '–')
    """
    return "–" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(58.23), duration(4000)
    ('58.2 s', '1 h 6 min')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.pages"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "duration": duration,
        "count": lambda number: f"{number:,}",
    }
    return environment


def _own(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
