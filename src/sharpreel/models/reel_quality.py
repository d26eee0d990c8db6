"""ReelQuality: the cell of Reel in both directions of time, for video that is not live.

Only plain 3x3 convolutions, as in NanoVSR (2026) and unlike BasicVSR: no optical flow, no warping,
no deformable convolution, so it runs wherever convolutions do, in half precision too. A first cell
runs through the clip from its end to its beginning and passes each frame information about the
frames after it; the second cell is Reel's, with that as one more input.

    x_0    x_1    x_2         back_t = back(x_t, x_t+1, back_t+1)
     |<-----|<-----|          out_t  = forth(x_t, x_t-1, out_t-1, back_t)
     |----->|----->|          sr_t   = pixel_shuffle(bicubic(x_t) + residual_t)

It can start from the weights of a Reel: what is new (the backward cell, and further body
convolutions, which are the identity when they are zero) does not change the output at first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.reel import GREY, BicubicBase, Cell


class ReelQuality(nn.Module):
    """Two cells that run over a clip, backward and forward.

    Args:
        scale: Integer scale.
        channels: Width of both bodies and of the backward cell's output.
        blocks: Body convolutions of each cell.
    """

    def __init__(self, scale: int = 4, channels: int = 64, blocks: int = 11) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.residual_channels = 3 * scale**2
        self.back = Cell(6 + channels, channels, blocks, channels)
        output = self.residual_channels + channels
        self.forth = Cell(6 + output + channels, channels, blocks, output)
        self.base = BicubicBase(scale)
        nn.init.zeros_(self.forth.tail.weight[: self.residual_channels])  # bicubic at step 0

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W), RGB in [0, 1] -> (N, T, 3, sH, sW), not clamped.

        At each end the frame itself replaces its missing neighbour.
        """
        n, t, _, h, w = clip.shape
        frames = (clip - GREY).unbind(1)
        backward = clip.new_zeros(n, self.channels, h, w)
        backwards = []  # last frame first
        for i in reversed(range(t)):
            backward = self.back.run_cell(frames[i], frames[min(i + 1, t - 1)], backward)
            backwards.append(backward)
        output = clip.new_zeros(n, self.residual_channels + self.channels, h, w)
        sr = []
        for i in range(t):
            output = self.forth.run_cell(frames[i], frames[max(i - 1, 0)], output, backwards.pop())
            residual = output[:, : self.residual_channels]
            sr.append(F.pixel_shuffle(self.base(clip[:, i]) + residual, self.scale))
        return torch.stack(sr, dim=1)

    def begin_with(self, reel: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of this network that give the same output as the weights of a `Reel`.

        The Reel must have this scale and width, and at most as many blocks; {} when it has not.
        """
        own = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        head = reel.get("head.weight")
        if head is None or head.shape != (
            self.channels,
            6 + self.residual_channels + self.channels,
            3,
            3,
        ):
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
