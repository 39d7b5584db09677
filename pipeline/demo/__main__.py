"""``python -m pipeline.demo``: the main job on drawings, from S3 to S3, without internet, AWS or a GPU.

It makes a bucket of drawings in the layout of Stanford Dogs and weights that know them (both once), starts an S3 server
on loopback, runs the very command that a user types, and leaves the outcomes in a folder. Results on stdout.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from pipeline.demo.home import made_images, made_weights, objects_below
from pipeline.demo.s3 import CREDENTIALS, fill_bucket, s3_server
from pipeline.storage import join, open_storage, options_from_environment, read_whole

PREFIX = "stanford-dogs-drawn"
"""Below which everything stands in the bucket: it may be one that holds other things."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--folder", default="demo", show_default=True, help="Where drawings, weights and outcomes are kept.")
@click.option("--bucket", help="A bucket of yours on AWS or AWS_ENDPOINT_URL, instead of the embedded S3 server.")
@click.option("--weights", help="Weights for pipeline.run, instead of those made for the drawings.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(folder: str, bucket: str | None, weights: str | None, options: tuple[str, ...]) -> None:
    """Run the main job on drawings. OPTIONS go to pipeline.run."""
    home = Path(folder)
    weights = weights or str(made_weights(home, _say))
    images = made_images(home, _say)
    with ExitStack() as stack:
        if bucket is None:
            bucket = "demo"
            os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": stack.enter_context(s3_server())}
            os.environ.pop("AWS_ENDPOINT_URL_S3", None)
        n_objects = fill_bucket(bucket, ((f"{PREFIX}/{key}", data) for key, data in objects_below(images)))
        source, destination = f"s3://{bucket}/{PREFIX}/Images", f"s3://{bucket}/{PREFIX}/outcomes"
        _say(f"{n_objects} objects in {source}: drawings, so what follows says nothing about dogs")
        status = _run(source, destination, "--weights", weights, *options)
        _fetch(destination, home / "outcomes")
    _say(f"the outcomes are in {home / 'outcomes'}; the accuracy above is that of drawings, not of dogs")
    sys.exit(status)


def _run(*args: str) -> int:
    command = ["python", "-m", "pipeline.run", *args]
    click.echo(f"\n$ {shlex.join(command)}", err=False)
    sys.stdout.flush()
    with subprocess.Popen([sys.executable, *command[1:]]) as process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's: it finishes what is in flight
        return process.wait()


def _fetch(destination: str, folder: Path) -> None:
    """Copy what the run left in S3 into a folder, in place of an earlier run's."""
    shutil.rmtree(folder, ignore_errors=True)
    options = options_from_environment()
    for page in open_storage(destination, options).list_pages(destination):
        for entry in page:
            path = folder / entry.url[len(join(destination, "")) :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_whole(entry.url, options))


def _say(text: str) -> None:
    click.echo(f"demo: {text}")


if __name__ == "__main__":
    main()
