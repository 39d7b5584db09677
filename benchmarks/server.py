"""A fast S3 server on loopback: ``rclone serve s3``, whose buckets are folders. Effects: a process."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.demo.s3 import CREDENTIALS, LOOPBACK

KEYS = f"{CREDENTIALS['AWS_ACCESS_KEY_ID']},{CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"

START_S = 30.0


@contextmanager
def rclone_server(root: Path, log: Path, *options: str) -> Iterator[str]:
    """Yield the endpoint URL of an S3 server that lives as long as the context.

    Parameters
    ----------
    root
        Each folder in it is a bucket; what is changed there from outside is seen a second later.
    log
        Where the server's own log goes.
    options
        More of ``rclone serve s3``.
    """
    command = shutil.which("rclone", path=Path(sys.executable).parent) or "rclone"
    settings = ["--config", "", "--auth-key", KEYS, "--addr", f"{LOOPBACK}:0", "--dir-cache-time", "1s"]
    with log.open("wb") as stderr:
        server = subprocess.Popen([command, "serve", "s3", *settings, *options, str(root)], stderr=stderr)
    try:
        yield _endpoint(server, log)
    finally:
        server.terminate()
        server.wait(timeout=10)


def _endpoint(server: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the server to say where it listens."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        told = re.search(rf"https?://{re.escape(LOOPBACK)}:\d+", log.read_text(encoding="utf-8"))
        if told:
            return told[0]
        time.sleep(0.05)
    raise RuntimeError(f"rclone serve s3 did not start within {START_S:g} s: {log.read_text(encoding='utf-8')[-500:]}")
