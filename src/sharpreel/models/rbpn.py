"""RBPN: recurrent back-projection, a target frame corrected by one neighbour after the other.

Paper: M. Haris, G. Shakhnarovich, N. Ukita, "Recurrent Back-Projection Network for Video
Super-Resolution", CVPR 2019. Original code: github.com/alterzero/RBPN-PyTorch, MIT licence; the
same network is the generator of iSeeBetter (github.com/amanchadha/iSeeBetter, MIT), and the
denoise form is that of its fork github.com/yasue32/afm-denoise. Layers and tensor names are the
published ones, so their weights load; the code is our own. What we changed:

- Any integer scale: kernel scale + 4, stride scale, padding 2 (the original knows 2, 4 and 8); at
  scale 1 kernel 3, stride 1, padding 1, as in the fork.
- `num_stages` is gone: the original's graph is fixed, and only 3 works.
- The last convolution adds each neighbour's part as soon as it is computed, so that memory does not
  grow with the number of neighbours; the unused last step back to low resolution is skipped.
- A calmer initialisation by default, see `_calm`; the published one is `init="published"`.
- Residual mode adds our bicubic (MATLAB's kernel, mirrored edges, floats). The original
  adds PIL's, rounded to 8 bits: the same kernel, but cut off at the edges.

Where descriptions and code disagree we follow the code: 12,771,943 parameters at 4x, where tables
say 12.2 M; the denoise form works at scale 2 inside with a strided last convolution, where its
page speaks of scale 1.

Windows share nothing worth caching. Flow is estimated once for each ordered pair of frames, and an
ordered pair (target, neighbour) is in one window only; `feat0` is computed once for each target;
`feat1` sees target, neighbour and flow together. A neighbour's part of `feat1` is linear and could
be cached, but is 0.03 % of the work at 4x.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import fits
from sharpreel.models.flow import Method, estimate_flow
from sharpreel.models.layers import enlarge, window_times


class ConvBlock(nn.Module):
    """A convolution, with a one-slope PReLU after it or none."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.act = nn.PReLU() if act else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.act is None else self.act(x)


class DeconvBlock(nn.Module):
    """A transposed convolution and its one-slope PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.deconv(x))
        return out


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions beside an identity; one PReLU serves inside and after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.conv2(self.act(self.conv1(x))))
        return out


class UpBlock(nn.Module):
    """Upscale, downscale again, and add the upscaled error: lr -> hr features."""

    def __init__(self, channels: int, geometry: tuple[int, int, int]) -> None:
        super().__init__()
        self.up_conv1 = DeconvBlock(channels, channels, *geometry)
        self.up_conv2 = ConvBlock(channels, channels, *geometry)
        self.up_conv3 = DeconvBlock(channels, channels, *geometry)

    def forward(self, x: Tensor) -> Tensor:
        hr = self.up_conv1(x)
        out: Tensor = self.up_conv3(self.up_conv2(hr) - x) + hr
        return out


class DownBlock(nn.Module):
    """The mirror image of UpBlock: hr -> lr features."""

    def __init__(self, channels: int, geometry: tuple[int, int, int]) -> None:
        super().__init__()
        self.down_conv1 = ConvBlock(channels, channels, *geometry)
        self.down_conv2 = DeconvBlock(channels, channels, *geometry)
        self.down_conv3 = ConvBlock(channels, channels, *geometry)

    def forward(self, x: Tensor) -> Tensor:
        lr = self.down_conv1(x)
        out: Tensor = self.down_conv3(self.down_conv2(lr) - x) + lr
        return out


class DBPN(nn.Module):
    """Back-projection of one frame's features, three times up and twice down."""

    def __init__(self, base_filter: int, feat: int, geometry: tuple[int, int, int]) -> None:
        super().__init__()
        self.feat1 = ConvBlock(base_filter, feat, 1, 1, 0)
        self.up1 = UpBlock(feat, geometry)
        self.down1 = DownBlock(feat, geometry)
        self.up2 = UpBlock(feat, geometry)
        self.down2 = DownBlock(feat, geometry)
        self.up3 = UpBlock(feat, geometry)
        self.output = ConvBlock(3 * feat, feat, 1, 1, 0, act=False)

    def forward(self, x: Tensor) -> Tensor:
        h1 = self.up1(self.feat1(x))
        h2 = self.up2(self.down1(h1))
        h3 = self.up3(self.down2(h2))
        out: Tensor = self.output(torch.cat([h3, h2, h1], dim=1))
        return out


class RBPN(nn.Module):
    """The network. All neighbours share weights; only `output` depends on their number.

        F = feat0(target)
        for each neighbour j:  h = DBPN(F) ;  H_j = h + res_feat2(h - res_feat1(feat1(j)))
                               F = res_feat3(H_j)
        sr = output(H_1, H_2, ...)

    Neighbours are visited in the order of the published networks:

        7 frames     t-3 t-2 t-1 t+1 t+2 t+3
        6 frames     t-3 t-2 t-1 t+1 t+2
        past only    t-1 t-2 t-3 ...

    Args:
        scale: Scale of the back-projection, and of the output unless `denoise`.
        num_frames: The target and its neighbours, 2 or more.
        channels: Of a frame: 3, or 1 for grey.
        base_filter, feat: Width of the low-resolution and of the other features.
        resblocks: Residual blocks in each of the three stacks.
        past_only: All neighbours precede the target.
        residual: The network adds to the bicubic upscaling. Weights suit one of the two modes.
        denoise: The last convolution has stride `scale`: the output is as large as the input.
        init: "calm", or "published", which explodes (see `_calm`).
        flow: How flows are estimated when they are not passed. The published weights were trained
            with "coarse2fine", which is about fifty times slower than "dis".
    """

    def __init__(
        self,
        scale: int = 4,
        num_frames: int = 7,
        channels: int = 3,
        base_filter: int = 256,
        feat: int = 64,
        resblocks: int = 5,
        past_only: bool = False,
        residual: bool = False,
        denoise: bool = False,
        init: Literal["calm", "published"] = "calm",
        flow: Method = "dis",
    ) -> None:
        super().__init__()
        if scale < 1 or num_frames < 2:
            raise ValueError(
                f"RBPN needs a scale of 1 or more and 2 frames or more, "
                f"got scale {scale} and {num_frames} frames."
            )
        geometry = (scale + 4, scale, 2) if scale > 1 else (3, 1, 1)
        self.scale = 1 if denoise else scale
        self.past = num_frames - 1 if past_only else num_frames // 2
        self.future = num_frames - 1 - self.past
        visits = range(num_frames - 1)  # positions in the window without its target
        self.visits = list(reversed(visits)) if past_only else list(visits)
        self.channels, self.feat, self.residual, self.flow = channels, feat, residual, flow

        self.feat0 = ConvBlock(channels, base_filter, 3, 1, 1)
        self.feat1 = ConvBlock(2 * channels + 2, base_filter, 3, 1, 1)
        self.DBPN = DBPN(base_filter, feat, geometry)
        self.res_feat1 = nn.Sequential(
            *(ResnetBlock(base_filter) for _ in range(resblocks)),
            DeconvBlock(base_filter, feat, *geometry),
        )
        self.res_feat2 = nn.Sequential(
            *(ResnetBlock(feat) for _ in range(resblocks)), ConvBlock(feat, feat, 3, 1, 1)
        )
        self.res_feat3 = nn.Sequential(
            *(ResnetBlock(feat) for _ in range(resblocks)), ConvBlock(feat, base_filter, *geometry)
        )
        last = geometry if denoise else (3, 1, 1)
        self.output = ConvBlock((num_frames - 1) * feat, channels, *last, act=False)
        if init not in ("calm", "published"):
            raise ValueError(f"init must be 'calm' or 'published', got {init!r}.")
        (_calm if init == "calm" else _published)(self)

    def forward(self, clip: Tensor) -> Tensor:
        """A clip (N, T, C, H, W) in [0, 1] -> (N, T, C, sH, sW), not clamped.

        At the clip's ends the target replaces its missing neighbours, with flow 0.
        """
        return self.along(clip, 0, clip.shape[1])

    def along(self, clip: Tensor, first: int, count: int, flows: Tensor | None = None) -> Tensor:
        """Frames first, first + 1, ... of (N, T, C, H, W) -> (N, count, C, sH, sW), not clamped.

        Args:
            flows: As `flows` returns them; estimated when None.
        """
        if flows is None:
            flows = self.flows(clip, first, count)
        sr = [self.centre(clip[:, self._times(clip, first + k)], flows[:, k]) for k in range(count)]
        return torch.stack(sr, dim=1)

    def flows(self, clip: Tensor, first: int, count: int) -> Tensor:
        """The flow from each target to its neighbours, which `along` needs of whole frames.

        (N, T, C, H, W) -> (N, count, past + future, 2, H, W) in lr pixels, oldest neighbour first;
        0 where the target replaces a missing neighbour.
        """
        flows = []
        for now in range(first, first + count):
            times = self._times(clip, now)
            flows.append(self._flows(clip, now, times[: self.past] + times[self.past + 1 :]))
        return torch.stack(flows, dim=1)

    def _times(self, clip: Tensor, now: int) -> list[int]:
        return window_times(clip.shape[1], now, self.past, self.future)

    def _flows(self, clip: Tensor, target: int, neighbours: list[int]) -> Tensor:
        """From the target to each neighbour: (N, K, 2, H, W), 0 where that is the target."""
        n, _, _, h, w = clip.shape
        flows = clip.new_zeros(n, len(neighbours), 2, h, w)
        moved = [k for k, time in enumerate(neighbours) if time != target]
        if moved:
            others = clip[:, [neighbours[k] for k in moved]]  # (N, K', C, H, W)
            flows[:, moved] = self._estimate(clip[:, target, None].expand_as(others), others)
        return flows

    def _estimate(self, a: Tensor, b: Tensor) -> Tensor:
        """Flow of many pairs: (N, K, C, H, W) twice -> (N, K, 2, H, W)."""
        n, k, c, h, w = a.shape
        repeat = 3 if c == 1 else 1  # flow is estimated on RGB
        first, second = (x.flatten(0, 1).repeat(1, repeat, 1, 1) for x in (a, b))
        with torch.no_grad():
            return estimate_flow(first, second, self.flow).reshape(n, k, 2, h, w)

    @property
    def grey(self) -> bool:
        """Does it take frames of one channel?"""
        return self.channels == 1

    def centre(self, window: Tensor, flows: Tensor | None = None) -> Tensor:
        """Upscale the target frame of a window.

        Args:
            window: (N, past + 1 + future, C, H, W) in [0, 1], oldest first.
            flows: From the target to each other frame of the window, oldest first,
                (N, past + future, 2, H, W) in lr pixels; estimated when None.

        Returns:
            (N, C, sH, sW), not clamped.
        """
        n, t, c, h, w = window.shape
        if (t, c) != (len(self.visits) + 1, self.channels):
            raise ValueError(
                f"This RBPN takes windows of {len(self.visits) + 1} frames with {self.channels} "
                f"channels, got {tuple(window.shape)}."
            )
        target = window[:, self.past]
        neighbours = torch.cat([window[:, : self.past], window[:, self.past + 1 :]], dim=1)
        if flows is None:
            same = [torch.equal(frame, target) for frame in neighbours.unbind(1)]
            times = [k + (k >= self.past) for k in range(t - 1)]
            neighbour_times = [self.past if s else k for k, s in zip(times, same, strict=True)]
            flows = self._flows(window, self.past, neighbour_times)
        if flows.shape != (n, t - 1, 2, h, w):
            raise ValueError(
                f"flows must be {(n, t - 1, 2, h, w)} to match the window, "
                f"got {tuple(flows.shape)}."
            )
        output = self.output.conv
        shares = torch.split(output.weight, self.feat, dim=1)  # of each H_j in the last convolution
        sr = enlarge(target, self.scale) if self.residual else None
        hr = None
        for k, share in zip(self.visits, shares, strict=True):
            features = self.feat0(target) if hr is None else self.res_feat3(hr)
            pair = self.feat1(torch.cat([target, neighbours[:, k], flows[:, k]], dim=1))
            single = self.DBPN(features)
            bias = output.bias if hr is None else None  # once
            hr = single + self.res_feat2(single - self.res_feat1(pair))
            part = F.conv2d(hr, share, bias, output.stride, output.padding)
            sr = part if sr is None else sr + part
        assert sr is not None
        return sr


def _convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def _published(network: nn.Module) -> None:
    """The original's initialisation: He's normal everywhere, biases 0. It explodes, see `_calm`."""
    for conv in _convolutions(network):
        nn.init.kaiming_normal_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)


def _calm(network: RBPN) -> None:
    """Initialise so that features keep their magnitude from neighbour to neighbour.

    The published one multiplies them by about 35 per neighbour, and a new network returns 1e7 and
    more: every residual block and every back-projection adds a branch as strong as what it is
    added to. Here the last layer of each such branch starts small (Fixup's idea; Zhang et al.,
    ICLR 2019), the fan-in of a transposed convolution is the number of inputs per output, and the
    last convolution starts small, too.
    """
    for conv in _convolutions(network):
        fan_in = float(conv.in_channels * math.prod(conv.kernel_size))
        if isinstance(conv, nn.ConvTranspose2d):
            fan_in /= math.prod(conv.stride)
        slope = 0.25  # of a new PReLU
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (1 + slope**2) / fan_in))
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    branches: list[nn.Module] = [network.output, network.res_feat2[-1]]
    for module in network.modules():
        match module:
            case ResnetBlock():
                branches.append(module.conv2)
            case UpBlock():
                branches.append(module.up_conv3)
            case DownBlock():
                branches.append(module.down_conv3)
    with torch.no_grad():
        for branch in branches:
            for conv in _convolutions(branch):
                conv.weight.mul_(0.1)


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Arguments of the `RBPN` that a state dict belongs to, and the state under our names, or None.

    Scale, frames, channels, widths, blocks and the denoise form are read from the shapes. What
    cannot be inferred has its default: neighbours on both sides, no residual, and 1x is never
    "denoise", which is the same network there.

    Returns:
        (arguments of RBPN, state without the prefix `module.`), or None when the tensors are not
        exactly those of an RBPN.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    landmarks = ("feat0.conv.weight", "DBPN.up1.up_conv1.deconv.weight", "output.conv.weight")
    if len(plain) < len(state) or any(
        name not in plain or plain[name].ndim != 4 or 0 in plain[name].shape for name in landmarks
    ):
        return None
    first, up, last = (tuple(plain[name].shape) for name in landmarks)
    base_filter, channels = first[:2]
    feat, kernel = up[0], up[2]
    scale = 1 if kernel == 3 else kernel - 4
    resblocks = 0
    while f"res_feat1.{resblocks}.conv1.weight" in plain:
        resblocks += 1
    if kernel < 3 or scale < 1 or kernel == 5 or last[1] % feat:
        return None
    arguments: dict[str, Any] = {
        "scale": scale,
        "num_frames": last[1] // feat + 1,
        "channels": channels,
        "base_filter": base_filter,
        "feat": feat,
        "resblocks": resblocks,
        "denoise": scale > 1 and last[2] == kernel,
    }
    found = fits(RBPN, arguments, plain)
    return None if found is None else (arguments, found)
