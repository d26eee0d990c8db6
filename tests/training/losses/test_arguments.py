"""Shapes and types that every loss refuses."""

from __future__ import annotations

import pytest
import torch

from sharpreel.training.losses.pixel import (
    pixel_loss,
)
from tests.support.losses import rand
from tests.training.losses.test_pixel import REFERENCES


@pytest.mark.parametrize("name", REFERENCES)
def test_frames_of_two_shapes_are_refused_not_broadcast(name: str) -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(1, 3, 8, 8\) and \(2, 3, 8, 8\)"):
        pixel_loss(name)(rand(1, 3, 8, 8), rand(2, 3, 8, 8))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_frame_without_its_batch_or_in_integers_is_refused(name: str) -> None:
    loss = pixel_loss(name)
    with pytest.raises(ValueError, match=r"sr must be floats .* got torch.float64 of shape \(3, 8"):
        loss(rand(3, 8, 8), rand(3, 8, 8))
    integers = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"sr must be floats .* got torch.uint8"):
        loss(integers, integers)
