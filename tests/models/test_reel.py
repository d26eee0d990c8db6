"""Reel: causal, bounded, and bicubic before training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sharpreel import ops
from sharpreel.models import DEFAULT_MODEL
from sharpreel.models.reel import Bicubic, Reel
from sharpreel.models.weights import load_model


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_is_the_imresize_of_ops(scale: int) -> None:
    frame = torch.rand(1, 1, 3, 9, 11)
    sr = Bicubic(scale)(frame)[0, 0]
    rows = torch.from_numpy(ops.resize_matrix(9, 9 * scale))
    columns = torch.from_numpy(ops.resize_matrix(11, 11 * scale))
    wanted = torch.einsum("yh,chw,xw->cyx", rows, frame[0, 0], columns)
    torch.testing.assert_close(sr, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 2), (4, 1)])
def test_an_untrained_reel_is_bicubic(scale: int, unshuffle: int) -> None:
    clip = torch.rand(1, 4, 3, 8, 12)
    sr, _ = Reel(scale, unshuffle=unshuffle)(clip)
    torch.testing.assert_close(sr, Bicubic(scale)(clip), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("scale", "unshuffle", "count"), [(2, 2, 99_344), (4, 1, 94_160)])
def test_a_reel_has_the_number_of_parameters_in_its_card(
    scale: int, unshuffle: int, count: int
) -> None:
    assert sum(p.numel() for p in Reel(scale, unshuffle=unshuffle).parameters()) == count
    assert load_model("reel-fast", scale).card["parameters"] == count


@pytest.mark.parametrize("scale", [2, 4])
def test_clip_borders_do_not_exist_for_a_causal_network(scale: int) -> None:
    reel = load_model("reel-fast", scale).module()
    clip = torch.rand(1, 7, 3, 16, 16)
    with torch.no_grad():
        whole, last = reel(clip)
        first, state = reel(clip[:, :3])
        second, state = reel(clip[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, last)


def test_the_past_matters_and_the_future_does_not() -> None:
    reel = load_model(DEFAULT_MODEL).module()
    clip, other = torch.rand(2, 1, 6, 3, 16, 16)
    with torch.no_grad():
        sr, _ = reel(clip)
        changed, _ = reel(torch.cat([clip[:, :3], other[:, 3:]], 1))
        fresh, _ = reel(clip[:, 2:])
    torch.testing.assert_close(changed[:, :3], sr[:, :3])
    assert not torch.allclose(fresh[:, 0], sr[:, 2])


def test_the_state_stays_bounded_whatever_comes() -> None:
    reel = load_model(DEFAULT_MODEL).module()
    assert isinstance(reel, Reel)
    with torch.no_grad():
        state = reel.zero_state(torch.rand(1, 3, 16, 16))
        for _ in range(40):
            noise = (torch.rand(1, 3, 16, 16) > 0.5).float()
            _, state = reel.step(noise, state)
    assert state.abs().max() <= 1


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    reel = Reel(2)
    torch.nn.init.normal_(reel.tail.weight, std=0.01)
    sr, _ = reel(torch.rand(1, 3, 3, 16, 16))
    F.mse_loss(sr, torch.rand_like(sr)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in reel.parameters())
