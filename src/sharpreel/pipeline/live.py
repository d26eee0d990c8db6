"""Video without an end: the newest frame is enlarged, and those that came too late are left out.

    camera ──> newest ──> cue ──> network ──> picture
               one place; a frame that is still there when the next comes gives way to it

So a picture is never older than one frame more than the network needs, however slow that is. The
state of the network goes on over frames that were left out; only a scene cut resets it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sharpreel.engines.base import Engine
from sharpreel.errors import UsageError
from sharpreel.media.frame import Frame
from sharpreel.models import LIVE_MODEL
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.pipeline.stages import checked_frames, engine_for, run_network, single_segment
from sharpreel.system.prefetch import LatestOnly, prefetch


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """An enlarged frame.

    Attributes:
        index: Which frame of the source it was, from 0; a gap is frames that were left out.
        pixels: RGB (scale * H, scale * W, 3), of the frames' type.
        latency: Seconds from the frame's coming to its picture's being ready.
        dropped: Frames left out so far.
    """

    index: int
    pixels: Pixels
    latency: float
    dropped: int


def upscale_live(
    frames: Iterable[Pixels],
    model: str | Path | Model = LIVE_MODEL,
    *,
    scale: float | None = None,
    device: str = "auto",
    engine: str | Engine = "auto",
    drop: bool = True,
) -> Iterator[LiveFrame]:
    """Upscale frames of a source without an end, such as a camera, with bounded latency.

    Args:
        frames: As of `upscale_frames`; taken in a thread of its own, as fast as they come.
        model, scale, device, engine: As of `upscale_frames`.
        drop: Leave out frames that the network is too slow for. False: let the source wait.

    Yields:
        Pictures in order, each as soon as it is made. Closing the generator stops the source.

    Raises:
        UsageError: The network looks at later frames.
        ValueError: See `upscale_frames`.
    """
    engine = engine_for(model, scale, device, engine)
    validate_live(engine)
    return _pictures(frames, engine, drop)


def validate_live(engine: Engine) -> None:
    """Raise UsageError for an engine that cannot make a picture before later frames are there."""
    if engine.clip_len:
        raise UsageError(
            f"{engine.name}: this network looks at later frames, which a live source does not have "
            "yet. Choose reel-fast, reel or another that looks back only."
        )


def _pictures(frames: Iterable[Pixels], engine: Engine, drop: bool) -> Iterator[LiveFrame]:
    came: deque[tuple[int, float]] = deque()  # filled by the source's thread, emptied here

    def timed() -> Iterator[Frame]:
        for index, pixels in enumerate(checked_frames(frames)):
            came.append((index, time.monotonic()))
            yield Frame(pixels, index)

    latest = LatestOnly(timed()) if drop else None
    with closing(prefetch(timed(), 1) if latest is None else iter(latest)) as kept:
        for picture in run_network(single_segment(kept, engine), engine):
            index, at = came.popleft()
            while index < picture.lr.pts:  # left out
                index, at = came.popleft()
            latency = time.monotonic() - at
            dropped = 0 if latest is None else latest.dropped
            yield LiveFrame(index, picture.sr.pixels, latency, dropped)
