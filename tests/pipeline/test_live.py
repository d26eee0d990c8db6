"""live.py: sources without an end."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import sharpreel
from sharpreel.engines.base import Engine
from sharpreel.errors import UsageError
from sharpreel.ops import Pixels
from sharpreel.pipeline.live import upscale_live
from tests.support.videos import ffmpeg, make_clip


class Slow:
    """Stands in for an engine: a picture is its frame, after some time."""

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


def test_a_network_that_is_too_slow_leaves_frames_out_and_shows_the_newest() -> None:
    made = list(upscale_live(numbered(40, 0.01), engine=slow(0.05)))
    shown = [p.index for p in made]
    assert shown == sorted(shown)
    assert [int(p.pixels[0, 0, 0]) for p in made] == shown
    assert shown[-1] == 39
    assert made[-1].dropped == 40 - len(made) > 10


def test_a_picture_is_at_most_one_frame_older_than_the_network_needs() -> None:
    """However far behind the network is, what it takes next is what came last."""
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


def test_nothing_is_left_out_when_the_source_can_wait() -> None:
    made = list(upscale_live(numbered(12), engine=slow(0.005), drop=False))
    assert [p.index for p in made] == list(range(12))
    assert made[-1].dropped == 0


def test_a_picture_comes_before_the_next_frame_is_there() -> None:
    """Nothing looks ahead: a camera that sends one frame gets one picture."""
    given = threading.Semaphore(1)

    def camera() -> Iterator[Pixels]:
        for k in range(3):
            given.acquire()
            yield np.full((16, 16, 3), 50 * k, np.uint8)

    made = upscale_live(camera(), "bicubic", scale=2)
    for k in range(3):
        picture = next(made)
        assert (picture.index, picture.pixels.shape) == (k, (32, 32, 3))
        assert picture.latency >= 0
        given.release()


def test_the_pictures_are_those_of_upscale_frames() -> None:
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (4, 24, 32, 3), np.uint8))
    wanted = list(sharpreel.upscale_frames(frames, "reel-fast", scale=2))
    made = list(sharpreel.upscale_live(iter(frames), "reel-fast", scale=2, drop=False))
    np.testing.assert_array_equal([p.pixels for p in made], wanted)


def test_what_the_source_raises_is_raised_at_the_reader() -> None:
    def broken() -> Iterator[Pixels]:
        yield np.zeros((8, 8, 3), np.uint8)
        raise OSError("the camera was unplugged")

    made = upscale_live(broken(), engine=slow(), drop=False)
    next(made)
    with pytest.raises(OSError, match="unplugged"):
        next(made)
    with pytest.raises(ValueError, match="Frame 1 is uint8"):
        list(upscale_live([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)],
                               engine=slow(), drop=False))  # fmt: skip


def test_closing_stops_the_source() -> None:
    stopped = threading.Event()

    def endless() -> Iterator[Pixels]:
        try:
            while True:
                yield np.zeros((8, 8, 3), np.uint8)
        finally:
            stopped.set()

    made: Any = upscale_live(endless(), engine=slow())
    next(made)
    made.close()
    assert stopped.wait(10)


def test_a_network_that_looks_at_later_frames_is_refused() -> None:
    looks_ahead = Slow()
    looks_ahead.clip_len = 15
    with pytest.raises(UsageError, match="needs later frames"):
        upscale_live(numbered(1), engine=cast(Engine, looks_ahead))


# Through the command.


def test_each_frame_of_a_live_pipe_comes_out_before_the_next_goes_in(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=6, audio=False)  # 64x48
    stream = ffmpeg("-i", clip, "-f", "yuv4mpegpipe", "-")
    header, *frames = stream.split(b"FRAME\n")
    command = [sys.executable, "-m", "sharpreel", "upscale", "-", "-o", "-", "--live",
               "-m", "bicubic"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        one = len(b"FRAME\n") + 128 * 96 * 3 // 2
        process.stdin.write(header + b"".join(b"FRAME\n" + f for f in frames[:3]))
        process.stdin.flush()
        read_header = process.stdout.readline()
        assert read_header.startswith(b"YUV4MPEG2 W128 H96 ")
        seen = 0
        while seen < 3:  # repeats stand for frames that were left out while the command began
            assert len(process.stdout.read(one)) == one
            seen += 1
        for frame in frames[3:]:
            process.stdin.write(b"FRAME\n" + frame)
            process.stdin.flush()
            assert len(process.stdout.read(one)) == one
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


def test_a_file_stands_in_for_a_camera_at_its_own_pace(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=12, audio=False)
    command = [sys.executable, "-m", "sharpreel", "upscale", str(clip), "-o", "-", "--live",
               "-m", "bicubic"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert done.stdout.count(b"FRAME\n") == 12


def test_live_is_for_pipes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=2, audio=False)
    command = [sys.executable, "-m", "sharpreel", "upscale", str(clip), "--live"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120,
                          env={**os.environ, "COLUMNS": "200"})  # fmt: skip
    assert done.returncode == 2
    assert "--live is for pipes" in done.stderr


def test_frames_may_come_while_a_picture_is_handed_over() -> None:
    """A source that never rests, and threads that change places all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        frames = itertools.repeat(np.zeros((8, 8, 3), np.uint8), 20_000)
        made = list(upscale_live(frames, engine=slow()))
    finally:
        sys.setswitchinterval(before)
    assert made[-1].index == 19_999
    assert len(made) + made[-1].dropped == 20_000
