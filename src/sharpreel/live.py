"""Video without an end: the newest frame is enlarged, and those that came too late are left out.

    camera ──> newest ──> cue ──> network ──> picture
               one place; a frame that is still there when the next comes gives way to it

So a picture is never older than one frame more than the network needs, however slow that is. The
state of the network goes on over frames that were left out; only a scene cut resets it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sharpreel.engine import Engine
from sharpreel.errors import UsageError
from sharpreel.models import LIVE_MODEL
from sharpreel.ops import Frame as Pixels
from sharpreel.upscale import checked, endless, engine_for, sharpen
from sharpreel.video import Frame
from sharpreel.weights import Model

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LivePicture:
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
) -> Iterator[LivePicture]:
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
    check_live(engine)
    return _pictures(frames, engine, drop)


def check_live(engine: Engine) -> None:
    """Raise UsageError for an engine that cannot make a picture before later frames are there."""
    if engine.clip_len:
        raise UsageError(
            f"{engine.name}: this network looks at later frames, which a live source does not have "
            "yet. Choose reel-fast, reel or another that looks back only."
        )


def _pictures(frames: Iterable[Pixels], engine: Engine, drop: bool) -> Iterator[LivePicture]:
    came: deque[tuple[int, float]] = deque()  # filled by the source's thread, emptied here

    def timed() -> Iterator[Frame]:
        for index, pixels in enumerate(checked(frames)):
            came.append((index, time.monotonic()))
            yield Frame(pixels, index)

    waiting = Newest(timed(), drop)
    with closing(iter(waiting)) as kept:
        for picture in sharpen(endless(kept, engine), engine):
            index, at = came.popleft()
            while index < picture.lr.pts:  # left out
                index, at = came.popleft()
            latency = time.monotonic() - at
            yield LivePicture(index, picture.sr.pixels, latency, waiting.dropped)


class Newest(Generic[T]):
    """The items of a source that runs in a thread of its own, without those nobody was ready for.

    Args:
        items: The source. What it raises is raised at the reader.
        drop: An item that waits gives way to the next, but for the first, from which time counts.
            False: the source waits instead.

    Attributes:
        dropped: Items that gave way so far.
    """

    def __init__(self, items: Iterable[T], drop: bool = True) -> None:
        self._items, self._drop = items, drop
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._ended: BaseException | bool = False
        self._begun = self._stopped = False
        self.dropped = 0

    def _produce(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._offer(item):
                    return
            self._end(True)
        except BaseException as e:
            self._end(e)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _offer(self, item: T) -> bool:
        """Put the item into the one place; False when nobody reads any more."""
        with self._changed:
            if not self._drop or not self._begun:
                self._changed.wait_for(lambda: self._stopped or not self._waiting)
            if self._stopped:
                return False
            self.dropped += len(self._waiting)
            self._waiting = [item]
            self._changed.notify_all()
            return True

    def _end(self, how: BaseException | bool) -> None:
        with self._changed:
            self._ended = how
            self._changed.notify_all()

    def __iter__(self) -> Generator[T]:
        """The items; for one reader. The source's thread stops at its next item after a close."""
        threading.Thread(target=self._produce, daemon=True).start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ended)
                    if not self._waiting:
                        if isinstance(self._ended, BaseException):
                            raise self._ended
                        return
                    item = self._waiting.pop()
                    self._begun = True
                    self._changed.notify_all()
                yield item
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
