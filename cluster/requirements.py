"""``python requirements.py EXTRA...``: what the project needs to be built and to run, one requirement a line for pip.

The image installs this before the code is there, so that a change of code does not install it anew. It runs on its own,
beside pyproject.toml.
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def requirements(pyproject: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """Return the requirements of a project with some of its extras.

    >>> project = {"dependencies": ["dask"], "optional-dependencies": {"demo": ["moto"], "lint": ["ruff"]}}
    >>> requirements({"build-system": {"requires": ["setuptools"]}, "project": project}, ["demo"])
    ['setuptools', 'dask', 'moto']
    """
    project = pyproject["project"]
    optional = [requirement for extra in extras for requirement in project["optional-dependencies"][extra]]
    return [*pyproject["build-system"]["requires"], *project["dependencies"], *optional]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(tomllib.loads(Path("pyproject.toml").read_text()), sys.argv[1:])) + "\n")
