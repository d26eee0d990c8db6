"""The contract of an engine: what the pipeline requires of whatever runs a network."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from sharpreel.ops import Pixels


class EngineKind(NamedTuple):
    """What an engine runs on. `name` is what journals, reports and users see."""

    library: Literal["openvino", "torch"]
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "float16", "int8"] = "float32"

    @property
    def name(self) -> str:
        """Such as "openvino", "openvino-int8", "torch-cpu" or "torch-cuda-float16"."""
        parts = [self.library] if self.library == "openvino" else [self.library, self.device]
        return "-".join([*parts, self.precision] if self.precision != "float32" else parts)

    @classmethod
    def parse(cls, name: str) -> EngineKind:
        """The kind with this `name`, as a journal stores it; what follows it is ignored."""
        parts = name.split("-")
        return cls(
            "torch" if "torch" in parts else "openvino",
            "cuda" if "cuda" in parts else "cpu",
            "int8" if "int8" in parts else "float16" if "float16" in parts else "float32",
        )


class Engine(Protocol):
    """Runs a network on integer frames.

    Attributes:
        kind: Library, device and precision.
        name: `kind.name`.
        scale: Output pixels per input pixel, along each axis.
        warm_up: Frames that a reset engine must see before a frame to produce the same output.
        clip_len: Frames that one `run_clip` produces; 0: the engine takes one frame at a time by
            `run`, and keeps a state.
        past, future: Neighbours that `run_clip` needs beside the frames it produces.
        tile: Side in lr pixels of the tiles that frames are cut into, 0 for whole frames, None
            until that is decided. It may shrink during a run, when memory does not suffice.
        sharers: Number of processes that share the device's memory; each uses its part.
    """

    kind: EngineKind
    scale: float
    warm_up: int
    clip_len: int
    past: int
    future: int
    tile: int | None
    sharers: int

    @property
    def name(self) -> str: ...

    def reset(self) -> None:
        """Clear the state: the next frame begins a scene."""

    def fit(self, height: int, width: int) -> None:
        """Decide the tile for frames of this size if that is open; nothing is run."""

    def run(self, frame: Pixels) -> Pixels:
        """(H, W, 3) -> (scale * H, scale * W, 3), same integer type; H and W stay the same."""

    def run_clip(self, frames: list[Pixels], first: int, count: int) -> list[Pixels]:
        """Upscale frames[first : first + count]; the others are neighbours of the same scene."""
