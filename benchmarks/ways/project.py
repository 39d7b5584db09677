"""The project's own command, ``python -m pipeline.run``, with a watch on its console.

The process does just what the command does, with the same modules in the same order; only its console also notes when
the client learned of each classified batch.
"""

import click

import pipeline.run
from benchmarks.ways.command import Task, Watch, command
from pipeline.audience.console import Console


def classify(task: Task, watch: Watch, compile_: str) -> None:
    """Classify SOURCE's first N images by ``pipeline.run``."""

    class WatchedConsole(Console):
        def classified(self, n_images: int) -> None:
            watch.classified(n_images)
            super().classified(n_images)

    vars(pipeline.run)["Console"] = WatchedConsole
    options = ("--weights", task.weights, "--limit", str(task.limit), "--compile", compile_)
    status = pipeline.run.main([task.source, task.destination, *options])
    if status:
        raise SystemExit(status)


main = command(
    classify, click.Option(["compile_", "--compile"], default="off", type=click.Choice(["on", "off"]), help="As there.")
)

if __name__ == "__main__":
    main()
