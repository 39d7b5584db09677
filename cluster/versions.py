"""Whether a cluster runs the same software as its client: what differs fails late, and strangely."""

from typing import Any

from distributed import Client

OURS = "dask-image-inference"
PACKAGES = ("python", "dask", "distributed", OURS)
"""Those whose objects travel. Of Python the minor version counts."""


def refuse_other_versions(client: Client, *, without: str | None = None) -> None:
    """Raise `ConnectionError` that names the first process of a cluster with other versions than the client's.

    Parameters
    ----------
    without
        A package that need not be there.
    """
    found = client.get_versions(packages=list(PACKAGES[1:]))
    packages = [package for package in PACKAGES if package != without]
    ours = _versions(found["client"])
    processes = {"the scheduler": found["scheduler"]} | {
        f"worker {address}": told for address, told in found["workers"].items()
    }
    for name, told in processes.items():
        theirs = _versions(told)
        differing = [package for package in packages if theirs[package] != ours[package]]
        if differing:
            there = ", ".join(f"{package} {theirs[package] or 'not installed'}" for package in differing)
            here = ", ".join(f"{package} {ours[package]}" for package in differing)
            raise ConnectionError(f"{name} has {there}; here it is {here}: install the same versions there")


def _versions(told: dict[str, Any] | None) -> dict[str, str | None]:
    packages = (told or {}).get("packages", {})
    python = str(packages.get("python", "unknown"))
    return {name: packages.get(name) for name in PACKAGES} | {"python": ".".join(python.split(".")[:2])}
