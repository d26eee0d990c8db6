from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

import sharpreel
from sharpreel.engines.base import Engine
from sharpreel.errors import UsageError
from sharpreel.ops import Pixels
from sharpreel.pipeline.live import upscale_live


class Slow:
    """Stands in for an engine: returns the frame itself, after some time."""

    name, scale, clip_len, warm_up, tile = "slow", 1, 0, 0, 0

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.resets = seconds, 0

    def reset(self) -> None:
        self.resets += 1

    def run(self, frame: Pixels) -> Pixels:
        time.sleep(self.seconds)
        return frame


def slow(seconds: float = 0.0) -> Engine:
    return cast(Engine, Slow(seconds))


def numbered(count: int, pause: float = 0.0) -> Iterator[Pixels]:
    for k in range(count):
        time.sleep(pause)
        yield np.full((8, 8, 3), k, np.uint8)


def test_a_network_that_is_too_slow_drops_frames_and_takes_the_newest() -> None:
    results = list(upscale_live(numbered(40, 0.01), engine=slow(0.05)))
    shown = [p.index for p in results]
    assert shown == sorted(shown)
    assert [int(p.pixels[0, 0, 0]) for p in results] == shown
    assert shown[-1] == 39
    assert results[-1].dropped == 40 - len(results) > 10


def test_a_frame_is_at_most_one_frame_older_than_the_network_needs() -> None:
    """However late the network is, the frame it takes next is the newest."""
    behind = []

    def source() -> Iterator[Pixels]:
        for k, frame in enumerate(numbered(30, 0.01)):
            came.append(k)
            yield frame

    came: list[int] = []

    class Looks(Slow):
        def run(self, frame: Pixels) -> Pixels:
            behind.append(came[-1] - int(frame[0, 0, 0]))
            return super().run(frame)

    for _ in upscale_live(source(), engine=cast(Engine, Looks(0.04))):
        pass
    assert max(behind) <= 1


def test_nothing_is_dropped_when_the_source_can_wait() -> None:
    results = list(upscale_live(numbered(12), engine=slow(0.005), drop=False))
    assert [p.index for p in results] == list(range(12))
    assert results[-1].dropped == 0


def test_a_frame_is_upscaled_before_the_next_one_arrives() -> None:
    """Nothing looks ahead: a camera that sends one frame gets one frame."""
    given = threading.Semaphore(1)

    def camera() -> Iterator[Pixels]:
        for k in range(3):
            given.acquire()
            yield np.full((16, 16, 3), 50 * k, np.uint8)

    results = upscale_live(camera(), "bicubic", scale=2)
    for k in range(3):
        result = next(results)
        assert (result.index, result.pixels.shape) == (k, (32, 32, 3))
        assert result.latency >= 0
        given.release()


def test_the_frames_are_those_of_upscale_frames() -> None:
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (4, 24, 32, 3), np.uint8))
    wanted = list(sharpreel.upscale_frames(frames, "reel-fast", scale=2))
    results = list(sharpreel.upscale_live(iter(frames), "reel-fast", scale=2, drop=False))
    np.testing.assert_array_equal([p.pixels for p in results], wanted)


def test_an_error_of_the_source_is_raised_at_the_reader() -> None:
    def broken() -> Iterator[Pixels]:
        yield np.zeros((8, 8, 3), np.uint8)
        raise OSError("the camera was unplugged")

    results = upscale_live(broken(), engine=slow(), drop=False)
    next(results)
    with pytest.raises(OSError, match="unplugged"):
        next(results)
    frames = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)]
    with pytest.raises(ValueError, match="Frame 1 is uint8"):
        list(upscale_live(frames, engine=slow(), drop=False))


def test_closing_stops_the_source() -> None:
    stopped = threading.Event()

    def endless() -> Iterator[Pixels]:
        try:
            while True:
                yield np.zeros((8, 8, 3), np.uint8)
        finally:
            stopped.set()

    results: Any = upscale_live(endless(), engine=slow())
    next(results)
    results.close()
    assert stopped.wait(10)


def test_a_network_that_looks_at_later_frames_is_refused() -> None:
    looks_ahead = Slow()
    looks_ahead.clip_len = 15
    with pytest.raises(UsageError, match="needs later frames"):
        upscale_live(numbered(1), engine=cast(Engine, looks_ahead))


def test_frames_may_arrive_while_another_is_passed_on() -> None:
    """A source that never rests, and threads that change places all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        frames = itertools.repeat(np.zeros((8, 8, 3), np.uint8), 20_000)
        results = list(upscale_live(frames, engine=slow()))
    finally:
        sys.setswitchinterval(before)
    assert results[-1].index == 19_999
    assert len(results) + results[-1].dropped == 20_000
