"""``python -m cluster.answers URL``: the health check of containers, which have no curl. Effects: one request."""

import sys
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 3.0

_direct = build_opener(ProxyHandler({}))
"""A container may have been given a proxy for the world; what is asked here is in the container itself."""


def answers(url: str) -> bool:
    """Return whether something answers there, within 3 s and with success."""
    try:
        with _direct.open(url, timeout=TIMEOUT_S):
            return True
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1]))
