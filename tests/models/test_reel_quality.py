"""ReelQuality: bidirectional, and started from a Reel."""

from __future__ import annotations

import pytest
import torch

from sharpreel.models.reel_quality import ReelQuality
from sharpreel.models.weights import load_model


def lively(network: ReelQuality) -> ReelQuality:
    """One whose output depends on its weights, as a new one's does not."""
    torch.manual_seed(0)
    torch.nn.init.normal_(network.forth.tail.weight, std=0.05)
    return network


def test_reel_quality_starts_with_the_output_of_its_reel() -> None:
    reel = load_model("reel", 4).module()
    for blocks in (6, 9):
        network = ReelQuality(4, 64, blocks)
        network.load_state_dict(network.begin_with(reel.state_dict()))
        clip = torch.rand(1, 4, 3, 10, 12)
        with torch.no_grad():
            torch.testing.assert_close(network(clip), reel(clip)[0])


@pytest.mark.parametrize(("scale", "channels", "blocks"), [(2, 64, 9), (4, 32, 9), (4, 64, 5)])
def test_reel_quality_does_not_start_from_weights_that_do_not_fit(
    scale: int, channels: int, blocks: int
) -> None:
    reel = load_model("reel", 4).module()
    assert ReelQuality(scale, channels, blocks).begin_with(reel.state_dict()) == {}


def test_reel_quality_looks_in_both_directions_of_time() -> None:
    network = lively(ReelQuality(4, 8, 1))
    clip = torch.rand(1, 5, 3, 8, 8)
    with torch.no_grad():
        sr = network(clip)
        for changed in (0, 4):
            other = clip.clone()
            other[:, changed] = 0
            assert ((network(other) - sr).abs().amax((0, 2, 3, 4)) > 0).all()


def test_reel_quality_makes_a_clip_of_one_frame_and_teaches_every_weight() -> None:
    network = lively(ReelQuality(4, 8, 2))
    clip = torch.rand(1, 1, 3, 8, 8)
    network(clip).mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    network.zero_grad()
    network(torch.rand(2, 3, 3, 8, 8)).square().mean().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in network.parameters() if p.grad is not None)
