"""Chooses engine, device and precision for a network, and states why.

a GPU that PyTorch can use  -> PyTorch on it, in half precision where the output is the same
else a graph for OpenVINO   -> OpenVINO, in int8 where that was measured to be close enough
else                        -> PyTorch on the CPU
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from sharpreel.engines.base import Engine
from sharpreel.engines.openvino import OpenVinoEngine, openvino_core, validate_graph
from sharpreel.engines.pytorch import TorchEngine
from sharpreel.errors import DeviceError, MissingExtra, UsageError, WeightsError
from sharpreel.models.weights import Model
from sharpreel.system.resources import NO_GPU, cuda_available

PRECISIONS = ("auto", "float32", "float16", "int8")


def validate_choice(device: str, engine: str, precision: str = "auto") -> None:
    """Raise UsageError unless these are known and can be combined."""
    if precision not in PRECISIONS:
        raise UsageError(f"precision={precision!r} is not known; choose {', '.join(PRECISIONS)}.")
    if precision == "int8" and (device == "cuda" or engine == "torch"):
        raise UsageError("precision='int8' requires the CPU and OpenVINO.")
    if precision == "float16" and (device == "cpu" or engine == "openvino"):
        raise UsageError("precision='float16' is for GPUs: it is slower on a CPU.")
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device={device!r} is not known; choose auto, cpu or cuda.")
    if engine not in ("auto", "openvino", "torch"):
        raise UsageError(f"engine={engine!r} is not known; choose auto, openvino or torch.")
    if engine == "openvino" and device == "cuda":
        raise UsageError("engine='openvino' runs on the CPU; use engine='torch' for CUDA.")


@dataclass(frozen=True)
class EngineChoice:
    """What will run a network, and why. `engine` is "openvino" or "torch"."""

    engine: str
    device: str
    precision: str
    why: str


def engine_choice(
    model: Model, device: str = "auto", engine: str = "auto", precision: str = "auto"
) -> EngineChoice:
    """Choose the fastest engine for a network that does not change its output visibly.

    Nothing is loaded. Arguments and errors: see `choose_engine`.
    """
    validate_choice(device, engine, precision)
    if precision == "int8":
        device, engine = "cpu", "openvino"
    on_cuda = device == "cuda" or (device == "auto" and engine != "openvino" and cuda_available())
    if on_cuda:
        why = "a GPU is available, and half precision gives the same output where it is used"
        if precision == "float32" or device == "cuda":
            why = "requested"
        return EngineChoice("torch", "cuda", precision, why)
    if precision == "float16":
        raise DeviceError("precision='float16' is for GPUs, and PyTorch finds none.")
    if engine == "torch" or (engine == "auto" and not model.has_graph):
        why = "requested" if engine == "torch" else f"{model.name} has no graph for OpenVINO"
        return EngineChoice("torch", "cpu", "float32", why)
    if precision != "auto":
        return EngineChoice("openvino", "cpu", precision, "requested")
    reason = _reason_against_int8(model)
    if reason or model.int8 is None:
        return EngineChoice("openvino", "cpu", "float32", reason)
    loss = f"at most {loss_db(model.int8):.2f} dB below float32 on real clips, and faster"
    return EngineChoice("openvino", "cpu", "int8", loss)


def choose_engine(
    model: Model,
    device: str = "auto",
    engine: str = "auto",
    tile: int | None = None,
    max_memory: int | None = None,
    precision: str = "auto",
    threads: int | None = None,
) -> Engine:
    """Build the engine that `engine_choice` chooses.

    Args:
        device: "auto" (a GPU when PyTorch can use one), "cpu" or "cuda".
        engine: "auto", "openvino" or "torch".
        tile: Side of the tiles in lr pixels, 0 for whole frames, None to choose by memory.
        max_memory: Bytes that the network may use for one frame; None: most of what is free.
        precision: "float32", "float16" (GPU), "int8" (CPU) or "auto": int8 where the network has
            such a graph, which it has only when it was measured to be close enough
            (`training/quantize.py`), and on a GPU float16 where a trial shows the same output.
        threads: CPU threads, by default all this process may use. OpenVINO's output does not
            depend on them; the last bits of PyTorch's may.

    Raises:
        UsageError: No such engine, device or precision, or not for this network.
        DeviceError: The device does not exist.
    """
    chosen = engine_choice(model, device, engine, precision)
    if chosen.engine == "openvino":
        return OpenVinoEngine(model, threads, tile, max_memory, chosen.precision)
    return TorchEngine(
        model,
        chosen.device,
        tile=tile,
        max_memory=max_memory,
        precision=chosen.precision,
        threads=threads,
    )


def validate_engine(
    model: Model, device: str = "auto", engine: str = "auto", precision: str = "auto"
) -> None:
    """Raise what `choose_engine` would, without loading a network or a library."""
    chosen = engine_choice(model, device, engine, precision)
    if chosen.engine == "openvino":
        validate_graph(model, chosen.precision)
    elif importlib.util.find_spec("torch") is None:
        raise MissingExtra("engine='torch'", "torch")
    elif chosen.device == "cuda" and not cuda_available():
        raise DeviceError(NO_GPU)


def _reason_against_int8(model: Model) -> str:
    """Why OpenVINO does not run a network in int8; "" when it does."""
    if model.int8 is None:
        return "there is no int8 graph of this network"
    if "INT8" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "this CPU has no fast int8"
    return ""


def loss_db(graph: Path) -> float:
    """The largest mean loss against float32 that was measured when an int8 graph was built.

    It is at the end of the graph's file, which is searched as text: parsing the graph takes longer.

    Raises:
        WeightsError: The file does not contain it.
    """
    match = re.search(r'<loss_db value="([^"]*)"', graph.read_text())
    if match is None:
        raise WeightsError(f"{graph}: not an int8 graph of sharpreel; export it again.")
    return max(float(value) for value in match[1].split())
