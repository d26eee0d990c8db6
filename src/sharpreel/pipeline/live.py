"""Endless video: the newest frame is upscaled, and frames that are too late are dropped.

    camera ──> LatestOnly ──> cue ──> network ──> frame
               one slot: a frame that still waits when the next arrives is dropped

So a frame is never older than one frame more than the network needs, however slow that is. The
network's state continues over dropped frames; only a scene cut resets it.
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
        index: Number of the source's frame, from 0; a gap means dropped frames.
        pixels: RGB (scale * H, scale * W, 3), of the frames' type.
        latency: Seconds from the arrival of the frame until its upscaled one is ready.
        dropped: Frames dropped so far.
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
    """Upscale frames of an endless source, such as a camera, with bounded latency.

    Args:
        frames: As for `upscale_frames`; read in a thread of its own, as fast as they arrive.
        model, scale, device, engine: As for `upscale_frames`.
        drop: Drop frames that the network is too slow for. False: let the source wait.

    Yields:
        Frames in order, each as soon as it is ready. Closing the generator stops the source.

    Raises:
        UsageError: The network needs later frames.
        ValueError: See `upscale_frames`.
    """
    engine = engine_for(model, scale, device, engine)
    validate_live(engine)
    return _live_frames(frames, engine, drop)


def validate_live(engine: Engine) -> None:
    """Raise UsageError for an engine that needs later frames for the present one."""
    if engine.clip_len:
        raise UsageError(
            f"{engine.name}: this network needs later frames, which a live source does not have "
            "yet. Choose reel-fast, reel or another causal network."
        )


def _live_frames(frames: Iterable[Pixels], engine: Engine, drop: bool) -> Iterator[LiveFrame]:
    arrivals: deque[tuple[int, float]] = deque()  # filled by the source's thread, emptied here

    def timed() -> Iterator[Frame]:
        for index, pixels in enumerate(checked_frames(frames)):
            arrivals.append((index, time.monotonic()))
            yield Frame(pixels, index)

    latest = LatestOnly(timed()) if drop else None
    with closing(prefetch(timed(), 1) if latest is None else iter(latest)) as kept:
        for upscaled in run_network(single_segment(kept, engine), engine):
            index, at = arrivals.popleft()
            while index < upscaled.lr.pts:  # dropped
                index, at = arrivals.popleft()
            latency = time.monotonic() - at
            dropped = 0 if latest is None else latest.dropped
            yield LiveFrame(index, upscaled.sr.pixels, latency, dropped)
