"""The commands of docker-compose.yml, cluster/kubernetes.yaml and cluster/README.md: their options exist."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from pipeline.config import parameters
from tests.composed import read_file

ROOT = Path(__file__).parent.parent
README = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")


def in_services():
    services = read_file({})["services"].values()
    return [[*service.get("entrypoint", ()), *service.get("command", ())] for service in services]


def in_pods():
    text = (ROOT / "cluster" / "kubernetes.yaml").read_text(encoding="utf-8")
    specs = [document["spec"] for document in yaml.safe_load_all(text)]
    pods = [spec[role]["spec"] for spec in specs for role in ("scheduler", "worker") if role in spec]
    return [container["args"] for pod in pods for container in pod["containers"]]


def in_prose():
    """Return what stands in the README's blocks of commands, and between backticks in a sentence."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    blocks = [text.replace("\\\n", " ") for language, text in fence.findall(README) if not language]
    lines = [line for block in blocks for line in block.splitlines()]
    inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", fence.sub("", README))]
    return [shlex.split(text, comments=True) for text in [*lines, *inline]]


def ours_and_dask_s():
    """Return (program, arguments) of every command that is Dask's or ours."""
    programs = ("dask scheduler", "dask worker", "dask cuda worker", "python -m pipeline.run")
    for words in [*in_services(), *in_pods(), *in_prose()]:
        text = shlex.join(words)
        for program in programs:
            before, found, after = text.partition(f"{program} ")
            if found and not before.endswith("-"):
                yield program, tuple(shlex.split(after))


def options_of(program):
    """Return the options that a program takes."""
    from dask_cuda.cli import worker as cuda_worker
    from distributed.cli import dask_scheduler, dask_worker

    known = {
        "dask scheduler": dask_scheduler.main.params,
        "dask worker": dask_worker.main.params,
        "dask cuda worker": cuda_worker.params,
        "python -m pipeline.run": [*parameters(), click.Option(["--help"])],
    }
    return {option for parameter in known[program] for option in parameter.opts}


COMMANDS = sorted(set(ours_and_dask_s()))


@pytest.mark.parametrize(
    ("program", "args"), COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_option_exists(program, args):
    given = {word.partition("=")[0] for word in args if word.startswith("--")}

    assert given - options_of(program) == set()


def test_commands_were_found_everywhere():
    programs = [program for program, _ in COMMANDS]

    assert {program: programs.count(program) > 1 for program in programs} == dict.fromkeys(programs, True)
    assert set(programs) == {"dask scheduler", "dask worker", "dask cuda worker", "python -m pipeline.run"}


def test_each_recipe_says_whether_it_was_tried():
    sections = re.split(r"^## (.+)\n", README, flags=re.MULTILINE)[1:]

    for title, text in zip(sections[::2], sections[1::2], strict=True):
        assert re.match(r"\s*\*[^*]*(tried|run by)[^*]*\*", text, re.IGNORECASE), title
