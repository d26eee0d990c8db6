"""BasicVSR++: its alignment, its recurrence and its sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.basicvsrpp import BasicVSRPlusPlus, SecondOrderAlignment
from tests.support.networks import (
    conv,
    fast_warp,
    lrelu,
    moving_clip,
    shuffled,
    slow_deform_conv2d,
    trunk,
    up,
)

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_an_untrained_alignment_samples_where_the_flows_point() -> None:
    align = SecondOrderAlignment(8)
    feats, cond = torch.rand(1, 16, 6, 5), torch.rand(1, 24, 6, 5)
    flow_1, flow_2 = 2 * torch.randn(1, 2, 6, 5), 2 * torch.randn(1, 2, 6, 5)
    out = align(feats, cond, flow_1, flow_2)
    # Each frame's 8 channels are moved by its own flow at the output pixel; masks are all 1/2.
    offset = torch.cat(
        [torch.stack([flow[:, 1], flow[:, 0]], 1).repeat(1, 9, 1, 1) for flow in (flow_1, flow_2)],
        dim=1,
    )
    wanted = slow_deform_conv2d(
        feats,
        offset,
        align.weight,
        align.bias,
        (1, 1),
        (1, 1),
        (1, 1),
        torch.full((1, 18, 6, 5), 0.5),
        2,
    )
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)


def test_a_learned_residue_is_bounded() -> None:
    align = SecondOrderAlignment(8, max_residue=3)
    last = align.conv_offset[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    last.bias[: 2 * 144] = 100.0  # every point wants to go far down and right
    last.bias[2 * 144 :] = 100.0  # and counts in full
    feats, still = torch.rand(1, 16, 9, 9), torch.zeros(1, 2, 9, 9)
    out = align(feats, torch.rand(1, 24, 9, 9), still, still)
    moved = F.pad(feats, (-2, 4, -2, 4))  # three pixels, and the ordinary border of one
    wanted = F.conv2d(moved, align.weight, align.bias)
    torch.testing.assert_close(out, wanted, atol=1e-4, rtol=0)


def aligned_pair(
    state: Mapping[str, Tensor],
    name: str,
    current: Tensor,
    past: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """Second-order alignment by warping: every offset group of every point is a flow of its own.

    `past` is (features, flow to them) of the last frame and of the one before.
    """
    (feat_1, flow_1), (feat_2, flow_2) = past
    cond = [fast_warp(feat_1, flow_1), current, fast_warp(feat_2, flow_2), flow_1, flow_2]
    guess = torch.cat(cond, 1)
    for layer in (0, 2, 4, 6):
        guess = conv(state, f"{name}.conv_offset.{layer}", lrelu(guess) if layer else guess)
    first, second, mask = guess.chunk(3, dim=1)
    residue = 10 * torch.tanh(torch.cat([first, second], 1))
    weight, channels = state[f"{name}.weight"], feat_1.shape[1]
    both = torch.cat([feat_1, feat_2], 1)
    width = 2 * channels // 16
    total = state[f"{name}.bias"].view(1, -1, 1, 1)
    for group, ky, kx in itertools.product(range(16), range(3), range(3)):
        point = 9 * group + 3 * ky + kx
        flow = (flow_1 if group < 8 else flow_2) + residue[:, [2 * point + 1, 2 * point]]
        flow = flow + torch.tensor([kx - 1.0, ky - 1.0]).view(1, 2, 1, 1)
        some = slice(group * width, (group + 1) * width)
        value = fast_warp(both[:, some], flow) * torch.sigmoid(mask[:, point : point + 1])
        total = total + F.conv2d(value, weight[:, some, ky, kx, None, None])
    return total


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize(("scale", "shrink"), [(4, 1), (2, 1), (1, 2)])
def test_basicvsrpp_is_its_recurrence(scale: int, shrink: int) -> None:
    t = 3
    net, clip = (
        shuffled(BasicVSRPlusPlus(8, 1, scale, shrink)),
        moving_clip(t, 24 * shrink, 32 * shrink),
    )
    state, x = net.state_dict(), clip.unbind(1)
    small = [F.interpolate(frame, scale_factor=1 / shrink, mode="bicubic") for frame in x]
    if shrink == 1:
        small = list(x)
        spatial = [trunk(state, "feat_extract", frame) for frame in x]
    else:
        strided = [lrelu(conv(state, "feat_extract.0", frame, stride=2)) for frame in x]
        spatial = [trunk(state, "feat_extract.2", feat) for feat in strided]
    nothing, still = torch.zeros(1, 8, 24, 32), torch.zeros(1, 2, 24, 32)

    @cache
    def flow(i: int, j: int) -> Tensor:
        out: Tensor = net.spynet(small[i], small[j])  # type: ignore[operator]
        return out

    finished: list[list[Tensor]] = []
    for branch, step in (
        ("backward_1", -1),
        ("forward_1", 1),
        ("backward_2", -1),
        ("forward_2", 1),
    ):
        made: dict[int, Tensor] = {}
        for i in range(t)[::step]:
            aligned, last, before = nothing, i - step, i - 2 * step
            if last in made:
                flow_1, flow_2, feat_2 = flow(i, last), still, nothing
                if before in made:
                    flow_2 = flow_1 + fast_warp(flow(last, before), flow_1)
                    feat_2 = made[before]
                past = [(made[last], flow_1), (feat_2, flow_2)]
                aligned = aligned_pair(state, f"deform_align.{branch}", spatial[i], past)
            known = [spatial[i], *(done[i] for done in finished), aligned]
            made[i] = aligned + trunk(state, f"backbone.{branch}", *known)
        finished.append([made[i] for i in range(t)])

    out = net(clip)
    for i in range(t):
        base = F.interpolate(x[i], scale_factor=scale, mode="bilinear") if scale > 1 else x[i]
        feat = trunk(state, "reconstruction", spatial[i], *(done[i] for done in finished))
        torch.testing.assert_close(out[:, i], base + up(state, feat), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize(("scale", "shrink"), [(4, 1), (1, 4)])
def test_a_small_clip_is_the_corner_of_its_padded_self(scale: int, shrink: int) -> None:
    net, clip = shuffled(BasicVSRPlusPlus(8, 1, scale, shrink)), moving_clip(t=2, h=13, w=15)
    side = 16 * shrink
    padded = F.pad(clip[0], (0, side - 15, 0, side - 13), mode="replicate")[None]
    torch.testing.assert_close(net(clip), net(padded)[..., : 13 * scale, : 15 * scale])
