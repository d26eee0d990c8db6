"""The flicker loss counts change where the ground truth stands still, and nothing else."""

from __future__ import annotations

import pytest
import torch

from sharpreel.training.losses.temporal import flicker


def test_change_counts_where_the_ground_truth_stands_still() -> None:
    hr = torch.full((2, 3, 3, 8, 8), 0.5)
    hr[:, 1:, :, :, 4:] += 0.1  # the right half moves once, by more than the tolerance
    sr = hr.clone()
    assert flicker(sr, hr) == 0
    sr[:, 2, :, :, :4] += 0.2  # one of two steps, half of the frame
    assert flicker(sr, hr).item() == pytest.approx(0.2 / 4)
    sr = hr.clone()
    sr[:, 1, :, :, 4:] += 0.2  # the step that moves does not count, the one after it does
    assert flicker(sr, hr).item() == pytest.approx(0.2 / 4)


def test_one_frame_does_not_flicker_and_single_frames_are_rejected() -> None:
    one = torch.rand(2, 1, 3, 8, 8)
    assert flicker(one, one.flip(0)) == 0
    with pytest.raises(ValueError, match="clips"):
        flicker(one[:, 0], one[:, 0])
