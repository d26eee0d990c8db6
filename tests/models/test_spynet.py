"""SPyNet: flow of any size, in both directions of a clip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpreel.models import spynet
from sharpreel.models.spynet import SPyNet
from tests.support.networks import (
    moving_clip,
    numbered,
    published_spynet,
    shuffled,
)

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_spynet_flow_has_the_size_of_the_frame_and_its_pixels() -> None:
    """With all convolutions zero but the last bias, each level adds one, twice the one before."""
    net = SPyNet()
    for parameter in net.parameters():
        parameter.zero_()
    for level in net.basic_module:
        level.basic_module[8].bias[:] = torch.tensor([1.0, -1.0])  # type: ignore[union-attr, index]
    flow = net(torch.rand(1, 3, 48, 70), torch.rand(1, 3, 48, 70))
    assert flow.shape == (1, 2, 48, 70)
    torch.testing.assert_close(flow[0, 0], torch.full((48, 70), 63 * 70 / 96), atol=1e-3, rtol=0)
    torch.testing.assert_close(flow[0, 1], torch.full((48, 70), -63 * 48 / 64), atol=1e-3, rtol=0)


def test_spynet_warps_its_second_frame_towards_its_first() -> None:
    """With one level left that reads reference minus warped: zero for a shift in its input."""
    net = SPyNet()
    for parameter in net.parameters():
        parameter.zero_()
    # The level above the last adds "two pixels right" of its own, four of the last level's.
    net.basic_module[4].basic_module[8].bias[:] = torch.tensor([2.0, 0.0])  # type: ignore[index, union-attr]
    last = net.basic_module[5].basic_module
    assert isinstance(last, nn.Sequential)
    for layer in (0, 2, 4, 6, 8):
        conv = last[layer]
        assert isinstance(conv, nn.Conv2d)
        conv.weight[0, 0, 3, 3] = 1
    first = last[0]
    assert isinstance(first, nn.Conv2d)
    first.weight[0, 3, 3, 3] = -1  # ReLU(red of the reference - red of the warped neighbour)
    a = torch.rand(1, 3, 64, 64)
    b = torch.rand(1, 3, 64, 64)
    b[..., 4:] = a[..., :-4]  # what is at x in a is at x + 4 in b
    flow = net(a, b)
    torch.testing.assert_close(flow[0, 0, :, :60], torch.full((64, 60), 4.0), atol=1e-3, rtol=0)
    assert (net(b, a)[0, 0] - 4).abs().max() > 0.5


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (32, 32)])
def test_spynet_accepts_small_frames(size: tuple[int, int]) -> None:
    flow = SPyNet()(torch.rand(1, 3, *size), torch.rand(1, 3, *size))
    assert flow.shape == (1, 2, *size)
    assert torch.isfinite(flow).all()


def test_flows_along_a_clip_are_those_of_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    net, clip = shuffled(SPyNet()), moving_clip(t=4, n=2)
    monkeypatch.setattr(spynet, "PIXELS_AT_ONCE", 4 * 24 * 32)  # batches of four, of six pairs
    to_next, to_previous = net.along(clip)  # type: ignore[operator]
    assert to_next.shape == to_previous.shape == (2, 3, 2, 24, 32)
    for i in range(3):
        ahead, back = net(clip[:, i], clip[:, i + 1]), net(clip[:, i + 1], clip[:, i])
        torch.testing.assert_close(to_next[:, i], ahead, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(to_previous[:, i], back, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(to_next, to_previous, atol=1e-2)


def test_a_mirrored_clip_needs_half_the_flows() -> None:
    net = shuffled(SPyNet())
    clip = moving_clip(t=2)
    mirrored = torch.cat([clip, clip.flip(1)], dim=1)
    to_next, to_previous = net.along(mirrored)  # type: ignore[operator]
    assert torch.equal(to_previous, to_next.flip(1))
    for i in range(3):
        back = net(mirrored[:, i + 1], mirrored[:, i])
        torch.testing.assert_close(to_previous[:, i], back, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mm", [False, True])
def test_spynet_files_load_without_the_numbers_they_lack(mm: bool) -> None:
    found = spynet.recognise(numbered(published_spynet("", mm)))
    assert found is not None
    net = SPyNet()
    net.load_state_dict(found[1])
    torch.testing.assert_close(net.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
