"""Equations and published names of BasicVSR's family, restated for tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]


def shuffled(module: nn.Module) -> nn.Module:
    """The module with every weight drawn at random, so that none is zero or close to it."""
    for name, parameter in module.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        nn.init.uniform_(parameter, -1, 1)
        # SPyNet's levels double what came before: it gets less, for flows of some pixels.
        parameter.mul_((0.9 if "spynet" in name else 1.7) / math.sqrt(fan))
    return module.eval()


def moving_clip(t: int = 3, h: int = 24, w: int = 32, n: int = 1) -> Tensor:
    """Smooth noise that moves right and down, (N, T, 3, H, W)."""
    frame = F.interpolate(torch.rand(n, 3, 24, 24), size=(h + 32, w + 32), mode="bicubic")
    frame = frame.clamp(0, 1)
    return torch.stack(
        [frame[..., 16 - i : 16 - i + h, 16 - 2 * i : 16 - 2 * i + w] for i in range(t)], dim=1
    )


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


def tensors_of(name: str, wide_in: int, wide_out: int, kernel: int = 3) -> State:
    return {
        f"{name}.weight": torch.zeros(wide_out, wide_in, kernel, kernel),
        f"{name}.bias": torch.zeros(wide_out),
    }


def published_spynet(prefix: str, mm: bool) -> State:
    state: State = {}
    widths = (8, 32, 64, 32, 16, 2)
    for level, layer in itertools.product(range(6), range(5)):
        name = f"{layer}.conv" if mm else f"{2 * layer}"
        name = f"{prefix}basic_module.{level}.basic_module.{name}"
        state |= tensors_of(name, widths[layer], widths[layer + 1], kernel=7)
    return state


def numbered(state: State) -> State:
    """Every tensor filled with a number of its own."""
    return {name: torch.full_like(t, 1 + i) for i, (name, t) in enumerate(state.items())}
