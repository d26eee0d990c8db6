"""SRVGGNetCompact: the small networks of Real-ESRGAN (animevideov3, general-x4v3).

Source: Real-ESRGAN (Wang et al., "Real-ESRGAN: Training Real-World Blind
Super-Resolution with Pure Synthetic Data", ICCV Workshops 2021; code
github.com/xinntao/Real-ESRGAN, `realesrgan/archs/srvgg_arch.py`, BSD-3-Clause). A stack of 3x3
convolutions at low resolution, one pixel shuffle, added to the frame upscaled by nearest
neighbour; realesr-animevideov3 has 16 convolutions in the body, realesr-general-x4v3 and its
-wdn- sibling 32.

What we changed: the input is a clip, whose frames are processed one by one. PReLU only: networks
trained with ReLU or LeakyReLU have no tensors to distinguish the two, and none was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import bare, count, fits


class SRVGG(nn.Module):
    """Frame by frame: sr = pixel_shuffle(convolutions(lr)) + nearest(lr).

    Args:
        scale: Integer scale.
        channels: Width of the body (`num_feat`).
        convs: Convolutions between the first and the last (`num_conv`).
    """

    def __init__(self, scale: int = 4, channels: int = 64, convs: int = 16) -> None:
        super().__init__()
        self.scale, self.channels, self.convs = scale, channels, convs
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels)]
        for _ in range(convs):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
        layers.append(nn.Conv2d(channels, 3 * scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def upscale(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, sH, sW)."""
        base = F.interpolate(lr, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(self.body(lr), self.scale) + base

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W) in [0, 1] -> (N, T, 3, sH, sW), not clamped."""
        n, t, c, h, w = clip.shape
        sr = self.upscale(clip.flatten(0, 1))
        return sr.reshape(n, t, c, h * self.scale, w * self.scale)


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Arguments of the `SRVGG` that `state` belongs to, and its tensors; None for another.

    `params` and `params_ema` are for the caller to unwrap.
    """
    tensors = bare(state)
    biases = count(tensors, "body.", ".bias")  # convolutions: first, body, last
    if biases < 2:
        return None
    first, last = tensors.get("body.0.bias"), tensors.get(f"body.{2 * (biases - 1)}.bias")
    if first is None or last is None or first.ndim != 1 or last.ndim != 1:
        return None
    scale = isqrt(last.shape[0] // 3)
    if scale < 1 or first.shape[0] < 1:
        return None
    arguments = {"scale": scale, "channels": first.shape[0], "convs": biases - 2}
    found = fits(SRVGG, arguments, tensors)
    return None if found is None else (arguments, found)
