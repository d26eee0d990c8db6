"""Which stretches of a video are rejected, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel import ops
from sharpreel.data.clip_quality import (
    HarvestSettings,
    blockiness,
    combing,
    detail,
    difference,
    jump,
)
from tests.support.footage import SIZE, dark, faint, pan, reports_of, video
from tests.support.videos import Pixels

Maker = Callable[[int], Iterable[Pixels]]


def still(frames: int) -> Iterator[Pixels]:
    """Nearly nothing moves: the brightness breathes by half a level."""
    first = next(pan(1)).astype(np.float64)
    for t in range(frames):
        yield np.rint(first + 0.3 * (t % 3) - 0.3).astype(np.uint8)


def blurred(frames: int) -> Iterator[Pixels]:
    for frame in pan(frames, step=4, size=(384, 256)):
        small = ops.resize(frame, 10, 15)
        yield ops.resize(small, SIZE[1], SIZE[0])


def blocky(frames: int) -> Iterator[Pixels]:
    for frame in pan(frames):
        squares = frame.reshape(SIZE[1] // 8, 8, SIZE[0] // 8, 8, 3).mean((1, 3))
        mean = squares.repeat(8, 0).repeat(8, 1)
        yield np.rint(mean + 0.4 * (frame - mean)).astype(np.uint8)


def flat(frames: int) -> Iterator[Pixels]:
    return ((120 + frame // 16).astype(np.uint8) for frame in pan(frames))


def combed(frames: int) -> Iterator[Pixels]:
    whole = list(faint(pan(2 * frames)))
    for first, second in zip(whole[::2], whole[1::2], strict=True):
        woven = first.copy()
        woven[1::2] = second[1::2]
        yield woven


def flashing(frames: int) -> Iterator[Pixels]:
    """A short flash in each five frames that is too weak to look like a cut."""
    for t, frame in enumerate(pan(frames, step=1)):
        yield (100 + frame // 4 + (14 if t % 5 == 2 else 0)).astype(np.uint8)


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("static", still),
        ("blurred", blurred),
        ("blocky", blocky),
        ("dark", dark),
        ("flat", flat),
        ("combed", combed),
        ("jump", flashing),
    ],
)
def test_a_bad_stretch_is_rejected_with_a_reason(reason: str, make: Maker, tmp_path: Path) -> None:
    settings = HarvestSettings(clip_len=5, height=64, repeat_below=0.0)
    source = video(tmp_path / "bad.mkv", make(10))
    rows, (report,) = reports_of([source], tmp_path / "out", settings)
    assert rows == []
    assert report.rejected == {reason: 2}
    assert (report.windows, report.clips, report.problem) == (2, 0, "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_len": 1}, "clip_len must be 2 or more"),
        ({"per_video": 0}, "per_video 1 or more"),
        ({"height": 63}, "height must be even"),
        ({"least_shrink": 0.5}, "least_shrink must be 1 or more"),
    ],
)
def test_invalid_settings_are_rejected(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HarvestSettings(**settings)


def test_blockiness_is_1_without_blocks_and_grows_with_steps_at_multiples_of_8() -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(100, 120, (64, 96))
    assert blockiness(noise) == pytest.approx(1, abs=0.1)
    assert blockiness(np.full((64, 96), 50.0)) == 1
    blocks = rng.uniform(60, 180, (8, 12)).repeat(8, 0).repeat(8, 1)
    assert blockiness(noise + blocks) > 3
    assert blockiness(np.roll(noise + blocks, 4, (0, 1))) < 1


def test_combing_counts_alternating_lines_and_not_alternating_columns() -> None:
    flat_luma = np.full((48, 64), 100.0)
    assert combing(flat_luma) == 0
    woven = flat_luma.copy()
    woven[1::2] += 20
    assert combing(woven) == 100
    assert combing(woven.T) == 0


def test_detail_is_the_loss_of_downscaling() -> None:
    rng = np.random.default_rng(1)
    assert detail(np.full((32, 32), 90.0)) == 0
    sharp = rng.uniform(30, 220, (64, 64))
    smooth = rng.uniform(30, 220, (4, 4)).repeat(16, 0).repeat(16, 1)
    assert detail(sharp) > 5 * detail(smooth)


def test_a_jump_is_a_step_far_above_its_neighbours() -> None:
    assert jump([2.0] * 9) == 1
    assert jump([2.0, 2.0, 2.0, 20.0, 2.0, 2.0, 2.0]) == 10
    assert jump([0.1, 0.1, 0.1, 4.0, 0.1, 0.1]) == 1  # too small to be seen
    assert jump([0.1, 0.1, 20.0, 21.0, 20.0, 19.0]) < 2  # the camera starts to move


def test_difference_is_in_8_bit_levels_at_any_depth() -> None:
    a = np.full((8, 8, 3), 100, np.uint8)
    b = np.full((8, 8, 3), 103, np.uint8)
    assert difference(a, b) == pytest.approx(3)
    deep_a, deep_b = (frame.astype(np.uint16) * np.uint16(257) for frame in (a, b))
    assert difference(deep_a, deep_b) == pytest.approx(3)
