"""models/layers.py, spynet.py, basicvsr.py, basicvsrpp.py: the networks and their checkpoints."""

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models import basicvsr, basicvsrpp, layers, spynet
from sharpreel.models.basicvsr import BasicVSR
from sharpreel.models.basicvsrpp import BasicVSRPlusPlus, SecondOrderAlignment
from sharpreel.models.layers import deform_conv2d, flow_warp, plain_deform_conv2d
from sharpreel.models.spynet import SPyNet

State = dict[str, Tensor]






def shuffled(module: nn.Module) -> nn.Module:
    """The module with every weight drawn anew, so that none is zero or close to it."""
    for name, parameter in module.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        nn.init.uniform_(parameter, -1, 1)
        # SPyNet's levels double what came before: it gets less, for flows of some pixels.
        parameter.mul_((0.9 if "spynet" in name else 1.7) / math.sqrt(fan))
    return module.eval()




def moving_clip(t: int = 3, h: int = 24, w: int = 32, n: int = 1) -> Tensor:
    """Smooth noise that moves right and down, (N, T, 3, H, W)."""
    picture = F.interpolate(torch.rand(n, 3, 24, 24), size=(h + 32, w + 32), mode="bicubic")
    picture = picture.clamp(0, 1)
    return torch.stack(
        [picture[..., 16 - i : 16 - i + h, 16 - 2 * i : 16 - 2 * i + w] for i in range(t)], dim=1
    )


# flow_warp


def test_a_flow_to_the_right_fetches_what_lies_to_the_right() -> None:
    feat = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = 1
    wanted = torch.tensor([[[[1.0, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]]])
    torch.testing.assert_close(flow_warp(feat, flow), wanted, atol=1e-5, rtol=0)
    flow = flow.flip(1)  # now down
    wanted = torch.tensor([[[[4.0, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]]])
    torch.testing.assert_close(flow_warp(feat, flow, "border"), wanted, atol=1e-5, rtol=0)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """A plane (H, W) between its pixels, zero outside: four corners, one by one."""
    h, w = plane.shape
    total = 0.0
    for row, column in itertools.product(
        (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
    ):
        if 0 <= row < h and 0 <= column < w:
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            total += share * float(plane[row, column])
    return total


def slow_warp(feat: Tensor, flow: Tensor) -> Tensor:
    out = torch.zeros_like(feat)
    for n, c, y, x in itertools.product(*map(range, feat.shape)):
        right, down = flow[n, :, y, x].tolist()
        out[n, c, y, x] = bilinear(feat[n, c], y + down, x + right)
    return out


def test_warping_is_bilinear_and_zero_outside() -> None:
    feat, flow = torch.rand(2, 2, 5, 6), 3 * torch.randn(2, 2, 5, 6)
    torch.testing.assert_close(flow_warp(feat, flow), slow_warp(feat, flow), atol=1e-5, rtol=0)


def test_half_precision_features_are_sampled_at_exact_places() -> None:
    feat = torch.rand(1, 1, 2, 1000).half()
    flow = torch.full((1, 2, 2, 1000), 0.0)
    flow[:, 0] = 0.5
    warped = flow_warp(feat, flow.half())
    wanted = (feat[..., :-1].float() + feat[..., 1:].float()) / 2
    assert warped.dtype == torch.float16
    torch.testing.assert_close(warped[..., :-1].float(), wanted, atol=1e-3, rtol=0)


def test_a_flow_of_another_size_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"flow must be \(1, 2, 4, 4\).*multiply its values"):
        flow_warp(torch.rand(1, 3, 4, 4), torch.zeros(1, 2, 2, 2))


# deform_conv2d


def slow_deform_conv2d(
    feat: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    mask: Tensor,
    groups: int,
) -> Tensor:
    n, c, _, _ = feat.shape
    out_channels, _, kh, kw = weight.shape
    out = bias.view(1, -1, 1, 1).repeat(n, 1, *offset.shape[2:])
    for b, o, i, ky, kx in itertools.product(*map(range, (n, out_channels, c, kh, kw))):
        point = (i // (c // groups)) * kh * kw + ky * kw + kx
        for row, column in itertools.product(*map(range, offset.shape[2:])):
            down, right = offset[b, 2 * point : 2 * point + 2, row, column].tolist()
            y = row * stride[0] - padding[0] + ky * dilation[0] + down
            x = column * stride[1] - padding[1] + kx * dilation[1] + right
            value = bilinear(feat[b, i], y, x) * mask[b, point, row, column]
            out[b, o, row, column] += weight[o, i, ky, kx] * value
    return out


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), 2),
        ((3, 2), (2, 1), (0, 1), (1, 2), 1),
        ((1, 3), (1, 2), (1, 2), (2, 1), 4),
    ],
)
def test_deformable_convolution_equals_a_loop_over_every_pixel(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> None:
    feat, weight, bias = torch.rand(2, 4, 6, 5), torch.randn(2, 4, *kernel), torch.randn(2)
    size = F.conv2d(feat, weight, None, stride, padding, dilation).shape[2:]
    points = kernel[0] * kernel[1] * groups
    offset, mask = 2 * torch.randn(2, 2 * points, *size), torch.rand(2, points, *size)
    out = deform_conv2d(feat, offset, weight, bias, stride, padding, dilation, mask, groups)
    wanted = slow_deform_conv2d(feat, offset, weight, bias, stride, padding, dilation, mask, groups)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mask", [torch.ones(2, 18, 7, 9), None])
def test_without_offsets_it_is_an_ordinary_convolution(mask: Tensor | None) -> None:
    feat, weight, bias = torch.rand(2, 6, 7, 9), torch.randn(5, 6, 3, 3), torch.randn(5)
    still = torch.zeros(2, 36, 7, 9)
    out = deform_conv2d(feat, still, weight, bias, padding=(1, 1), mask=mask, offset_groups=2)
    torch.testing.assert_close(out, F.conv2d(feat, weight, bias, padding=1), atol=1e-4, rtol=0)


def test_whole_pixel_offsets_shift_the_channels_of_their_group() -> None:
    feat, weight = torch.rand(1, 4, 8, 9), torch.randn(3, 4, 3, 3)
    offset = torch.zeros(1, 2, 9, 2, 8, 9)
    offset[:, 0, :, 0] = 2  # channels 0 and 1 are fetched from two rows below
    offset[:, 1, :, 1] = -1  # channels 2 and 3 from one column to the left
    out = deform_conv2d(feat, offset.flatten(1, 3), weight, padding=(1, 1), offset_groups=2)
    wide = F.pad(feat, (2, 2, 3, 3))
    moved = torch.cat([wide[:, :2, 4:14, 1:12], wide[:, 2:, 2:12, 0:11]], dim=1)
    torch.testing.assert_close(out, F.conv2d(moved, weight), atol=1e-4, rtol=0)


def test_deformable_convolution_has_the_gradients_that_differences_show() -> None:
    feat, weight = torch.rand(1, 2, 3, 2).double(), torch.randn(1, 2, 3, 3).double()
    offset, mask = 0.3 + 0.3 * torch.rand(1, 18, 3, 2).double(), torch.rand(1, 9, 3, 2).double()
    inputs = tuple(tensor.requires_grad_() for tensor in (feat, offset, weight, mask))

    def run(feat: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        one = (1, 1)
        return plain_deform_conv2d(feat, offset, weight, None, one, one, one, mask)

    with torch.enable_grad():
        assert torch.autograd.gradcheck(run, inputs)


def test_offsets_that_do_not_match_are_refused() -> None:
    feat, weight = torch.rand(1, 4, 8, 9), torch.randn(3, 4, 3, 3)
    with pytest.raises(ValueError, match=r"offset must be \(1, 36, 8, 9\) for 2 groups"):
        deform_conv2d(feat, torch.zeros(1, 18, 8, 9), weight, padding=(1, 1), offset_groups=2)
    with pytest.raises(ValueError, match=r"weight must be \(C_out, 3, kh, kw\)"):
        deform_conv2d(feat[:, :3], torch.zeros(1, 18, 8, 9), weight, padding=(1, 1))


@pytest.fixture
def forget_torchvision() -> Iterator[None]:
    layers.compiled_deform_conv2d.cache_clear()
    yield
    layers.compiled_deform_conv2d.cache_clear()


def torchvision_with(operator: Callable[..., Tensor]) -> dict[str, ModuleType]:
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    ops.__dict__["deform_conv2d"] = operator
    return {"torchvision": package, "torchvision.ops": ops}


class BrokenFinder:
    """An installed torchvision that was built for another torch: importing it raises."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.split(".", maxsplit=1)[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.usefixtures("forget_torchvision")
def test_a_torchvision_that_cannot_be_imported_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.delitem(sys.modules, "torchvision.ops", raising=False)
    monkeypatch.setattr(sys, "meta_path", [BrokenFinder(), *sys.meta_path])
    assert layers.compiled_deform_conv2d("cpu") is None


@pytest.mark.usefixtures("forget_torchvision")
def test_a_torchvision_without_its_operators_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object) -> Tensor:
        raise NotImplementedError("Couldn't load custom C++ ops.")

    for name, module in torchvision_with(missing).items():
        monkeypatch.setitem(sys.modules, name, module)
    assert layers.compiled_deform_conv2d("cpu") is None


@pytest.mark.usefixtures("forget_torchvision")
def test_a_torchvision_that_works_is_used_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def working(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return plain_deform_conv2d(*arguments)

    for name, module in torchvision_with(working).items():
        monkeypatch.setitem(sys.modules, name, module)
    for _ in range(2):
        deform_conv2d(torch.rand(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 1, 1))
    assert len(calls) == 3  # to find out, then twice in earnest


@pytest.mark.usefixtures("forget_torchvision")
def test_our_deformable_convolution_is_torchvisions() -> None:
    compiled = layers.compiled_deform_conv2d("cpu")
    if compiled is None:
        pytest.skip("torchvision with compiled operators is not installed")
    feat, weight, bias = torch.rand(2, 32, 20, 24), torch.randn(8, 32, 3, 3), torch.randn(8)
    offset, mask = 8 * torch.randn(2, 288, 20, 24), torch.rand(2, 144, 20, 24)
    arguments = (feat, offset, weight, bias, (1, 1), (1, 1), (1, 1), mask)
    ours, theirs = plain_deform_conv2d(*arguments), compiled(*arguments)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


# Second-order alignment


def test_an_unlearnt_alignment_samples_where_the_flows_point() -> None:
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


def test_a_learnt_residue_is_bounded() -> None:
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


# SPyNet


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
    """With one level left that reads reference minus warped: zero for a shift it was told of."""
    net = SPyNet()
    for parameter in net.parameters():
        parameter.zero_()
    # The level above the last says "two pixels right" of its own, four of the last level's.
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
def test_spynet_takes_small_frames(size: tuple[int, int]) -> None:
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


# The networks, against plain re-statements of their recurrences


def conv(state: Mapping[str, Tensor], name: str, feat: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(feat, weight, state[f"{name}.bias"], stride, weight.shape[-1] // 2)


def lrelu(feat: Tensor) -> Tensor:
    return torch.where(feat > 0, feat, 0.1 * feat)


def trunk(state: Mapping[str, Tensor], name: str, *feats: Tensor) -> Tensor:
    out = lrelu(conv(state, f"{name}.main.0", torch.cat(feats, 1)))
    block = 0
    while f"{name}.main.2.{block}.conv1.weight" in state:
        inner = conv(state, f"{name}.main.2.{block}.conv1", out).clamp(min=0)
        out = out + conv(state, f"{name}.main.2.{block}.conv2", inner)
        block += 1
    return out


def up(state: Mapping[str, Tensor], feat: Tensor) -> Tensor:
    for name in ("upconv1", "upconv2"):
        if f"{name}.weight" in state:
            feat = lrelu(F.pixel_shuffle(conv(state, name, feat), 2))
    return conv(state, "conv_last", lrelu(conv(state, "conv_hr", feat)))


def fast_warp(feat: Tensor, flow: Tensor) -> Tensor:
    """`slow_warp` by looking up all corners at once; independent of grid_sample."""
    n, c, h, w = feat.shape
    y = torch.arange(h).view(1, h, 1) + flow[:, 1]
    x = torch.arange(w).view(1, 1, w) + flow[:, 0]
    total = torch.zeros_like(feat)
    for down, right in itertools.product((0, 1), repeat=2):
        row, column = y.floor() + down, x.floor() + right
        share = (1 - (y - row).abs()) * (1 - (x - column).abs())
        share = share * ((row >= 0) & (row < h) & (column >= 0) & (column < w))
        index = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long()
        values = feat.flatten(2).gather(2, index.view(n, 1, -1).expand(n, c, -1))
        total += share[:, None] * values.view(n, c, h, w)
    return total


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("scale", [2, 4])
def test_basicvsr_is_its_recurrence(scale: int) -> None:
    net, clip = shuffled(BasicVSR(6, 2, scale)), moving_clip(t=3, n=2)
    state, x = net.state_dict(), clip.unbind(1)
    flow: Callable[[Tensor, Tensor], Tensor] = net.spynet  # type: ignore[assignment]
    nothing = torch.zeros(2, 6, 24, 32)

    def back(i: int) -> Tensor:
        after = fast_warp(back(i + 1), flow(x[i], x[i + 1])) if i + 1 < len(x) else nothing
        return trunk(state, "backward_trunk", x[i], after)

    def forth(i: int) -> Tensor:
        before = fast_warp(forth(i - 1), flow(x[i], x[i - 1])) if i else nothing
        return trunk(state, "forward_trunk", x[i], before)

    assert flow(x[0], x[1]).abs().mean() > 0.3
    out = net(clip)
    for i in range(3):
        fused = lrelu(conv(state, "fusion", torch.cat([back(i), forth(i)], 1)))
        base = F.interpolate(x[i], scale_factor=scale, mode="bilinear")
        torch.testing.assert_close(out[:, i], base + up(state, fused), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("small_frames")
def test_swapping_basicvsrs_branches_is_turning_time_round() -> None:
    """True for BasicVSR, whose branches differ in direction alone; not for BasicVSR++."""
    net, clip = shuffled(BasicVSR(6, 1, 2)), moving_clip(t=4)
    state = net.state_dict()
    swapped = {
        name.replace("backward", "tmp").replace("forward", "backward").replace("tmp", "forward"): t
        for name, t in state.items()
    }
    swapped["fusion.weight"] = state["fusion.weight"].roll(6, dims=1)
    turned = BasicVSR(6, 1, 2).eval()
    turned.load_state_dict(swapped)
    torch.testing.assert_close(turned(clip.flip(1)).flip(1), net(clip), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(net(clip.flip(1)).flip(1), net(clip), atol=1e-3)


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
@pytest.mark.parametrize("build", [lambda: BasicVSR(8, 1, 2), lambda: BasicVSRPlusPlus(8, 1, 2)])
def test_every_frame_sees_the_whole_clip(build: Callable[[], nn.Module]) -> None:
    net, clip = shuffled(build()), moving_clip(t=3)
    out = net(clip)
    for changed in (0, 2):
        other = clip.clone()
        other[:, changed] = 1 - other[:, changed]
        assert ((net(other) - out).abs().amax(dim=(0, 2, 3, 4)) > 1e-5).all()


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("build", [lambda: BasicVSR(8, 1, 2), lambda: BasicVSRPlusPlus(8, 1, 2)])
def test_a_mirrored_clip_is_no_special_case(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, clip = shuffled(build()), moving_clip(t=2)
    mirrored = torch.cat([clip, clip.flip(1)], dim=1)
    short_cut = net(mirrored)
    monkeypatch.setattr(torch, "equal", lambda *_: False)
    torch.testing.assert_close(net(mirrored), short_cut, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(short_cut, short_cut.flip(1), atol=1e-4)


# Sizes


NETWORKS: list[Callable[[], nn.Module]] = [
    lambda: BasicVSR(8, 1, 2),
    lambda: BasicVSR(8, 1, 4),
    lambda: BasicVSRPlusPlus(8, 1, 2),
    lambda: BasicVSRPlusPlus(8, 1, 4),
    lambda: BasicVSRPlusPlus(8, 1, 1, 4),
    lambda: BasicVSRPlusPlus(8, 1, 1, 2),
]


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize(("t", "h", "w"), [(1, 64, 64), (2, 13, 71)])
def test_the_output_is_exactly_scale_times_the_input(
    build: Callable[[], nn.Module], t: int, h: int, w: int
) -> None:
    net = build()
    sr = net(torch.rand(1, t, 3, h, w))
    scale = net.scale
    assert isinstance(scale, int)
    assert sr.shape == (1, t, 3, h * scale, w * scale)
    assert torch.isfinite(sr).all()


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize(("scale", "shrink"), [(4, 1), (1, 4)])
def test_a_small_clip_is_the_corner_of_its_padded_self(scale: int, shrink: int) -> None:
    net, clip = shuffled(BasicVSRPlusPlus(8, 1, scale, shrink)), moving_clip(t=2, h=13, w=15)
    side = 16 * shrink
    padded = F.pad(clip[0], (0, side - 15, 0, side - 13), mode="replicate")[None]
    torch.testing.assert_close(net(clip), net(padded)[..., : 13 * scale, : 15 * scale])


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be 2 or 4, got 3"):
        BasicVSR(scale=3)
    with pytest.raises(ValueError, match="no form with scale 4 and shrink 4"):
        BasicVSRPlusPlus(scale=4, shrink=4)
    with pytest.raises(ValueError, match="multiple of 8"):
        BasicVSRPlusPlus(channels=12)


# Parameters and checkpoints


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (SPyNet, 1_440_300),
        (BasicVSR, 6_291_311),
        (lambda: BasicVSR(blocks=15), 4_075_631),
        (BasicVSRPlusPlus, 7_322_927),
        (lambda: BasicVSRPlusPlus(scale=1, shrink=4), 7_396_783),
        (lambda: BasicVSRPlusPlus(blocks=15, scale=1, shrink=4), 9_760_175),
        (lambda: BasicVSRPlusPlus(128, 25), 43_780_463),
    ],
)
def test_networks_have_the_published_number_of_parameters(
    build: Callable[[], nn.Module], count: int
) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == count


def tensors_of(name: str, wide_in: int, wide_out: int, kernel: int = 3) -> State:
    return {
        f"{name}.weight": torch.zeros(wide_out, wide_in, kernel, kernel),
        f"{name}.bias": torch.zeros(wide_out),
    }


def published_trunk(name: str, wide_in: int, blocks: int) -> State:
    state = tensors_of(f"{name}.main.0", wide_in, 64)
    for block, layer in itertools.product(range(blocks), ("conv1", "conv2")):
        state |= tensors_of(f"{name}.main.2.{block}.{layer}", 64, 64)
    return state


def published_spynet(prefix: str, mm: bool) -> State:
    state: State = {}
    widths = (8, 32, 64, 32, 16, 2)
    for level, layer in itertools.product(range(6), range(5)):
        name = f"{layer}.conv" if mm else f"{2 * layer}"
        name = f"{prefix}basic_module.{level}.basic_module.{name}"
        state |= tensors_of(name, widths[layer], widths[layer + 1], kernel=7)
    return state


def published_tail(mm: bool, shuffles: int = 2) -> State:
    names = ("upsample1.upsample_conv", "upsample2.upsample_conv") if mm else ("upconv1", "upconv2")
    state: State = {}
    for name in names[:shuffles]:
        state |= tensors_of(name, 64, 256)
    return state | tensors_of("conv_hr", 64, 64) | tensors_of("conv_last", 64, 3)


def published(family: str, mm: bool, shuffles: int = 2, strided: int = 0) -> State:
    """A checkpoint's tensors by the names and shapes in which the two code bases write them."""
    state = published_spynet("spynet.", mm) | published_tail(mm, shuffles)
    state |= {f"spynet.{name}": torch.zeros(1, 3, 1, 1) for name in ("mean", "std")}
    if family == "basicvsr":
        kind = "resblocks" if mm else "trunk"
        for direction in ("backward", "forward"):
            state |= published_trunk(f"{direction}_{kind}", 67, 30)
        state |= tensors_of("fusion", 128, 64, kernel=1)
    else:
        for layer in range(strided):
            state |= tensors_of(f"feat_extract.{2 * layer}", 64 if layer else 3, 64)
        extract = f"feat_extract.{2 * strided}" if strided else "feat_extract"
        state |= published_trunk(extract, 64 if strided else 3, 5)
        for earlier, branch in enumerate(("backward_1", "forward_1", "backward_2", "forward_2")):
            state |= tensors_of(f"deform_align.{branch}", 128, 64)
            for layer in (0, 2, 4, 6):
                name = f"deform_align.{branch}.conv_offset.{layer}"
                state |= tensors_of(name, 64 if layer else 196, 432 if layer == 6 else 64)
            state |= published_trunk(f"backbone.{branch}", 64 * (2 + earlier), 7)
        state |= published_trunk("reconstruction", 320, 5)
    if mm:
        state = {f"generator.{name}": tensor for name, tensor in state.items()}
        state |= {
            name.replace("generator.", "generator_ema."): t
            for name, t in state.items()
            if "conv_last" in name
        }
        state["step_counter"] = torch.zeros(1)
        state["discriminator.conv0.weight"] = torch.zeros(4)
    return state


def numbered(state: State) -> State:
    """Every tensor filled with a number of its own."""
    return {name: torch.full_like(t, 1 + i) for i, (name, t) in enumerate(state.items())}


@pytest.mark.parametrize("mm", [False, True])
@pytest.mark.parametrize(
    ("family", "shuffles", "strided", "arguments"),
    [
        ("basicvsr", 2, 0, {"channels": 64, "blocks": 30, "scale": 4}),
        ("basicvsr", 1, 0, {"channels": 64, "blocks": 30, "scale": 2}),
        ("basicvsrpp", 2, 0, {"channels": 64, "blocks": 7, "scale": 4, "shrink": 1}),
        ("basicvsrpp", 1, 0, {"channels": 64, "blocks": 7, "scale": 2, "shrink": 1}),
        ("basicvsrpp", 2, 2, {"channels": 64, "blocks": 7, "scale": 1, "shrink": 4}),
        ("basicvsrpp", 1, 1, {"channels": 64, "blocks": 7, "scale": 1, "shrink": 2}),
    ],
)
def test_published_names_load_in_both_styles(
    mm: bool, family: str, shuffles: int, strided: int, arguments: dict[str, int]
) -> None:
    rooms = {"basicvsr": basicvsr, "basicvsrpp": basicvsrpp}
    state = numbered(published(family, mm, shuffles, strided))
    found = rooms.pop(family).recognise(state)
    assert found is not None
    assert found[0] == arguments
    with torch.device("meta"):
        net = (BasicVSR if family == "basicvsr" else BasicVSRPlusPlus)(**found[0])
    net.load_state_dict(found[1], assign=True)
    prefix = "generator." if mm else ""
    upconv = "generator.upsample1.upsample_conv" if mm else "upconv1"
    convs = "1.conv" if mm else "2"
    for name, tensor in (
        (f"{prefix}conv_last.bias", net.conv_last.bias),
        (f"{upconv}.weight", net.upconv1.weight),
        (f"{prefix}spynet.basic_module.3.basic_module.{convs}.bias", second_conv(net.spynet, 3)),
    ):
        assert tensor is not None
        assert torch.equal(tensor, state[name])
    (other,) = rooms.values()
    assert other.recognise(state) is None
    assert spynet.recognise(state) is None


def second_conv(net: SPyNet, level: int) -> Tensor:
    bias: Tensor = net.state_dict()[f"basic_module.{level}.basic_module.2.bias"]
    return bias


def test_basicsr_style_has_the_published_number_of_tensors() -> None:
    assert len(published("basicvsrpp", mm=False)) == 274


@pytest.mark.parametrize("mm", [False, True])
def test_spynet_files_load_without_the_numbers_they_lack(mm: bool) -> None:
    found = spynet.recognise(numbered(published_spynet("", mm)))
    assert found is not None
    net = SPyNet()
    net.load_state_dict(found[1])
    torch.testing.assert_close(net.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def tiny(family: str) -> State:
    net = BasicVSR(8, 1, 4) if family == "basicvsr" else BasicVSRPlusPlus(8, 1, 4)
    return net.state_dict()


@pytest.mark.parametrize("family", ["basicvsr", "basicvsrpp"])
def test_checkpoints_with_missing_extra_or_misshapen_tensors_are_not_recognised(
    family: str,
) -> None:
    recognise = {"basicvsr": basicvsr.recognise, "basicvsrpp": basicvsrpp.recognise}[family]
    whole = tiny(family)
    assert recognise(whole) is not None
    assert recognise({f"module.{name}": tensor for name, tensor in whole.items()}) is not None
    for name in list(whole)[:: len(whole) // 12]:
        without = {other: tensor for other, tensor in whole.items() if other != name}
        assert recognise(without) is None, f"without {name}"
        assert recognise(whole | {name: whole[name][None]}) is None, f"{name} has another shape"
    assert recognise(whole | {"upconv3.bias": torch.zeros(8)}) is None
    # The same tensor under both of its names.
    assert recognise(whole | {"generator.conv_last.bias": torch.zeros(3)}) is None
    assert recognise({}) is None
    assert recognise({"fusion.bias": torch.zeros(0)}) is None
    assert recognise({"deform_align.backward_1.bias": torch.tensor(3.0)}) is None


def test_iconvsr_and_other_relatives_are_not_taken_for_basicvsr() -> None:
    relative = tiny("basicvsr") | tensors_of("backward_fusion", 16, 8)
    assert basicvsr.recognise(relative) is None


def test_half_precision_checkpoints_are_recognised() -> None:
    halves = {name: tensor.half() for name, tensor in tiny("basicvsrpp").items()}
    found = basicvsrpp.recognise(halves)
    assert found is not None
    assert found[1]["conv_last.bias"].dtype == torch.float16
