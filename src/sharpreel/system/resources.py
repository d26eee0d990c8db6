"""What this process may use: processors, memory and instruction sets."""

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
NO_GPU = "--device cuda: torch finds no CUDA GPU. Use --device cpu."

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
    """What this processor can do, of that which matters here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return [platform.machine()]
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    have = set(match[1].split()) if match else set()
    return [name for name in INSTRUCTIONS if name in have] or [platform.machine()]


SHARE = 0.7  # of what is free that a network may take; decoder, encoder and others need some


def free_bytes() -> int | None:
    """Memory that this process can still get, in bytes; None where the system does not tell.

    Linux: what is available without swapping, and not more than the process's own limits and its
    container's leave.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    found = []
    try:
        with open("/proc/meminfo") as file:
            found += [
                int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable")
            ]
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    left = cgroups.free_bytes()
    if left is not None:
        found.append(left)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        found.append(max(limit - used, 0))
    return min(found, default=None)


def peak_memory_mb() -> int | None:
    """The most memory this process has held, in MiB; None where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:  # what `resource` says counts in the process that began this one
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / (1 << 10))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def usable_cpus() -> int:
    """Processors this process may use: its affinity, and the quota of its container."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = cgroups.processors()
    return count if quota is None else min(count, max(int(quota), 1))


def has_avx512() -> bool:
    """Does this processor have AVX-512, as NumPy found out when it was imported?"""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore
    except ImportError:  # NumPy 1
        from numpy.core._multiarray_umath import __cpu_features__ as features  # type: ignore
    return bool(features.get("AVX512F", False))


def cuda_available() -> bool:
    """Is there a GPU that torch can use? False without torch; torch is imported only here."""
    if os.name != "nt" and not any(map(os.path.exists, GPU_FILES)):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
