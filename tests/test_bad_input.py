"""Whatever is wrong with the command is said in one line, with the right status, before any worker starts."""

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import boto3
import psutil
import pytest
import torch
from torchvision.models import resnet18

from pipeline.run import main


@pytest.fixture
def good_source(bucket, drawings):
    boto3.client("s3").put_object(Bucket=bucket, Key="Images/n02085620-Chihuahua/n02085620_1.jpg", Body=drawings[0][1])
    return f"s3://{bucket}/Images"


@pytest.fixture
def refused(capsys):
    """Run the command in this process; return its status and its one line, having started nothing."""

    def refused(*args):
        before, started = psutil.Process().children(recursive=True), time.monotonic()
        status = main([str(arg) for arg in args])
        assert time.monotonic() - started < 10
        assert psutil.Process().children(recursive=True) == before
        stderr = capsys.readouterr().err
        assert re.fullmatch(r"error: [^\n]+\n", stderr), stderr
        return status, stderr.removeprefix("error: ").strip()

    return refused


@pytest.fixture
def denying_s3():
    """Yield the endpoint of an HTTP server on loopback that answers as S3 does to a stranger."""

    class Denying(http.server.BaseHTTPRequestHandler):
        code = "AccessDenied"

        def do_GET(self):
            body = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET  # noqa: N815  http.server's name

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Denying
    server.shutdown()
    server.server_close()


def test_a_missing_argument(refused):
    assert refused("s3://b/Images") == (2, "Missing argument 'DESTINATION'. See python -m pipeline.run --help.")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--batch-size", "0"], "0 is not in the range x>=1"),
        (["--batch-size", "many"], "'many' is not a valid integer"),
        (["--precision", "int8"], "'int8' is not one of 'auto', 'fp32', 'bf16', 'fp16'"),
        (["--max-failure-rate", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["--colour", "red"], "No such option"),
    ],
)
def test_an_option_that_cannot_be(refused, args, expected):
    status, line = refused("s3://b/Images", "s3://b/out", *args)

    assert status == 2
    assert expected in line


def test_a_wrong_endpoint(refused, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")

        status, line = refused("s3://dogs/Images", "s3://dogs/out")

    assert status == 4
    assert line.startswith("cannot list s3://dogs/Images at http://127.0.0.1:")
    assert "a-secret" not in line


def test_an_endpoint_that_never_answers(refused, monkeypatch, s3):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")

        status, line = refused("s3://dogs/Images", "s3://dogs/out")

    assert status == 4
    assert "no usable answer within 5 s" in line


def test_no_credentials(refused, monkeypatch, s3, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{s3}/")  # another endpoint to the cache of storages: nobody has signed in

    status, line = refused("s3://dogs/Images", "s3://dogs/out")

    assert status == 4
    assert "no credentials found; set AWS_ACCESS_KEY_ID" in line


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDenied", "access to bucket dogs denied"),
        ("InvalidAccessKeyId", "the access key is unknown there"),
        ("SignatureDoesNotMatch", "the secret key does not fit the access key"),
        ("ExpiredToken", "the credentials have expired"),
    ],
)
def test_refused_credentials(refused, monkeypatch, s3, denying_s3, code, expected):
    endpoint, handler = denying_s3
    handler.code = code
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

    status, line = refused("s3://dogs/Images", "s3://dogs/out")

    assert status == 4
    assert expected in line


def test_a_missing_bucket(refused, s3):
    status, line = refused("s3://no-such-bucket/Images", "s3://no-such-bucket/out")

    assert status == 4
    assert "there is no such bucket (bucket no-such-bucket, NoSuchBucket)" in line


def test_an_empty_listing(refused, bucket):
    boto3.client("s3").put_object(Bucket=bucket, Key="Images/README.txt", Body=b"no image")

    status, line = refused(f"s3://{bucket}/Images", f"s3://{bucket}/out")

    assert status == 2
    assert line.startswith(f"no image under s3://{bucket}/Images")


def test_a_missing_destination_bucket(refused, good_source):
    status, line = refused(good_source, "s3://no-such-bucket/out")

    assert status == 4
    assert "no-such-bucket" in line


def test_an_unwritable_destination(refused, good_source, tmp_path):
    (tmp_path / "file").write_text("in the way")

    status, line = refused(good_source, tmp_path / "file" / "out")

    assert status == 4
    assert "cannot write" in line


def test_a_destination_that_holds_the_source(refused, good_source, bucket):
    assert refused(good_source, f"s3://{bucket}")[0] == 2


def test_an_unknown_protocol(refused, good_source):
    status, line = refused(good_source, "nonsense://out")

    assert status == 2
    assert "cannot open nonsense:// locations" in line


def test_unknown_weights_name_those_that_there_are(refused, good_source, bucket):
    status, line = refused(good_source, f"s3://{bucket}/out", "--weights", "IMAGENET1K_V9")

    assert status == 2
    assert "expected one of IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, or the path or URL of a state dict" in line


def test_weights_of_another_model(refused, good_source, bucket, tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")

    status, line = refused(good_source, f"s3://{bucket}/out", "--weights", tmp_path / "resnet18.pth")

    assert status == 2
    assert "tensors do not fit resnet50" in line


def test_weights_that_are_not_there(refused, good_source, bucket):
    status, line = refused(good_source, f"s3://{bucket}/out", "--weights", f"s3://{bucket}/none.pth")

    assert status == 4
    assert "no such object" in line


def test_weights_that_hold_code(refused, good_source, bucket, tmp_path):
    torch.save({"fc.weight": print}, tmp_path / "code.pth")

    status, line = refused(good_source, f"s3://{bucket}/out", "--weights", tmp_path / "code.pth")

    assert status == 2
    assert "not a state dict that torch can load safely" in line


@pytest.mark.parametrize("cluster", ["tpu", "no-such-file.json", "http://127.0.0.1:8787"])
def test_a_cluster_that_is_none(refused, good_source, bucket, weights, cluster):
    status, line = refused(good_source, f"s3://{bucket}/out", "--weights", weights, "--cluster", cluster)

    assert status == 2
    assert "expected auto, cuda, cpu, a scheduler's address" in line


def test_cuda_without_a_device(refused, good_source, bucket, weights, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    status, line = refused(good_source, f"s3://{bucket}/out", "--weights", weights, "--cluster", "cuda")

    assert (status, line) == (
        2,
        "--cluster cuda: no CUDA device found here; use --cluster cpu, or a scheduler's address",
    )


def test_a_scheduler_that_does_not_answer(refused, good_source, bucket, weights, monkeypatch):
    monkeypatch.setattr("cluster.remote.CONNECT_S", 1.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"

        before = time.monotonic()
        status = main([good_source, f"s3://{bucket}/out", "--weights", str(weights), "--cluster", address])

    assert status == 5
    assert time.monotonic() - before < 60


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_something_that_is_no_scheduler(good_source, bucket, weights, monkeypatch, capsys, greeting):
    monkeypatch.setattr("cluster.remote.CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        answering = threading.Thread(target=greet, args=(other, greeting), daemon=True)
        answering.start()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"

        status = main([good_source, f"s3://{bucket}/out", "--weights", str(weights), "--cluster", address])
    answering.join(10)

    assert status == 5
    assert f"error: --cluster {address}: no scheduler answers there" in capsys.readouterr().err


def greet(server, greeting):
    """Say the same to whoever comes, until nobody does any more."""
    server.settimeout(3)
    with ExitStack() as stack:
        while True:
            try:
                peer = stack.enter_context(server.accept()[0])
                peer.sendall(greeting)
            except OSError:
                return


def test_options_from_the_environment(monkeypatch, bucket, good_source, capsys):
    import dask.config

    with dask.config.set({"pipeline.weights": "IMAGENET1K_V9", "pipeline.batch-size": 7}):
        assert main([good_source, f"s3://{bucket}/out"]) == 2

    assert "--weights IMAGENET1K_V9" in capsys.readouterr().err


def test_a_single_glob_from_the_environment(bucket, good_source, capsys):
    import dask.config

    with dask.config.set({"pipeline.include": "*.webp"}):
        assert main([good_source, f"s3://{bucket}/out"]) == 2

    assert "no image under" in capsys.readouterr().err


def test_settings_that_are_none(capsys):
    import dask.config

    with dask.config.set({"pipeline": "yes"}):
        assert main(["s3://b/Images", "s3://b/out"]) == 2

    assert "sets pipeline to 'yes'" in capsys.readouterr().err


def test_fewer_workers_than_are_waited_for(refused, good_source, bucket, weights):
    options = ["--weights", weights, "--workers", 1, "--min-workers", 3]

    assert refused(good_source, f"s3://{bucket}/out", *options)[0] == 2


def test_the_real_command_says_one_line_too(good_source, bucket):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        environment = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        command = [sys.executable, "-m", "pipeline.run", good_source, f"s3://{bucket}/out"]

        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)

    assert done.returncode == 4
    assert re.fullmatch(r"error: cannot list [^\n]+\n", done.stderr), done.stderr


def test_a_misspelt_setting_is_not_silently_ignored(capsys):
    import dask.config

    with dask.config.set({"pipeline.bach-size": 7}):
        assert main(["s3://b/Images", "s3://b/out"]) == 2

    assert "pipeline.bach_size" in capsys.readouterr().err
