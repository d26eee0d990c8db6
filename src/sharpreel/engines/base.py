"""The contract of an engine."""

from __future__ import annotations

from typing import Protocol

from sharpreel.ops import Pixels


class Engine(Protocol):
    """What `upscale.py` asks of an engine.

    Attributes:
        warm_up: Frames it must see before a frame, started anew, to make the same picture.
        clip_len: Frames it makes at once by `run_clip`; 0: one at a time by `run`, with a state.
        past, future: Neighbours that `run_clip` looks at beside the frames it makes.
        tile: Side in lr pixels of the tiles that frames are cut to, 0 for whole frames, None
            while that is not decided. It may shrink on the way, when memory does not suffice.
        sharers: Processes that share the device's memory; each takes its part.
    """

    name: str
    scale: float
    warm_up: int
    clip_len: int
    past: int
    future: int
    tile: int | None
    sharers: int

    def reset(self) -> None:
        """Forget what was seen: the next frame begins a scene."""

    def fit(self, height: int, width: int) -> None:
        """Decide the tile for frames of this size, where that is not done, and run nothing."""

    def run(self, frame: Pixels) -> Pixels:
        """(H, W, 3) -> (scale * H, scale * W, 3), same integer type; H and W stay the same."""

    def run_clip(self, frames: list[Pixels], first: int, count: int) -> list[Pixels]:
        """Enlarge frames[first : first + count]; the others are neighbours of the same scene."""
