"""SPyNet: optical flow by a pyramid of six small networks, as BasicVSR and BasicVSR++ use it.

Paper: Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017. The
form is that of BasicSR (github.com/XPixelGroup/BasicSR, Apache-2.0), which after mmediting took it
from Niklaus's pytorch-spynet: six levels instead of five, inputs normalised by ImageNet's mean and
deviation, warped with border padding. Our own implementation. What we changed: the coarsest level
starts from a flow of its own size, so frames of any size work, not only those above 32 pixels; a
clip's flows are computed a few frames at a time, which bounds the memory; and the second direction
of a mirror-extended clip is the first one reversed, as in the BasicVSR++ code (whose flag for it,
once set, stays set for every later clip; ours is checked for each).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import fits
from sharpreel.models.layers import basicsr_names, flow_warp

LEVELS = 6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
PIXELS_AT_ONCE = 2**19  # of frames in one batch: about 300 MB at the widest layer


class Level(nn.Module):
    """One level: reference, warped neighbour, flow so far (8 channels) -> correction of it."""

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 32, 64, 32, 16, 2)
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Conv2d(wide_in, wide_out, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        flow: Tensor = self.basic_module(inputs)
        return flow


class SPyNet(nn.Module):
    """Optical flow between two frames, 1,440,300 parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList([Level() for _ in range(LEVELS)])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Where the pixels of frame a are in b.

        Args:
            a, b: Frames, (N, 3, H, W), RGB in [0, 1].

        Returns:
            `flow_ab`, (N, 2, H, W), in pixels; channel 0 right, 1 down.
        """
        h, w = a.shape[-2:]
        size = (-(-h // 32) * 32, -(-w // 32) * 32)
        flow = self.pyramid(
            F.interpolate(a, size=size, mode="bilinear", align_corners=False),
            F.interpolate(b, size=size, mode="bilinear", align_corners=False),
        )
        flow = F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor([w / size[1], h / size[0]]).view(1, 2, 1, 1)

    def pyramid(self, a: Tensor, b: Tensor) -> Tensor:
        """`flow_ab` for sizes that are multiples of 32: each level corrects the coarser one."""
        pairs = [((a - self.mean) / self.std, (b - self.mean) / self.std)]
        for _ in range(LEVELS - 1):
            pairs.append((F.avg_pool2d(pairs[-1][0], 2), F.avg_pool2d(pairs[-1][1], 2)))
        n, _, h, w = pairs[-1][0].shape
        flow = a.new_zeros(n, 2, h, w)
        for level, (near, far) in zip(self.basic_module, reversed(pairs), strict=True):
            if near.shape[-2:] != flow.shape[-2:]:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            inputs = torch.cat([near, flow_warp(far, flow, padding="border"), flow], dim=1)
            flow = flow + level(inputs)
        return flow

    def along(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The flows between neighbours in a clip, in both directions.

        Args:
            clip: (N, T, 3, H, W).

        Returns:
            to_next, (N, T - 1, 2, H, W), where entry i leads from frame i to frame i + 1, and
            to_previous, of the same shape, where entry i leads from frame i + 1 to frame i.
        """
        n, t, c, h, w = clip.shape
        if t == 1:
            none = clip.new_zeros(n, 0, 2, h, w)
            return none, none
        earlier = clip[:, :-1].reshape(n * (t - 1), c, h, w)
        later = clip[:, 1:].reshape(n * (t - 1), c, h, w)
        to_next = self.batched(earlier, later).reshape(n, t - 1, 2, h, w)
        if t % 2 == 0 and torch.equal(clip[:, : t // 2], clip[:, t // 2 :].flip(1)):
            return to_next, to_next.flip(1)
        return to_next, self.batched(later, earlier).reshape(n, t - 1, 2, h, w)

    def batched(self, a: Tensor, b: Tensor) -> Tensor:
        """`forward` for any number of pairs, `PIXELS_AT_ONCE` at a time."""
        pairs = max(1, PIXELS_AT_ONCE // (a.shape[-2] * a.shape[-1]))
        parts = zip(torch.split(a, pairs), torch.split(b, pairs), strict=True)
        return torch.cat([self(some, other) for some, other in parts])


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """(arguments of SPyNet: none, its state) if this is a checkpoint of it, else None.

    The published files of SPyNet alone lack `mean` and `std`, which are added.
    """
    named = basicsr_names(state)
    if not any(name.startswith("basic_module.") for name in named):
        return None
    buffers = {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}
    tensors = {name: buffer.view(1, 3, 1, 1) for name, buffer in buffers.items()} | named
    found = fits(SPyNet, {}, tensors)
    return None if found is None else ({}, found)
