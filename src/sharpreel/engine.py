"""Runs a network on integer frames, carrying its state, as fast as the device allows.

Two engines, one contract: `OpenVinoEngine` runs saved graphs on a CPU and needs no torch;
`TorchEngine` runs any network on a CPU or a GPU and is the reference. Both take an RGB frame
(H, W, 3), uint8 or uint16, and return (sH, sW, 3) of the same type.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sharpreel import ops
from sharpreel.errors import DeviceError, MissingExtra, UsageError
from sharpreel.ops import Frame
from sharpreel.video import usable_cpus
from sharpreel.weights import Model

if TYPE_CHECKING:
    import openvino as ov
    from torch import Tensor, nn


class Engine(Protocol):
    """What `upscale.py` asks of an engine.

    Attributes:
        warm_up: Frames it must see before a frame, started anew, to make the same picture.
        clip_len: Frames it makes at once by `run_clip`; 0: one at a time by `run`, with a state.
        past, future: Neighbours that `run_clip` looks at beside the frames it makes.
    """

    name: str
    scale: float
    warm_up: int
    clip_len: int
    past: int
    future: int

    def reset(self) -> None:
        """Forget what was seen: the next frame begins a scene."""

    def run(self, frame: Frame) -> Frame:
        """(H, W, 3) -> (scale * H, scale * W, 3), same integer type; H and W stay the same."""

    def run_clip(self, frames: list[Frame], first: int, count: int) -> list[Frame]:
        """Enlarge frames[first : first + count]; the others are neighbours of the same scene."""


class OpenVinoEngine:
    """A saved graph on the CPU; bytes in, bytes out, conversions inside the graph.

    The graph is compiled once for each frame size and type, in about a tenth of a second.

    Args:
        threads: Processor threads, by default all this process may use.
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        if model.graph is None:
            raise UsageError(
                f"{model.name} has no saved graph; build one with `sharpreel export`, "
                "or use --engine torch."
            )
        self.name, self.scale, self.warm_up = "openvino", model.scale, model.spec.warm_up
        self.clip_len = self.past = self.future = 0
        self._graph, self._multiple = model.graph, model.spec.multiple_of
        self._recurrent = model.spec.recurrent is not None
        self._threads = threads or usable_cpus()
        self._shape: tuple[tuple[int, ...], Any] | None = None
        self._request: ov.InferRequest | None = None
        self._states: list[Any] = []
        self._fresh = True

    def reset(self) -> None:
        self._fresh = True

    def run(self, frame: Frame) -> Frame:
        import openvino as ov

        height, width = frame.shape[:2]
        frame = np.ascontiguousarray(ops.pad_to_multiple(frame, self._multiple))
        if (frame.shape, frame.dtype) != self._shape:
            self._compile(frame)
        request = self._request
        assert request is not None
        request.set_tensor("frame", ov.Tensor(frame[None], shared_memory=True))
        if self._recurrent:
            before, after = self._states
            if self._fresh:
                before.data[:] = 0
            request.set_tensor("state", before)
            request.set_tensor("state_out", after)
            request.set_tensor("fresh", ov.Tensor(np.array([self._fresh], np.float32)))
            self._states.reverse()
        self._fresh = False
        request.infer()
        sr: Frame = request.get_tensor("sr").data[0]
        return sr[: ops.enlarged(height, self.scale), : ops.enlarged(width, self.scale)].copy()

    def run_clip(self, frames: list[Frame], first: int, count: int) -> list[Frame]:
        """Saved graphs take one frame at a time."""
        raise NotImplementedError

    def _compile(self, frame: Frame) -> None:
        import openvino as ov

        core = ov.Core()
        graph = _with_integers(core.read_model(self._graph), frame)
        compiled = core.compile_model(
            graph,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self._threads,
                # Half precision is slower on most CPUs and would change the picture.
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self._request = compiled.create_infer_request()
        self._shape = (frame.shape, frame.dtype)
        if self._recurrent:
            shape = compiled.input("state").shape
            self._states = [ov.Tensor(np.zeros(shape, np.float32)) for _ in range(2)]
        self._fresh = True


def _with_integers(graph: ov.Model, frame: Frame) -> ov.Model:
    """The graph for one frame size, with integer NHWC pictures at both ends."""
    import openvino as ov
    from openvino import opset13 as op
    from openvino.preprocess import PrePostProcessor

    height, width, _ = frame.shape
    shapes: dict[str, Any] = {"frame": [1, 3, height, width]}
    ports = {name: port for port in graph.inputs for name in port.names}
    if "state" in ports:
        # The state's resolution follows the frame's, by the factor it has in the graph.
        fold = _state_fold(graph)
        channels = ports["state"].partial_shape[1].get_length()
        shapes["state"] = [1, channels, height // fold, width // fold]
    graph.reshape(shapes)
    top = float(np.iinfo(frame.dtype).max)
    kind = ov.Type.u8 if frame.dtype == np.uint8 else ov.Type.u16
    results = []
    for port in graph.outputs:
        names = port.names
        node = port.get_node().input_value(0)
        if "sr" in names:
            scaled = op.clamp(op.multiply(node, np.float32(top)), 0.0, top)
            rounded = op.convert(op.round(scaled, "half_to_even"), kind.to_string())
            node = op.transpose(rounded, np.array([0, 2, 3, 1])).output(0)
        result = op.result(node)
        result.output(0).set_names(names)
        results.append(result)
    graph = ov.Model(results, graph.get_parameters())
    steps = PrePostProcessor(graph)
    entry = steps.input("frame")
    entry.tensor().set_element_type(kind).set_layout(ov.Layout("NHWC"))
    entry.model().set_layout(ov.Layout("NCHW"))
    entry.preprocess().convert_element_type(ov.Type.f32).scale(top)
    return steps.build()


def _state_fold(graph: ov.Model) -> int:
    """By how much the state is smaller than the frame, read from the graph itself."""
    probe = graph.clone()
    for fold in (1, 2, 4, 8):
        try:
            channels = probe.input("state").partial_shape[1].get_length()
            probe.reshape(
                {
                    "frame": [1, 3, 64, 64],
                    "state": [1, channels, 64 // fold, 64 // fold],
                }
            )
        except RuntimeError:
            probe = graph.clone()
            continue
        shape = probe.output("state_out").partial_shape
        if shape[2].get_length() == 64 // fold:
            return fold
    raise UsageError("The graph's state does not follow its frame.")


class TorchEngine:
    """Any network of the table by torch, float32: on a CPU the reference, on a GPU the fast one.

    Args:
        module: The network, when it is not the one in the model's file (in training).

    Raises:
        MissingExtra: torch is not installed.
        DeviceError: CUDA is asked for and not there.
    """

    def __init__(self, model: Model, device: str = "cpu", module: nn.Module | None = None) -> None:
        try:
            import torch
        except ImportError as e:
            raise MissingExtra("The torch engine", "torch") from e
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("--device cuda: torch finds no CUDA GPU. Use --device cpu.")
        self.name, self.scale = f"torch-{device}", model.scale
        self._torch, self._device = torch, torch.device(device)
        spec = model.spec
        self._multiple, self._recurrent = spec.multiple_of, spec.recurrent
        self._module: Any = (module or model.module()).to(self._device)
        self.warm_up, self.clip_len = spec.warm_up, spec.clip_len
        self.past = self.future = spec.overlap
        if self._recurrent is None:
            self.past = getattr(self._module, "past", 0)
            self.future = getattr(self._module, "future", 0)
            self.clip_len = 1 if self.past or self.future else 0
        if device == "cpu":
            torch.set_num_threads(usable_cpus())
        self._state: Any = None

    def reset(self) -> None:
        self._state = None

    def run(self, frame: Frame) -> Frame:
        def one(lr: Tensor) -> Tensor:
            if self._recurrent is None:
                sr: Tensor = self._module(lr[:, None])[:, 0]
                return sr
            if self._state is None:
                self._state = self._module.zero_state(lr)
            sr, self._state = self._module.step(lr, self._state)
            return sr

        return self._on_pictures([frame], lambda clip: one(clip[:, 0])[:, None])[0]

    def run_clip(self, frames: list[Frame], first: int, count: int) -> list[Frame]:
        def whole(clip: Tensor) -> Tensor:
            sr: Tensor = self._module(clip)[:, first : first + count]
            return sr

        def windows(clip: Tensor) -> Tensor:
            made = []
            for k in range(first, first + count):
                near = range(k - self.past, k + self.future + 1)
                # A neighbour behind the scene's end is the frame itself.
                window = clip[:, [j if 0 <= j < len(frames) else k for j in near]]
                made.append(self._module.centre(window))
            stacked: Tensor = self._torch.stack(made, dim=1)
            return stacked

        return self._on_pictures(frames, windows if self._recurrent is None else whole)

    def _on_pictures(self, frames: list[Frame], network: Callable[[Tensor], Tensor]) -> list[Frame]:
        """Integer frames -> float clip (1, T, 3, H, W) -> network -> integer frames."""
        torch = self._torch
        height, width = frames[0].shape[:2]
        top = float(np.iinfo(frames[0].dtype).max)
        padded = np.stack([ops.pad_to_multiple(f, self._multiple) for f in frames])
        try:
            with torch.inference_mode():
                clip = torch.from_numpy(padded.astype(np.float32)).to(self._device)
                sr = network((clip / top).permute(0, 3, 1, 2)[None])
                sr = (sr[0].permute(0, 2, 3, 1) * top).clamp(0, top).round()
                pictures = sr.cpu().numpy().astype(frames[0].dtype)
        except torch.OutOfMemoryError as e:
            raise DeviceError(
                f"The GPU ran out of memory at {width}x{height}; use --device cpu."
            ) from e
        high, wide = ops.enlarged(height, self.scale), ops.enlarged(width, self.scale)
        return [p[:high, :wide] for p in pictures]


def cuda_available() -> bool:
    """Is there a GPU that torch can use? False without torch; torch is imported only here."""
    if not Path("/dev/nvidiactl").exists() and os.name != "nt":
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def check_choice(device: str, engine: str) -> None:
    """Raise UsageError unless there are such a device and engine and they go together."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device} is not known; choose auto, cpu or cuda.")
    if engine not in ("auto", "openvino", "torch"):
        raise UsageError(f"--engine {engine} is not known; choose auto, openvino or torch.")
    if engine == "openvino" and device == "cuda":
        raise UsageError("--engine openvino runs on the CPU; use --engine torch for CUDA.")


def choose_engine(model: Model, device: str = "auto", engine: str = "auto") -> Engine:
    """The fastest engine for a network on a device.

    Args:
        device: "auto" (a GPU when torch and one are there), "cpu" or "cuda".
        engine: "auto", "openvino" or "torch".

    Raises:
        UsageError: No such engine or device, or not for this network.
        DeviceError: The device is not there.
    """
    check_choice(device, engine)
    if engine == "openvino":
        return OpenVinoEngine(model)
    if device == "cuda" or (device == "auto" and cuda_available()):
        return TorchEngine(model, "cuda")
    if engine == "torch" or model.graph is None:
        return TorchEngine(model, "cpu")
    return OpenVinoEngine(model)
