"""Scene cuts are found by the score of FFmpeg's scdet."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from sharpreel.media.scene_cut import SceneCutDetector
from tests.support.photographs import ASTRONAUT, CAT, COFFEE, pan, still
from tests.support.videos import Pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_jump_in_brightness_is_a_cut_and_the_first_frame_is_not(dtype: type) -> None:
    top = np.iinfo(dtype).max
    dark: Pixels = np.full((16, 16, 3), top // 10, dtype)
    bright: Pixels = np.full((16, 16, 3), top // 2, dtype)
    detector = SceneCutDetector()
    assert [detector(f) for f in (dark, dark, bright, bright)] == [False, False, True, False]


def test_a_threshold_above_the_change_finds_no_cut() -> None:
    dark, bright = (np.full((16, 16, 3), level, np.uint8) for level in (0, 100))  # 39 %
    for threshold, is_cut in ((39.0, True), (39.5, False)):
        detector = SceneCutDetector(threshold)
        detector(dark)
        assert detector(bright) is is_cut


def test_steady_change_is_not_a_cut() -> None:
    detector = SceneCutDetector()
    frames = [np.full((16, 16, 3), 40 * k, np.uint8) for k in range(6)]  # 16 % a frame
    assert [detector(f) for f in frames][2:] == [False] * 4


def cuts_in(frames: Iterable[Pixels]) -> list[int]:
    find_cut = SceneCutDetector()
    return [index for index, pixels in enumerate(frames) if find_cut(pixels)]


def test_a_hard_cut_between_different_photographs_is_found() -> None:
    frames = [*still(ASTRONAUT, 7), *still(COFFEE, 5), *still(CAT, 6)]
    assert cuts_in(frames) == [7, 12]


def test_a_cut_inside_motion_is_found() -> None:
    assert cuts_in([*pan(ASTRONAUT, 10, 3), *pan(COFFEE, 10, 3)]) == [10]


def test_sixteen_bit_frames_are_cut_where_eight_bit_ones_are() -> None:
    frames = [*pan(ASTRONAUT, 6, 2), *pan(CAT, 6, 2)]
    deep = [p.astype(np.uint16) * 257 for p in frames]
    assert cuts_in(deep) == cuts_in(frames) == [6]


@pytest.mark.parametrize("speed", [1, 3, 8])
def test_a_steady_pan_is_one_scene(speed: int) -> None:
    assert cuts_in(pan(ASTRONAUT, 20, speed)) == []


def test_a_fade_to_another_photograph_is_one_scene() -> None:
    a, b = still(ASTRONAUT, 1)[0], still(COFFEE, 1)[0]
    share = np.linspace(0, 1, 25)
    assert cuts_in([np.rint(a * (1 - s) + b * s).astype(np.uint8) for s in share]) == []


def test_the_first_frame_is_not_a_cut() -> None:
    assert not SceneCutDetector()(still(CAT, 1)[0])
