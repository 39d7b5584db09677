"""The command line that every way has, and the watch over its batches."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

MODEL = "resnet50"
BATCH_SIZE = 80


@dataclass(frozen=True, slots=True)
class Task:
    """What a way is given to do."""

    source: str
    """URL of the folder of images."""

    destination: str
    """URL of a folder that nothing stands in."""

    weights: str
    """Absolute path of the state dict of torchvision's ResNet50."""

    limit: int
    """Take the first so many images, in the order of their keys."""

    @property
    def bucket(self) -> str:
        """Of the source."""
        return self.source.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """Of the source's keys, with a slash at the end."""
        return self.source.removeprefix("s3://").partition("/")[2] + "/"

    @property
    def outcomes_key(self) -> str:
        """Where a way that writes its outcomes as one object puts them, in the source's bucket."""
        return f"{self.destination.removeprefix('s3://').partition('/')[2]}/outcomes/part-000000.parquet"


class Watch:
    """Remembers when how many images were classified."""

    def __init__(self) -> None:
        self._batches: list[tuple[float, int]] = []

    def classified(self, n_images: int) -> None:
        """Note that the answers to so many more images are known."""
        self._batches.append((time.time(), n_images))

    def told(self) -> str:
        """Return ``[seconds since the epoch, images]`` of each batch, as one line of JSON."""
        return json.dumps({"batches": self._batches})


def command(do: Callable[..., None], *options: click.Parameter) -> click.Command:
    """Return a command line that does a task and prints what the watch saw.

    Parameters
    ----------
    do
        Is given a `Task`, a `Watch`, and the way's own options as keywords.
    options
        The way's own.
    """

    def callback(source: str, destination: str, weights: Path, limit: int, **own: object) -> None:
        """Do the task, and tell."""
        watch = Watch()
        do(Task(source.rstrip("/"), destination.rstrip("/"), str(weights.resolve()), limit), watch, **own)
        click.echo(watch.told())

    path = click.Path(exists=True, path_type=Path)
    parameters = [
        click.Argument(["source"]),
        click.Argument(["destination"]),
        click.Option(["--weights"], required=True, type=path, help="State dict of torchvision's ResNet50."),
        click.Option(["--limit"], required=True, type=click.IntRange(min=1), help="Take the first N images."),
        *options,
    ]
    return click.Command(None, params=parameters, callback=callback, help=do.__doc__)


COMPILED = click.Option(["is_compiled", "--compiled"], is_flag=True, help="Compile the model; kept for the next time.")
