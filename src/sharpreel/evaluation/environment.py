"""Record what the numbers of an evaluation depend on: versions, processors, GPU memory."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

from sharpreel._version import __version__
from sharpreel.system.resources import usable_cpus

PACKAGES = ("numpy", "av", "openvino", "torch", "opencv-python-headless", "imageio-ffmpeg")


def versions() -> dict[str, str]:
    """Versions of sharpreel, Python and the installed libraries; the system and its CPU count."""
    known = {"sharpreel": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    known["system"] = platform.platform()
    known["processors"] = str(usable_cpus())
    return known


def gpu_memory_mb(engines: Iterable[str]) -> int | None:
    """Peak memory of torch on the GPU in MiB; None if none of these engines used one."""
    if not any(name.startswith("torch-cuda") for name in engines):
        return None
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20)
