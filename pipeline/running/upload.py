"""What ``--upload`` sends of this package, and what it needs of others. Effects: reads its own files."""

import sys
from pathlib import Path

import cluster
from cluster.parcel import Parcel
from cluster.upload import pack

SCHEDULER_NEEDS = {
    "PIL": "pillow",
    "aiohttp": "aiohttp",
    "botocore": "botocore",
    "filelock": "filelock",
    "fsspec": "fsspec",
    "numpy": "numpy",
    "obstore": "obstore",
    "pyarrow": "pyarrow",
    "s3fs": "s3fs",
    "stamina": "stamina",
    "toolz": "toolz",
}
"""What a scheduler imports with the graph of a run, beside Dask: the name that is imported, the name to install."""

NEEDS = SCHEDULER_NEEDS | {"torch": "torch", "torchvision": "torchvision"}
"""The same of a worker."""


def this_package() -> Parcel:
    """Return this package as it is installed here."""
    pipeline = sys.modules["pipeline"]
    folders = [Path(str(package.__file__)).parent for package in (pipeline, cluster)]
    return pack(folders, str(pipeline.__version__), NEEDS, SCHEDULER_NEEDS)
