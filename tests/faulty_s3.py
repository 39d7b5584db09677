"""moto's S3 server in a thread of this process, with a log of its requests and a table of faults.

::

    with faulty_s3() as server:
        server.faults.add("status", status=503, method="GET", probability=0.3)
        server.faults.add("cut", key="002.jpg", times=2)
        ...
        assert server.count("GET", key="002.jpg") == 3

It is reached through TCP, so by other processes too: give them ``AWS_ENDPOINT_URL=server.endpoint``. moto's state is
this process's, whichever server asks: use a bucket of your own.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

Kind = Literal["status", "silent", "cut", "flip", "stored", "unconditional", "unquoted", "slow"]
"""What may go wrong:

=================  ====================================================================================
``status``         answers `status` with S3's error body (a proxy's for 502), without looking at the request
``silent``         accepts and never answers, until `FaultyS3.released` or the end
``cut``            announces the whole body, sends its first half and closes the connection
``flip``           one bit in the middle of the body is another
``stored``         does what it is asked for, then answers `status`
``unconditional``  ignores If-Match and If-None-Match
``unquoted``       ETags without quotes, in headers and in listings
``slow``           waits `seconds` before it answers
=================  ====================================================================================
"""

_CODES = {403: "AccessDenied", 409: "ConditionalRequestConflict", 500: "InternalError", 501: "NotImplemented"}
_CODES |= {503: "SlowDown", 507: "InsufficientStorage"}

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Request:
    """One request that came. They are logged when they are answered, but the silenced ones at once."""

    method: str

    key: str
    """Without the bucket; empty for a listing, a deletion of many, and all that concerns a bucket."""

    status: int
    """As it was answered; 0 if it never was."""

    headers: Mapping[str, str]
    """As WSGI names them: HTTP_USER_AGENT."""


@dataclass
class Fault:
    """One row of the table."""

    kind: Kind
    method: str
    key: str
    status: int
    probability: float
    seconds: float
    times_left: float


@dataclass
class Faults:
    """The table: every row that fits a request applies to it. A row without limits applies until `clear`."""

    seed: int = 0
    _rows: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(
        self,
        kind: Kind,
        *,
        method: str = "",
        key: str = "",
        status: int = 503,
        times: float = float("inf"),
        probability: float = 1.0,
        seconds: float = 0.0,
    ) -> None:
        """Add a fault of the requests whose method and key two regular expressions find; ``key="."`` is no listing."""
        with self._lock:
            self._rows.append(Fault(kind, method, key, status, probability, seconds, times))

    def clear(self) -> None:
        """Let everything go well from now on."""
        with self._lock:
            self._rows.clear()

    def of(self, method: str, key: str) -> dict[Kind, Fault]:
        """Return what is to go wrong with a request, and take it off the rows that are limited."""
        with self._lock:
            return {row.kind: row for row in self._rows if self._strikes(row, method, key)}

    def _strikes(self, row: Fault, method: str, key: str) -> bool:
        fits = row.times_left > 0 and re.search(row.method, method) and re.search(row.key, key)
        if not fits or self._random.random() >= row.probability:
            return False
        row.times_left -= 1
        return True


class FaultyS3:
    """The server, as a test sees it."""

    def __init__(self, seed: int = 0) -> None:
        self.endpoint = ""
        self.faults = Faults(seed)
        self.log: list[Request] = []
        self.read_by = "auto"
        """Which client a test reads with."""
        self.released = threading.Event()
        """Once set, the silenced connections close."""
        self._moto: App = DomainDispatcherApplication(create_backend_app)

    def count(self, method: str = "", key: str = "", agent: str = "") -> int:
        """Return how many requests have come whose method, key and client three regular expressions find."""
        return sum(
            all(map(re.search, (method, key, agent), (item.method, item.key, item.headers.get("HTTP_USER_AGENT", ""))))
            for item in self.log
        )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin1").decode().lstrip("/")
        key = key.partition("/")[2]
        sent = {name: environ[name] for name in environ if name.startswith("HTTP_")}
        faults = self.faults.of(method, key)
        if "silent" in faults:
            self.log.append(Request(method, key, 0, sent))
            self.released.wait()
            raise ConnectionAbortedError
        status, headers, body = self._answer(environ, faults)
        self.log.append(Request(method, key, status, sent))
        start_response(f"{status} -", headers)
        yield body

    def _answer(self, environ: dict[str, Any], faults: dict[Kind, Fault]) -> tuple[int, list[tuple[str, str]], bytes]:
        if "slow" in faults:
            time.sleep(faults["slow"].seconds)
        if "status" in faults:
            return _refusal(faults["status"].status)
        if "unconditional" in faults:
            environ = {name: environ[name] for name in environ if name not in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")}
        chunks, status_line, headers = run_wsgi_app(self._moto, environ)
        status, body = int(status_line.split()[0]), b"".join(chunks)
        if "stored" in faults:
            return _refusal(faults["stored"].status)
        return _tampered(status, list(headers), body, faults)


def _refusal(status: int) -> tuple[int, list[tuple[str, str]], bytes]:
    body = b"<html>Not S3, but something before it"
    if status in _CODES:
        body = f'<?xml version="1.0"?><Error><Code>{_CODES[status]}</Code><Message>A test.</Message></Error>'.encode()
    return status, [("Content-Length", str(len(body)))], body


def _tampered(
    status: int, headers: list[tuple[str, str]], body: bytes, faults: dict[Kind, Fault]
) -> tuple[int, list[tuple[str, str]], bytes]:
    if "unquoted" in faults:
        headers = [(name, value.strip('"') if name == "ETag" else value) for name, value in headers]
        body = body.replace(b"&quot;", b"")
    if "flip" in faults:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    headers = [item for item in headers if item[0].lower() != "content-length"]
    headers.append(("Content-Length", str(len(body))))
    return status, headers, body[: len(body) // 2] if "cut" in faults else body


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        """Leave the test's output alone: `FaultyS3.log` is the log."""


@contextmanager
def faulty_s3(seed: int = 0) -> Iterator[FaultyS3]:
    """Yield a server on a free loopback port that answers as long as the context; nothing is wrong with it yet."""
    server = FaultyS3(seed)
    http = make_server("127.0.0.1", 0, server, threaded=True, request_handler=_Quiet)
    server.endpoint = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, name="faulty-s3", kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        thread.join()
        http.server_close()
