"""What processes are asked about themselves. Effects: reads the process's own state.

These functions travel by value, to processes that may lack this package: at the top they may import nothing but the
standard library. See https://github.com/cloudpipe/cloudpickle, `register_pickle_by_value`.
"""

import asyncio
import os
import platform
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def vitals(packages: tuple[str, ...], dask_worker: Any = None) -> dict[str, Any]:
    """Return what a process can tell at once; a `pipeline.diagnosis.vitals.Vitals` without its name."""
    told: dict[str, Any] = {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "clock": time.time(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)],
        "libc": platform.libc_ver()[0],
        "preloaded": os.environ.get("LD_PRELOAD", ""),
        "has_no_trim_threshold": os.environ.get("MALLOC_TRIM_THRESHOLD_") is None,
        "visible_gpus": _visible_gpus(),
        "n_gpus": len(_gpus()),
    }
    if hasattr(dask_worker, "nanny"):  # a scheduler is handed over under the same name
        from distributed.system import MEMORY_LIMIT  # noqa: PLC0415  of the host, or of its container

        told |= {
            "n_slots": dask_worker.state.nthreads,
            "memory_bytes": dask_worker.memory_manager.memory_limit or 0,
            "host_memory_bytes": MEMORY_LIMIT,
            "has_nanny": dask_worker.nanny is not None,
        }
    return told


async def imports(dask_worker: Any = None) -> str | None:  # noqa: ARG001  Dask gives it
    """Return why a process cannot import what a run needs; None where it can."""
    return await asyncio.to_thread(_import_fault)


async def cuda(dask_worker: Any = None) -> dict[str, Any] | None:  # noqa: ARG001  as above
    """Return how torch finds the GPU that a process may use; None where it may use none."""
    return await asyncio.to_thread(_cuda) if _visible_gpus() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _import_fault() -> str | None:
    try:
        import torch  # noqa: F401, PLC0415  here they are what is asked for
        import torchvision  # noqa: F401, PLC0415

        import pipeline.engine.tasks  # noqa: PLC0415
        import pipeline.stages.decode  # noqa: F401, PLC0415
    except Exception as error:  # noqa: BLE001  whatever it is, it is what has to be told
        return f"{type(error).__name__}: {error}"
    return None


def _gpus() -> list[str]:
    """Return the ids of this host's GPUs, without starting CUDA."""
    try:
        import pynvml  # noqa: PLC0415  comes with dask-cuda

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except Exception:  # noqa: BLE001  no package, no driver or no permission: all mean no GPU for us
        return []
    return [uuid.decode() if isinstance(uuid, bytes) else uuid for uuid in uuids]


def _visible_gpus() -> list[str]:
    """Return the ids of the GPUs that this process may use, in the order in which CUDA counts them."""
    there, allowed = _gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return there
    named = [entry.strip() for entry in allowed.split(",")]
    found = (there[int(name)] if name.isdigit() and int(name) < len(there) else name for name in named)
    return [name for name in found if any(uuid.startswith(name) for uuid in there) and name] if there else []


def _cuda() -> dict[str, Any]:
    told: dict[str, Any] = {"driver": _driver(), "built_for": None, "device": None, "fault": None}
    try:
        import torch  # noqa: PLC0415  seconds, and not everywhere

        told["built_for"] = torch.version.cuda
        properties = torch.cuda.get_device_properties(0)
        told["device"] = properties.name
        capability, known = f"sm_{properties.major}{properties.minor}", torch.cuda.get_arch_list()
        if not any(arch.split("_")[1][:-1] == str(properties.major) for arch in known if arch.startswith("sm_")):
            told["fault"] = f"{properties.name} is {capability}, and this torch was built for {', '.join(known)}"
    except Exception as error:  # noqa: BLE001  as in _import_fault
        told["fault"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return told


def _driver() -> str | None:
    try:
        import pynvml  # noqa: PLC0415  as in _gpus

        driver = pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # noqa: BLE001  as in _gpus
        return None
    return driver.decode() if isinstance(driver, bytes) else str(driver)
