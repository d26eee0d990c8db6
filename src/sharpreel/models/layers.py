"""Blocks that several networks share, and the mapping of tensor names in published checkpoints.

`flow_warp` and `ConvResidualBlocks` are those of BasicVSR (Chan et al., "BasicVSR: The Search for
Essential Components in Video Super-Resolution and Beyond", CVPR 2021; code
github.com/XPixelGroup/BasicSR, Apache-2.0). `deform_conv2d` is modulated deformable convolution
(Zhu et al., "Deformable ConvNets v2", CVPR 2019) with the conventions of torchvision's operator.
All of it is our own implementation. What we changed: a flow is (N, 2, H, W) everywhere, never
channels last; half-precision features are sampled in float32, because float16 cannot represent
pixel coordinates beyond 2048 and is inexact beyond 200; deformable convolution needs no compiled
operator.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel import ops

# What a training checkpoint of mmediting and mmagic holds beside the generator.
LEFTOVERS = ("step_counter", "generator_ema.", "discriminator")

Pair = tuple[int, int]


def flow_warp(feat: Tensor, flow: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Sample `feat` where `flow` points: out[y, x] = feat[y + flow_y, x + flow_x].

    Args:
        feat: Frame or features, (N, C, H, W).
        flow: Displacement in pixels of this resolution, (N, 2, H, W); channel 0 right, 1 down.
        padding: What is sampled outside the frame: zeros, or the nearest pixel of its border.

    Returns:
        The warped tensor, (N, C, H, W), bilinear between pixels.
    """
    n, _, h, w = feat.shape
    if tuple(flow.shape) != (n, 2, h, w):
        raise ValueError(
            f"flow must be {(n, 2, h, w)} to match feat {tuple(feat.shape)}, "
            f"got {tuple(flow.shape)}. "
            "When you resize a flow, multiply its values by the same factor."
        )
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    x = torch.arange(w, dtype=flow.dtype, device=flow.device) + flow[:, 0]
    y = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None] + flow[:, 1]
    # grid_sample counts from -1 (centre of the first pixel) to 1 (centre of the last).
    grid = torch.stack([2 * x / max(w - 1, 1) - 1, 2 * y / max(h - 1, 1) - 1], dim=-1)
    warped = F.grid_sample(
        feat.to(grid.dtype), grid, mode="bilinear", padding_mode=padding, align_corners=True
    )
    return warped.to(feat.dtype)


def enlarge(frame: Tensor, scale: int) -> Tensor:
    """Upscale by MATLAB's bicubic with mirrored edges: (N, C, H, W) -> (N, C, sH, sW)."""
    if scale == 1:
        return frame
    rows, columns = (
        torch.from_numpy(ops.resize_matrix(size, scale * size)).to(frame)
        for size in frame.shape[2:]
    )
    return rows @ frame @ columns.T


def window_times(length: int, now: int, past: int, future: int) -> list[int]:
    """The frames in the window around frame `now` of a clip, oldest first.

    The frame itself replaces one before the clip's first or after its last.
    """
    near = range(now - past, now + future + 1)
    return [time if 0 <= time < length else now for time in near]


class LumaNetwork(nn.Module):
    """Runs a one-channel network on the luma of RGB frames; chroma is upscaled by bicubic.

    sr = network(Y) + bicubic(lr - Y), with Y of BT.601. Grey frames stay grey.

    Args:
        network: Takes frames of one channel; has `past`, `future`, `flows` and `along`.
    """

    LUMA = (0.299, 0.587, 0.114)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        inner: Any = network
        self.network = inner
        self.scale, self.past, self.future = int(inner.scale), int(inner.past), int(inner.future)

    def luma(self, clip: Tensor) -> Tensor:
        """(..., 3, H, W) -> (..., 1, H, W)."""
        return (clip * clip.new_tensor(self.LUMA)[:, None, None]).sum(-3, keepdim=True)

    def flows(self, clip: Tensor, first: int, count: int) -> Tensor:
        """The network's flows, for a colour clip."""
        flows: Tensor = self.network.flows(self.luma(clip), first, count)
        return flows

    def along(self, clip: Tensor, first: int, count: int, flows: Tensor | None = None) -> Tensor:
        """Frames of (N, T, 3, H, W) -> (N, count, 3, sH, sW), not clamped."""
        grey, wanted = self.luma(clip), slice(first, first + count)
        colour = clip[:, wanted] - grey[:, wanted]
        sr: Tensor = self.network.along(grey, first, count, flows)
        enlarged = enlarge(colour.flatten(0, 1), self.scale)
        return sr + enlarged.reshape(*sr.shape[:2], 3, *sr.shape[3:])


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, without normalisation; initialised close to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data *= 0.1
            conv.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, feat: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(feat)))
        return feat + residual


class ConvResidualBlocks(nn.Module):
    """A 3x3 convolution to another width, leaky ReLU, and residual blocks.

    (N, channels_in, H, W) -> (N, channels, H, W). State-dict names are `main.0`, `main.2.{i}`.
    """

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Sequential(*[ResidualBlock(channels) for _ in range(blocks)]),
        )

    def forward(self, feat: Tensor) -> Tensor:
        out: Tensor = self.main(feat)
        return out


def deform_conv2d(
    feat: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    mask: Tensor | None = None,
    offset_groups: int = 1,
) -> Tensor:
    """Convolve `feat` at sampling points that are moved by `offset` and weighted by `mask`.

    out[y, x] = bias + sum over k of weight[k] * mask[k, y, x] * feat[p(k, y, x)], where p is
    the position of kernel point k in an ordinary convolution plus offset[k, y, x]; bilinear between
    pixels, zero outside. Runs torchvision's compiled operator where one works, else plain PyTorch.

    Args:
        feat: (N, C, H, W). Its channels form `offset_groups` equal groups that share offsets.
        offset: Pixels, (N, offset_groups * kh * kw * 2, outH, outW): group by group, kernel
            point by kernel point (row by row), down before right, as torchvision has it.
        weight: (C_out, C, kh, kw).
        bias: (C_out,).
        stride, padding, dilation: (vertical, horizontal), as in an ordinary convolution.
        mask: (N, offset_groups * kh * kw, outH, outW); None means ones.

    Returns:
        (N, C_out, outH, outW).
    """
    n, c, h, w = feat.shape
    points = weight.shape[2] * weight.shape[3]
    out_h, out_w = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            (h, w), padding, dilation, weight.shape[2:], stride, strict=True
        )
    )
    if weight.shape[1] != c or c % offset_groups:
        raise ValueError(
            f"weight must be (C_out, {c}, kh, kw) to match feat {tuple(feat.shape)}, got "
            f"{tuple(weight.shape)}, and {c} channels must divide into "
            f"{offset_groups} groups of offsets."
        )
    for name, given, each in (("offset", offset, 2), ("mask", mask, 1)):
        wanted = (n, offset_groups * points * each, out_h, out_w)
        if given is not None and tuple(given.shape) != wanted:
            raise ValueError(
                f"{name} must be {wanted} for {offset_groups} groups of {points} kernel points, "
                f"got {tuple(given.shape)}."
            )
    operator = compiled_deform_conv2d(feat.device.type) or plain_deform_conv2d
    return operator(feat, offset, weight, bias, stride, padding, dilation, mask)


@cache
def compiled_deform_conv2d(device_type: str) -> Callable[..., Tensor] | None:
    """torchvision's operator if it is installed and runs on such a device, else None.

    Tested by running it once on one pixel: next to a PyTorch of another build (such as a CPU-only
    one) torchvision can fail to import, import without its operators, or have them for the CPU
    alone, and each of these raises another error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it also warns about codecs that are not used here
            operator: Callable[..., Tensor] = importlib.import_module(
                "torchvision.ops"
            ).deform_conv2d
            one = torch.ones(1, 1, 1, 1, device=device_type)
            offset = torch.zeros(1, 2, 1, 1, device=device_type)
            output = operator(one, offset, one, None, (1, 1), (0, 0), (1, 1), one)
            return operator if output.item() == 1 else None
    except Exception:
        return None


def plain_deform_conv2d(
    feat: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    mask: Tensor | None,
) -> Tensor:
    """`deform_conv2d` in plain PyTorch, for every device; shapes are assumed to be correct.

    One kernel point at a time: it is sampled for all channels and multiplied into the output, so
    that beside the output there is never more than about one frame of samples (an unfolded
    input, as in the compiled operators, would be kh * kw of them).
    """
    n, c, h, w = feat.shape
    _, _, kernel_h, kernel_w = weight.shape
    out_h, out_w = offset.shape[2:]
    points = kernel_h * kernel_w
    groups = offset.shape[1] // (2 * points)
    exact = torch.promote_types(offset.dtype, torch.float32)
    parts = feat.to(exact).reshape(n * groups, c // groups, h, w)
    moves = offset.to(exact).reshape(n * groups, points, 2, out_h, out_w)
    masks = None if mask is None else mask.to(exact).reshape(n * groups, points, 1, out_h, out_w)

    rows = torch.arange(out_h, dtype=exact, device=feat.device)[:, None] * stride[0] - padding[0]
    columns = torch.arange(out_w, dtype=exact, device=feat.device) * stride[1] - padding[1]
    total: Tensor | None = None
    for point in range(points):
        y = rows + (point // kernel_w) * dilation[0] + moves[:, point, 0]
        x = columns + (point % kernel_w) * dilation[1] + moves[:, point, 1]
        # Counted from edge to edge (align_corners False): correct for a frame of one pixel too.
        grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)
        samples = F.grid_sample(parts, grid, padding_mode="zeros", align_corners=False)
        if masks is not None:
            samples = samples * masks[:, point]
        samples = samples.reshape(n, c, out_h, out_w).to(weight.dtype)  # (N, C, outH, outW)
        kernel = weight[:, :, point // kernel_w, point % kernel_w, None, None]
        part = F.conv2d(samples, kernel)  # (N, C_out, outH, outW)
        total = part if total is None else total + part
    assert total is not None
    return total if bias is None else total + bias[:, None, None]


def pad_clip(clip: Tensor, multiple_of: int, at_least: int) -> Tensor:
    """Pad a clip at its bottom and right by repeating the edge.

    Args:
        clip: (N, T, C, H, W).
        multiple_of: Height and width become multiples of this.
        at_least: Height and width become at least this many pixels.
    """
    n, t, c, h, w = clip.shape
    bottom, right = (max(-(-size // multiple_of) * multiple_of, at_least) - size for size in (h, w))
    if not (bottom or right):
        return clip
    grown = F.pad(clip.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
    return grown.reshape(n, t, c, h + bottom, w + right)


def basicsr_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict under BasicSR's names, from either of the two code bases.

    mmediting and mmagic write `generator.` before every name, wrap SPyNet's convolutions, and have
    other names for the up-convolutions and for BasicVSR's branches; what else is in such a file
    (step counter, moving average, discriminator) is skipped. An empty dict when two tensors would
    get the same name.
    """
    wanted = {
        name.removeprefix("module."): tensor
        for name, tensor in state.items()
        if not name.removeprefix("module.").startswith(LEFTOVERS)
    }
    renamed: dict[str, Tensor] = {}
    for published, tensor in wanted.items():
        name = published.removeprefix("generator.")
        name = re.sub(
            r"(basic_module\.\d+\.basic_module)\.(\d+)\.conv\.",
            lambda match: f"{match[1]}.{2 * int(match[2])}.",  # ReLUs are not counted there
            name,
        )
        name = re.sub(r"^upsample(\d+)\.upsample_conv\.", r"upconv\1.", name)
        name = re.sub(r"^(backward|forward)_resblocks\.", r"\1_trunk.", name)
        renamed[name] = tensor
    return renamed if len(renamed) == len(wanted) else {}
