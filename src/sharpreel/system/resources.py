"""What this process may use: CPUs, memory, instruction sets, GPUs."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from pathlib import Path

from sharpreel.system import cgroups

# Of NVIDIA's driver, of Windows' for Linux within it, and of boards with the GPU on the chip.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl", "/dev/nvhost-ctrl-gpu", "/dev/nvmap")
NO_GPU = "device='cuda': PyTorch finds no CUDA GPU; use device='cpu'."
SHARE = 0.7  # of free memory that a network may take; decoder, encoder and others need some
INSTRUCTIONS = (
    "sse4_2",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
)


def instruction_sets() -> list[str]:
    """The instruction sets of this CPU that matter for speed or rounding, by their Linux names."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return [platform.machine()]
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    return [name for name in INSTRUCTIONS if name in flags] or [platform.machine()]


def has_avx512() -> bool:
    """Does this CPU have AVX-512, as NumPy detected at import?"""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore
    except ImportError:  # NumPy 1
        from numpy.core._multiarray_umath import __cpu_features__ as features  # type: ignore
    return bool(features.get("AVX512F", False))


def usable_cpus() -> int:
    """Number of CPUs this process may use: its affinity, and the quota of its container."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = cgroups.cpu_quota()
    return count if quota is None else min(count, max(int(quota), 1))


def free_bytes() -> int | None:
    """Memory that this process can still allocate, in bytes; None where the system does not tell.

    Linux: what is available without swapping, and at most what the limits of the process and of
    its container leave.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    bounds = []
    try:
        with open("/proc/meminfo") as file:
            bounds += [
                int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable")
            ]
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    in_container = cgroups.free_bytes()
    if in_container is not None:
        bounds.append(in_container)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        bounds.append(max(limit - used, 0))
    return min(bounds, default=None)


def peak_memory_mb() -> int | None:
    """The most memory this process has held so far, in MiB; None where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:  # the number of `resource` includes that of the parent process
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / (1 << 10))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def cuda_available() -> bool:
    """Is there a GPU that PyTorch can use? False without PyTorch, which is imported only here."""
    if os.name != "nt" and not any(map(os.path.exists, GPU_FILES)):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
