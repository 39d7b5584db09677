"""What device a process has, and its arithmetic, as the system tells; torch is asked where that is too little."""

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = {"amx_bf16", "avx512_bf16"}


def fastest_cpu_precision() -> str:
    """Return ``bf16`` where this machine's CPU multiplies bfloat16 in hardware, else ``fp32``."""
    if _CPUINFO.exists():  # Linux: spares the client the seconds of importing torch
        return "bf16" if _BF16_FLAGS & set(_CPUINFO.read_text(encoding="utf-8").split()) else "fp32"
    import torch  # noqa: PLC0415  as above

    return "bf16" if any(torch.cpu.get_capabilities().get(flag) for flag in _BF16_FLAGS) else "fp32"


def fastest_precision() -> str:
    """Return the fastest precision that this process's device computes in hardware: ``bf16`` or ``fp32``."""
    import torch  # noqa: PLC0415  as below

    if has_gpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return fastest_cpu_precision()


def has_gpu() -> bool:
    """Return whether this process infers on a GPU."""
    import torch  # noqa: PLC0415  seconds: asked on workers, which need it anyway

    return bool(torch.cuda.is_available())
