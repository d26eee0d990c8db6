"""BasicVSR: features run through the whole clip, backward then forward, aligned by optical flow.

Paper: Chan, Wang, Yu, Dong and Loy, "BasicVSR: The Search for Essential Components in Video
Super-Resolution and Beyond", CVPR 2021. Original code: github.com/XPixelGroup/BasicSR and
github.com/open-mmlab/mmagic (both Apache-2.0), whose checkpoints load. Our own implementation. What
we changed: 2x, with one up-convolution instead of two; 30 blocks are the default, which all
published weights have (BasicSR's own default is 15); a clip of one frame works; frames smaller than
64 pixels, which mmagic refuses, are padded by repeating the edge and cropped afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import count, fits
from sharpreel.models.layers import ConvResidualBlocks, basicsr_names, flow_warp, pad_clip
from sharpreel.models.spynet import SPyNet

TAIL = 64  # channels after the last up-convolution, whatever the width of the body
SMALLEST = 64  # pixels, of the frames that the flow network sees


class BasicVSR(nn.Module):
    """Two recurrent branches and a per-frame up-sampler.

        back_i = backward_trunk(x_i, warp(back_i+1))        from the last frame to the first
        forth_i = forward_trunk(x_i, warp(forth_i-1))       from the first frame to the last
        sr_i = up(fusion(back_i, forth_i)) + bilinear(x_i)

    6,291,311 parameters with 30 blocks.

    Args:
        channels: Width of the features.
        blocks: Residual blocks in each of the two trunks.
        scale: 2 or 4.
    """

    def __init__(self, channels: int = 64, blocks: int = 30, scale: int = 4) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ValueError(f"scale must be 2 or 4, got {scale}.")
        self.channels, self.scale = channels, scale
        self.spynet = SPyNet()
        self.backward_trunk = ConvResidualBlocks(3 + channels, channels, blocks)
        self.forward_trunk = ConvResidualBlocks(3 + channels, channels, blocks)
        self.fusion = nn.Conv2d(2 * channels, channels, 1)
        # Each up-convolution is followed by a pixel shuffle, which keeps a quarter of its channels.
        if scale == 4:
            self.upconv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
            self.upconv2 = nn.Conv2d(channels, 4 * TAIL, 3, padding=1)
        else:
            self.upconv1 = nn.Conv2d(channels, 4 * TAIL, 3, padding=1)
        self.conv_hr = nn.Conv2d(TAIL, TAIL, 3, padding=1)
        self.conv_last = nn.Conv2d(TAIL, 3, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W), RGB in [0, 1] -> (N, T, 3, sH, sW), not clamped."""
        h, w = clip.shape[-2:]
        clip = pad_clip(clip, multiple_of=1, at_least=SMALLEST)
        n, t, _, grown_h, grown_w = clip.shape
        to_next, to_previous = self.spynet.along(clip)
        frames = clip.unbind(1)

        state = clip.new_zeros(n, self.channels, grown_h, grown_w)
        back: list[Tensor] = []  # last frame first
        for i in reversed(range(t)):
            if i < t - 1:
                state = flow_warp(state, to_next[:, i])
            state = self.backward_trunk(torch.cat([frames[i], state], dim=1))
            back.append(state)

        state = torch.zeros_like(state)
        sr = []
        for i in range(t):
            if i > 0:
                state = flow_warp(state, to_previous[:, i - 1])
            state = self.forward_trunk(torch.cat([frames[i], state], dim=1))
            enlarged = self.enlarge(frames[i], torch.cat([back.pop(), state], dim=1))
            sr.append(enlarged[..., : h * self.scale, : w * self.scale])
        return torch.stack(sr, dim=1)

    def enlarge(self, frame: Tensor, feat: Tensor) -> Tensor:
        """A frame (N, 3, H, W) and its features from both branches -> (N, 3, sH, sW)."""
        feat = F.leaky_relu(self.fusion(feat), 0.1)
        feat = F.leaky_relu(F.pixel_shuffle(self.upconv1(feat), 2), 0.1)
        if self.scale == 4:
            feat = F.leaky_relu(F.pixel_shuffle(self.upconv2(feat), 2), 0.1)
        feat = F.leaky_relu(self.conv_hr(feat), 0.1)
        residual: Tensor = self.conv_last(feat)
        base = F.interpolate(frame, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return base + residual


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """(arguments of BasicVSR, its state) if this is a checkpoint of it, else None."""
    named = basicsr_names(state)
    fusion = named.get("fusion.bias")
    if fusion is None or fusion.ndim != 1 or not len(fusion):
        return None
    arguments = {
        "channels": len(fusion),
        "blocks": count(named, "backward_trunk.main.2.", ".conv1.weight"),
        "scale": 4 if "upconv2.weight" in named else 2,
    }
    tensors = fits(BasicVSR, arguments, named)
    return None if tensors is None else (arguments, tensors)
