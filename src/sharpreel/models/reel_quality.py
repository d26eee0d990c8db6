"""ReelQuality: the cell of Reel in both directions of time, for a picture that may wait.

Plain 3x3 convolutions alone, as in NanoVSR (2026) and unlike BasicVSR: no optical flow, no warping,
no deformable convolution, so it runs wherever convolutions do, in half precision too. A first cell
goes through the clip from its end to its beginning and tells each frame what comes; the second is
Reel's, with that as one more input.

    x_0    x_1    x_2         back_t = back(x_t, x_t+1, back_t+1)
     |<-----|<-----|          told_t = forth(x_t, x_t-1, told_t-1, back_t)
     |----->|----->|          sr_t = pixel_shuffle(bicubic(x_t) + residual_t)

It can begin with the weights of a Reel: what is new (the cell that comes back, and further body
convolutions, which are the identity when they are zero) does not change the picture at first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.reel import GREY, BicubicBase, Cell


class ReelQuality(nn.Module):
    """Two cells over a clip.

    Args:
        scale: Integer factor.
        channels: Width of both bodies and of what each frame is told.
        blocks: Body convolutions of each cell.
    """

    def __init__(self, scale: int = 4, channels: int = 64, blocks: int = 11) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.told = 3 * scale**2  # channels of the residual
        self.back = Cell(6 + channels, channels, blocks, channels)
        self.forth = Cell(6 + self.told + 2 * channels, channels, blocks, self.told + channels)
        self.base = BicubicBase(scale)
        nn.init.zeros_(self.forth.tail.weight[: self.told])  # bicubic exactly, at step 0

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W), RGB in [0, 1] -> (N, T, 3, sH, sW), not clamped.

        A frame stands in for the one that is missing at each end.
        """
        n, t, _, h, w = clip.shape
        seen = (clip - GREY).unbind(1)
        after = clip.new_zeros(n, self.channels, h, w)
        coming = []  # last frame first
        for i in reversed(range(t)):
            after = self.back.think(seen[i], seen[min(i + 1, t - 1)], after)
            coming.append(after)
        told = clip.new_zeros(n, self.told + self.channels, h, w)
        pictures = []
        for i in range(t):
            told = self.forth.think(seen[i], seen[max(i - 1, 0)], told, coming.pop())
            residual = told[:, : self.told]
            pictures.append(F.pixel_shuffle(self.base(clip[:, i]) + residual, self.scale))
        return torch.stack(pictures, dim=1)

    def begin_with(self, reel: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a `Reel` of this scale and width, and at most as many blocks, as tensors of
        this network which make the same picture; {} when they are not such."""
        own = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        head = reel.get("head.weight")
        if head is None or head.shape != (self.channels, 6 + self.told + self.channels, 3, 3):
            return {}
        own["forth.head.weight"].zero_()
        own["forth.head.weight"][:, : head.shape[1]] = head
        blocks = len(self.forth.body)
        if f"body.{blocks}.weight" in reel:
            return {}
        for n in range(blocks):
            own[f"forth.body.{n}.weight"].zero_()
            own[f"forth.body.{n}.bias"].zero_()
        for name, tensor in reel.items():
            if name != "head.weight":
                own[f"forth.{name}"] = tensor
        return own
