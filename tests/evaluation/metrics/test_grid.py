"""grid.py: the number rises with a codec's blocks and does not see what is not a grid."""

from __future__ import annotations

import numpy as np
import pytest

from sharpreel import ops
from sharpreel.data.degrade import realworld
from sharpreel.evaluation.metrics.grid import grid_visibility
from tests.support.degradations import scene


def test_steps_at_block_edges_are_seen_and_a_shifted_grid_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4, (128, 128, 1))
    blocks = np.kron(rng.integers(90, 160, (16, 16, 1)), np.ones((8, 8, 1), int))
    frame = np.repeat(blocks + noise, 3, axis=2).astype(np.uint8)
    assert grid_visibility(frame) > 5
    shifted = np.roll(frame, (4, 4), (0, 1))
    assert grid_visibility(shifted) < 0.2


def test_noise_has_no_grid() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    assert grid_visibility(frame) == pytest.approx(1, abs=0.05)


def test_worse_mpeg4_has_a_more_visible_grid_after_enlarging() -> None:
    hr = scene(6, 256, 384)
    found = []
    for quantiser in (2, 12):
        condition = realworld.Condition("area", (realworld.mpeg4(quantiser),))
        lr = realworld.apply(hr, 2, condition)
        sr = [ops.resize(frame, 256, 384) for frame in lr]
        found.append(np.mean([grid_visibility(frame, 2) for frame in sr]))
    assert found[1] > found[0] + 0.05


def test_a_flat_frame_has_no_number() -> None:
    assert np.isnan(grid_visibility(np.full((64, 64, 3), 90, np.uint8)))
