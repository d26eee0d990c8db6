"""Scene cuts are found by the score of FFmpeg's scdet."""

from __future__ import annotations

import numpy as np
import pytest

from sharpreel.media.scene_cut import SceneCutDetector
from sharpreel.ops import Pixels


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
