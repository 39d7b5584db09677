"""The ways of doing the job that are compared, each a process of its own.

``python -m benchmarks.ways.NAME SOURCE DESTINATION --weights FILE --limit N`` classifies the first N images of SOURCE,
leaves its outcomes below DESTINATION, and prints as its last line what a `benchmarks.ways.command.Watch` saw.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing the job, or one part of it alone."""

    title: str
    """For people."""

    module: str
    """Below ``benchmarks.ways``."""

    arguments: tuple[str, ...] = ()
    """Of its own, beside those that every way has."""

    is_job: bool = True
    """Whether it does the whole job, from S3 to S3; else a part of it alone, without outcomes."""

    has_own_transform: bool = False
    """Whether it crops the images otherwise than the weights ask for: its classes may differ."""

    is_compiled: bool = False
    """Whether its model is compiled: these ways are measured where ``--compiled`` asks for them."""

    has_cold_cache: bool = False
    """Whether what was compiled before is out of its sight."""


TUTORIAL, TUTORIAL_TUNED = "tutorial", "tutorial-tuned"
DATALOADER, DATALOADER_TUNED = "dataloader", "dataloader-tuned"
BY_HAND, BY_HAND_COMPILED = "by-hand", "by-hand-compiled"
MODEL, MODEL_COMPILED, DECODE = "model", "model-compiled", "decode"
PROJECT, PROJECT_COMPILED, PROJECT_COLD = "project", "project-compiled", "project-compiled-cold"

WAYS = {
    TUTORIAL: Way("the tutorial's way", "tutorial", has_own_transform=True),
    TUTORIAL_TUNED: Way("the tutorial, tuned by hand", "tutorial_tuned"),
    DATALOADER: Way("DataLoader, as in the blog post", "dataloader"),
    DATALOADER_TUNED: Way("DataLoader, tuned by hand", "dataloader", ("--tuned",)),
    BY_HAND: Way("best loop by hand, no engine", "by_hand"),
    PROJECT: Way("this project", "project"),
    MODEL: Way("the model alone", "model_alone", is_job=False),
    DECODE: Way("decoding alone", "decode_alone", is_job=False),
    BY_HAND_COMPILED: Way("loop by hand, compiled", "by_hand", ("--compiled",), is_compiled=True),
    PROJECT_COMPILED: Way("this project, compiled", "project", ("--compile=on",), is_compiled=True),
    PROJECT_COLD: Way(
        "this project, compiled, cold", "project", ("--compile=on",), is_compiled=True, has_cold_cache=True
    ),
    MODEL_COMPILED: Way("the model alone, compiled", "model_alone", ("--compiled",), False, is_compiled=True),
}
"""By the name that ``--ways`` knows them by, in the table's order."""
