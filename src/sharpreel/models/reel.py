"""Reel: a small causal recurrent network for streaming video super-resolution.

Source: the cell of RLSP (Fuoli et al., "Efficient Video Super-Resolution through
Recurrent Latent Space Propagation", ICCV Workshops 2019; code github.com/dariofuoli/RLSP), whose
idea is to pass a hidden state and the last output in sub-pixel form to the next frame, at low
resolution, without optical flow. What we changed: no future frame is needed; the input can be
pixel-unshuffled (RT4KSR, Zamfir et al. 2023) so that the convolutions run on a quarter of the
pixels; body convolutions keep an identity path, folded into the kernel (as in QuickSRNet,
Berger et al. 2023), which also keeps plain ReLU stacks alive at high learning rates; the residual
is added to MATLAB's bicubic instead of a nearest-neighbour anchor; the state is clamped to
[-1, 1], which bounds it over any number of frames and suits integers. Weights are our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel import ops

GREY = 128 / 255  # the value of zero padding: a byte, so that integers agree with floats


class BicubicBase(nn.Module):
    """MATLAB's bicubic upscaling by an integer, in sub-pixel form.

    (N, 3, H, W) -> (N, 3 * scale * scale, H, W); `F.pixel_shuffle` turns it into the frame. Under
    autocast it keeps the frame's precision: what a network adds is smaller than bf16's step.
    """

    kernel: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        phases = torch.from_numpy(ops.bicubic_phases(scale))  # (s*s, 5, 5)
        kernel = torch.zeros(3 * scale * scale, 3, 5, 5)
        for channel in range(3):
            block = slice(channel * scale * scale, (channel + 1) * scale * scale)
            kernel[block, channel] = phases
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        # Mirror two pixels at each edge: c b a | a b c, as imresize does.
        rows = torch.cat([frame[:, :, :2].flip(2), frame, frame[:, :, -2:].flip(2)], dim=2)
        both = torch.cat([rows[..., :2].flip(3), rows, rows[..., -2:].flip(3)], dim=3)
        device = frame.device.type
        if not torch.amp.is_autocast_available(device):  # such as meta
            return F.conv2d(both, self.kernel)
        with torch.autocast(device, enabled=False):
            return F.conv2d(both, self.kernel)


class Bicubic(nn.Module):
    """The baseline as a network: bicubic upscaling frame by frame, without parameters."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.base = BicubicBase(scale)

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W) -> (N, T, 3, sH, sW), not clamped."""
        n, t, c, h, w = clip.shape
        sr = F.pixel_shuffle(self.base(clip.flatten(0, 1)), self.scale)
        return sr.reshape(n, t, c, h * self.scale, w * self.scale)


class Cell(nn.Module):
    """The recurrent cell: 3x3 -> blocks * 3x3 -> 3x3, its output clamped to [-1, 1].

    Args:
        channels_in: Channels of the input.
        channels: Width of the body.
        blocks: Body convolutions between the first and the last.
        channels_out: Channels of the output.
    """

    identity: Tensor

    def __init__(self, channels_in: int, channels: int, blocks: int, channels_out: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels_in, channels, 3, padding=1)
        convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks)]
        self.body = nn.ModuleList(convs)
        self.tail = nn.Conv2d(channels, channels_out, 3, padding=1)
        identity = torch.zeros(channels, channels, 3, 3)
        nn.init.dirac_(identity)
        self.register_buffer("identity", identity, persistent=False)
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data *= 0.3
            conv.bias.data.zero_()  # type: ignore[union-attr]
        self.tail.bias.data.zero_()  # type: ignore[union-attr]

    def run_cell(self, *parts: Tensor) -> Tensor:
        """Tensors (N, C, H, W) of `channels_in` channels in total -> (N, channels_out, H, W)."""
        x = F.relu(self.head(torch.cat(parts, dim=1)))
        for conv in cast("Iterable[nn.Conv2d]", self.body):
            x = F.relu(F.conv2d(x, conv.weight + self.identity, conv.bias, padding=1))
        out: Tensor = self.tail(x).clamp(-1, 1)
        return out


class Reel(Cell):
    """The recurrent cell and its unrolling over a clip.

    One step, at 1/unshuffle of the low resolution:

        x_t, x_t-1, (residual, hidden)_t-1 -> 3x3 -> blocks * 3x3 -> 3x3 -> (residual, hidden)_t
        sr_t = pixel_shuffle(bicubic(x_t) + residual_t)

    Args:
        scale: Integer scale.
        channels: Width of the body and of the hidden state.
        blocks: Body convolutions between the first and the last.
        unshuffle: Side of the pixel blocks that are folded into channels; frame height and width
            must be multiples of it.
    """

    def __init__(
        self, scale: int = 2, channels: int = 32, blocks: int = 5, unshuffle: int = 2
    ) -> None:
        folded = 3 * unshuffle**2  # channels of one unshuffled frame
        residual = 3 * (scale * unshuffle) ** 2  # channels of the residual
        super().__init__(2 * folded + residual + channels, channels, blocks, residual + channels)
        self.scale, self.channels, self.unshuffle = scale, channels, unshuffle
        self.residual_channels = residual
        self.base = BicubicBase(scale)
        nn.init.zeros_(self.tail.weight[:residual])  # at step 0 the output is bicubic exactly

    def zero_state(self, frame: Tensor) -> Tensor:
        """The state before a first frame (N, 3, H, W): that frame, and a zero output."""
        n, _, h, w = frame.shape
        u = self.unshuffle
        output = frame.new_zeros(n, self.residual_channels + self.channels, h // u, w // u)
        return torch.cat([F.pixel_unshuffle(frame, u) - GREY, output], dim=1)

    def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One frame (N, 3, H, W) in [0, 1] and the state -> (N, 3, sH, sW), the next state.

        The state is the folded frame and the cell's output, (N, C, H / unshuffle, W / unshuffle).
        The output frame is not clamped: that is done where it is rounded.
        """
        folded = F.pixel_unshuffle(frame, self.unshuffle) - GREY
        output = self.run_cell(folded, state)
        residual = F.pixel_shuffle(output[:, : self.residual_channels], self.unshuffle)
        sr = F.pixel_shuffle(self.base(frame) + residual, self.scale)
        return sr, torch.cat([folded, output], dim=1)

    def forward(self, clip: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A clip (N, T, 3, H, W) in [0, 1] -> (N, T, 3, sH, sW), the state after its last frame."""
        if state is None:
            state = self.zero_state(clip[:, 0])
        sr = []
        for frame in clip.unbind(1):
            sr_frame, state = self.step(frame, state)
            sr.append(sr_frame)
        return torch.stack(sr, dim=1), state
