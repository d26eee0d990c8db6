"""Seams between segments and tiles."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest

from sharpreel.errors import UsageError
from sharpreel.evaluation.metrics.seams import Seams, seam_in_space, seam_in_time
from tests.support.photos import HR, PHOTO, noisy


def test_seam_positions_are_parsed_and_invalid_ones_are_rejected() -> None:
    seams = Seams.parse("t48+, x640,y9")
    assert seams.on("t", 145) == [48, 96]
    assert (seams.on("x", 1280), seams.on("y", 20)) == ([640], [9])
    for text in ("48", "t0", "z4", "t4,,x2", ""):
        with pytest.raises(UsageError, match="is not a position"):
            Seams.parse(text)


def test_a_seam_in_time_is_the_step_relative_to_its_neighbours() -> None:
    levels = [10, 12, 14, 16, 25, 27, 29, 31]  # a step of 9 among steps of 2
    frames = [np.full((4, 5, 3), level, np.uint8) for level in levels]
    assert seam_in_time(frames, 4) == 4.5
    assert seam_in_time(frames, 3, reach=2) == 1
    reference = [frame - np.uint8(9 * (t >= 4) + t) for t, frame in enumerate(frames)]
    assert seam_in_time(frames, 4, reference) == 10
    assert seam_in_time(frames, 4, frames) == 1  # a cut that is true
    still = frames[:1] * 4
    assert seam_in_time(still, 2) == 1
    assert seam_in_time(still[:2] + frames[1:2] * 2, 2) == math.inf
    for position in (0, 8):
        with pytest.raises(ValueError, match="no steps on it and around it in 8 frames"):
            seam_in_time(frames, position)
    with pytest.raises(ValueError, match="the same number of frames, got 8 and 4"):
        seam_in_time(frames, 4, still)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_seam_in_space_is_the_bend_relative_to_its_neighbours(
    axis: Literal[0, 1],
) -> None:
    for step, wanted in ((-3, 2.5), (3, 0.5)):  # a step on bends of 2: with or against the grain
        line = np.full(30, 60, np.uint8)
        line[::2] += 1
        line[15:] += np.uint8(step % 256)
        shape = (30, 1, 1) if axis == 0 else (1, 30, 1)
        frame = np.broadcast_to(line.reshape(shape), (30, 30, 3))
        assert seam_in_space(frame, 15, axis) == wanted
        assert seam_in_space(frame, 15, axis, frame) == 1


def test_a_photograph_has_no_seam_until_one_half_is_made_brighter() -> None:
    usual = [seam_in_space(PHOTO, p, 1) for p in range(16, 496, 4)]
    assert np.median(usual) == pytest.approx(1, abs=0.1)
    sr = np.minimum(PHOTO, 250)
    sr[:, 256:] += 4
    assert seam_in_space(sr, 256, 1) > seam_in_space(PHOTO, 256, 1)
    assert seam_in_space(sr, 256, 1, np.minimum(PHOTO, 250)) == math.inf
    assert seam_in_space(noisy(sr, 2), 256, 1, np.minimum(PHOTO, 250)) > 1.2


def test_impossible_seam_positions_are_rejected() -> None:
    for position in (1, 119):
        with pytest.raises(ValueError, match="not inside 120 lines: 2 to 118"):
            seam_in_space(HR, position, 0)
    with pytest.raises(ValueError, match="no line beside"):
        seam_in_space(HR[:4], 2, 0)
    with pytest.raises(ValueError, match="axis must be 0"):
        seam_in_space(HR, 60, 2)  # type: ignore[arg-type]
