"""What this installation has, for `sharpreel doctor` and for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import sharpreel

PARTS = ("av", "numpy", "openvino", "safetensors", "torch")
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


def facts() -> dict[str, Any]:
    """Versions, devices, encoders and what the processor can do, in the order they are shown."""
    import av

    from sharpreel import engine, video, weights
    from sharpreel.models import MODELS

    found: dict[str, Any] = {
        "sharpreel": sharpreel.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for part in PARTS:
        try:
            found[part] = importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            found[part] = "not installed" if part != "torch" else "not installed (optional)"
    found["ffmpeg"] = ", ".join(
        f"{name} {'.'.join(map(str, version))}" for name, version in av.library_versions.items()
    )
    found["processors"] = video.usable_cpus()
    found["instruction sets"] = instruction_sets()
    found["cuda"] = "yes" if engine.cuda_available() else "no"
    found["encoders"] = [
        name for name, codec in video.CODECS.items() if codec.encoder in av.codecs_available
    ]
    found["models"] = [
        f"{name} {'/'.join(f'x{s}' for s in weights.available_scales(name))}" for name in MODELS
    ]
    model = weights.load_model()
    found["default engine"] = engine.choose_engine(model).name
    on_cpu = engine.choose(model, "cpu")
    found["precision on a CPU"] = f"{on_cpu.precision}: {on_cpu.why}"
    return found


def instruction_sets() -> list[str]:
    """What this processor can do, of that which matters here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return [platform.machine()]
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    have = set(match[1].split()) if match else set()
    return [name for name in INSTRUCTIONS if name in have] or [platform.machine()]
