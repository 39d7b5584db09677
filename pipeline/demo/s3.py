"""moto's S3 server as a process on a free loopback port, and a bucket full of objects. Effects: a process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

LOOPBACK = "127.0.0.1"
START_S = 30.0

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "demo-access-key",
    "AWS_SECRET_ACCESS_KEY": "demo-secret-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client of the embedded server needs in its environment, beside AWS_ENDPOINT_URL; moto takes any keys."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the endpoint URL of an S3 server that lives as long as the context."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "--host", LOOPBACK, "--port", str(port)]
    environment = os.environ | CREDENTIALS
    # In a session of its own: Ctrl-C at a terminal is for its clients.
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        _await_port(port, server)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def fill_bucket(bucket: str, objects: Iterable[tuple[str, bytes]]) -> int:
    """Make a bucket where there is none, put objects into it by (key, bytes), and return their number.

    The endpoint and the keys come from the environment.
    """
    client = boto3.client("s3", config=Config(max_pool_connections=16))
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError:
        client.create_bucket(Bucket=bucket)

    def put(item: tuple[str, bytes]) -> Any:
        return client.put_object(Bucket=bucket, Key=item[0], Body=item[1])

    with ThreadPoolExecutor(8) as pool:
        return len(list(pool.map(put, objects)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the S3 server ended with status {server.returncode}; is the extra 'demo' installed?")
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"the S3 server did not listen on port {port} within {START_S:g} s")
