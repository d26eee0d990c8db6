"""What this installation has, for `sharpreel doctor` and for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from sharpreel._version import __version__
from sharpreel.cli.console import Console
from sharpreel.cli.options import AsJson
from sharpreel.system.resources import instruction_sets


def doctor(as_json: AsJson = False) -> None:
    """Show what this installation has: versions, devices, codecs, instruction sets."""
    found = facts()
    console = Console(as_json, quiet=False)
    console.event("doctor", **found)
    for name, value in found.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        console.result(f"{name:<22} {words}")


PARTS = ("av", "numpy", "openvino", "safetensors", "torch")


def facts() -> dict[str, Any]:
    """Versions, devices, encoders and what the processor can do, in the order they are shown."""
    import av

    from sharpreel.engines import choose
    from sharpreel.engines.choose import engine_choice
    from sharpreel.media.encoders import CODECS
    from sharpreel.models import MODELS
    from sharpreel.models.weights import available_scales, load_model
    from sharpreel.system.resources import cuda_available, usable_cpus

    found: dict[str, Any] = {
        "sharpreel": __version__,
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
    found["processors"] = usable_cpus()
    found["instruction sets"] = instruction_sets()
    found["cuda"] = "yes" if cuda_available() else "no"
    found["encoders"] = [
        name for name, codec in CODECS.items() if codec.encoder in av.codecs_available
    ]
    found["models"] = [
        f"{name} {'/'.join(f'x{s}' for s in available_scales(name))}" for name in MODELS
    ]
    model = load_model()
    found["default engine"] = choose.choose_engine(model).name
    on_cpu = engine_choice(model, "cpu")
    found["precision on a CPU"] = f"{on_cpu.precision}: {on_cpu.why}"
    return found
