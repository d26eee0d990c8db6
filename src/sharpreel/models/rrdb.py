"""RRDBNet: the network of ESRGAN and Real-ESRGAN.

Source: ESRGAN (Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial
Networks", ECCV Workshops 2018; code github.com/xinntao/ESRGAN, Apache-2.0) in the form of BasicSR
(github.com/XPixelGroup/BasicSR, `basicsr/archs/rrdbnet_arch.py`, Apache-2.0), which adds scales 2
and 1 by folding pixels into channels first: RealESRGAN_x2plus is one of those.

What we changed: the input is a clip, whose frames are processed one by one; at scales 2 and 1 a
frame whose sides are not multiples of 2 or 4 is padded with its edge pixels and the result cropped,
so that every size works. Besides BasicSR's tensor names those of ESRGAN's first releases are read:
`model.0`, `model.1.sub.{i}.RDB{j}.conv{k}.0` (files named _old_arch) and
`RRDB_trunk.{i}.RDB{j}.conv{k}`, both at scale 4. Old-style files of other scales, where up-steps
are added or removed instead, are another network and are not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import bare, count, fits

FOLDS = {4: 1, 2: 2, 1: 4}  # scale -> pixels folded into channels, per axis


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each fed by all before it; 0.2 of the last is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(channels + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(channels + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(channels + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(channels + 4 * growth, channels, 3, padding=1)
        # A tenth of the usual, as published: 69 of these blocks follow each other.
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data *= 0.1
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = torch.cat([features, F.leaky_relu(conv(features), 0.2)], dim=1)
        residual: Tensor = self.conv5(features)
        return x + 0.2 * residual


class RRDB(nn.Module):
    """Three dense blocks; 0.2 of their result is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth)
        self.rdb2 = DenseBlock(channels, growth)
        self.rdb3 = DenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + 0.2 * residual


class RRDBNet(nn.Module):
    """Frame by frame: dense blocks at low resolution, two nearest-neighbour up-steps.

    Args:
        scale: 4, 2 or 1; at 2 and 1 pixels are folded into channels first, by 2 and 4 per axis.
        channels: Width of the body (`num_feat`).
        blocks: RRDBs (`num_block`): 23, or 6 in RealESRGAN_x4plus_anime_6B.
        growth: Channels each convolution of a dense block adds (`num_grow_ch`).
    """

    def __init__(
        self, scale: int = 4, channels: int = 64, blocks: int = 23, growth: int = 32
    ) -> None:
        super().__init__()
        if scale not in FOLDS:
            raise ValueError(f"scale must be 4, 2 or 1, got {scale}.")
        self.scale, self.fold = scale, FOLDS[scale]
        self.conv_first = nn.Conv2d(3 * self.fold**2, channels, 3, padding=1)
        self.body = nn.Sequential(*[RRDB(channels, growth) for _ in range(blocks)])
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_up1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_up2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_hr = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)

    def upscale(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, sH, sW)."""
        h, w = lr.shape[-2:]
        below, right = -h % self.fold, -w % self.fold
        if below or right:
            lr = F.pad(lr, (0, right, 0, below), mode="replicate")
        x = self.conv_first(F.pixel_unshuffle(lr, self.fold))
        x = x + self.conv_body(self.body(x))
        for conv in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        sr: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))
        return sr[..., : h * self.scale, : w * self.scale]

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W) in [0, 1] -> (N, T, 3, sH, sW), not clamped."""
        n, t, c, h, w = clip.shape
        sr = self.upscale(clip.flatten(0, 1))
        return sr.reshape(n, t, c, h * self.scale, w * self.scale)


_TRUNK = {
    "trunk_conv": "conv_body",
    "upconv1": "conv_up1",
    "upconv2": "conv_up2",
    "HRconv": "conv_hr",
}
_OLD = {
    "model.0": "conv_first",
    "model.3": "conv_up1",
    "model.6": "conv_up2",
    "model.8": "conv_hr",
    "model.10": "conv_last",
}
_DENSE = re.compile(r"(?:RRDB_trunk|model\.1\.sub)\.(\d+)\.RDB([123])\.conv([1-5])(?:\.0)?")


def _modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` under BasicSR's names, whichever of the three styles they came in."""
    blocks = count(tensors, "model.1.sub.", ".RDB1.conv1.0.weight")
    layers = _TRUNK | _OLD | {f"model.1.sub.{blocks}": "conv_body"}
    modern = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        dense = _DENSE.fullmatch(layer)
        if dense is not None:
            layer = f"body.{dense[1]}.rdb{dense[2]}.conv{dense[3]}"
        modern[f"{layers.get(layer, layer)}.{kind}"] = tensor
    return modern


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Arguments of the `RRDBNet` that `state` belongs to, and its tensors; None for another.

    `params` and `params_ema` are for the caller to unwrap.
    """
    tensors = _modern(bare(state))
    if len(tensors) != len(state):  # two styles in one file
        return None
    first, grow = tensors.get("conv_first.weight"), tensors.get("body.0.rdb1.conv1.weight")
    if first is None or grow is None or first.ndim != 4 or grow.ndim != 4:
        return None
    scales = [scale for scale, fold in FOLDS.items() if first.shape[1] == 3 * fold**2]
    if not scales or 0 in first.shape or 0 in grow.shape:
        return None
    arguments = {
        "scale": scales[0],
        "channels": first.shape[0],
        "blocks": count(tensors, "body.", ".rdb1.conv1.weight"),
        "growth": grow.shape[0],
    }
    found = fits(RRDBNet, arguments, tensors)
    return None if found is None else (arguments, found)
