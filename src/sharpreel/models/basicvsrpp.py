"""BasicVSR++: four runs through the clip, each aligned to two frames by deformable convolution.

Paper: Chan, Zhou, Xu and Loy, "BasicVSR++: Improving Video Super-Resolution with Enhanced
Propagation and Alignment", CVPR 2022; restoration without enlarging: the same authors, "On the
Generalization of BasicVSR++ to Video Deblurring and Denoising", 2022. Original code:
github.com/ckkelvinchan/BasicVSR_PlusPlus and github.com/XPixelGroup/BasicSR (both Apache-2.0),
whose checkpoints load. Our own implementation. What we changed: deformable convolution needs no
compiled operator and is never skipped (BasicSR builds the network without its alignment when CUDA
is missing, and then cannot load the weights); the clip is enlarged by 2 as well, with one
up-convolution instead of two; a clip of one frame works; frames of any size work, by repeating the
edge and cropping (the original requires 64 pixels for the flow, and multiples of 4 where it
shrinks); features are not moved to the CPU in long clips, since the engine limits clip lengths.

Conflict: the authors' words on their "2x" weights, whose code was never published, are "remove one
strided conv and one pixel-shuffling". Taken literally that is restoration at half size (scale 1,
shrink 2), since only restoration has strided convolutions; without them it is 2x enlarging. Both
are here, and the names in a checkpoint tell which it is. In both, `upconv1` is the one that stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import count, fits
from sharpreel.models.layers import (
    ConvResidualBlocks,
    basicsr_names,
    deform_conv2d,
    flow_warp,
    pad_clip,
)
from sharpreel.models.spynet import SPyNet

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
OFFSET_GROUPS = 16
POINTS = 9  # of a 3x3 kernel
TAIL = 64  # channels after the last up-convolution, whatever the width of the body
SMALLEST = 64  # pixels, of the frames that the flow network sees


class SecondOrderAlignment(nn.Module):
    """Aligns the features of the last two frames with this one.

    Deformable convolution whose points are moved by the optical flow plus a learned residue; the
    first half of the offset groups samples the last frame, the second half the one before.

    Args:
        channels: Width of one frame's features, a multiple of 8.
        max_residue: Pixels by which the learned part can move a point.
    """

    def __init__(self, channels: int, max_residue: float = 10) -> None:
        super().__init__()
        self.max_residue = max_residue
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        reach = (2 * channels * POINTS) ** -0.5
        nn.init.uniform_(self.weight, -reach, reach)
        last = nn.Conv2d(channels, 3 * POINTS * OFFSET_GROUPS, 3, padding=1)
        # At step 0 nothing is learned: points are where the flow points, with weight one half.
        nn.init.zeros_(last.weight)
        last.bias.data.zero_()  # type: ignore[union-attr]
        self.conv_offset = nn.Sequential(
            nn.Conv2d(3 * channels + 4, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            last,
        )

    def forward(self, feats: Tensor, cond: Tensor, flow_1: Tensor, flow_2: Tensor) -> Tensor:
        """The aligned features, (N, C, H, W).

        Args:
            feats: Features of the last frame and of the one before, not aligned, (N, 2C, H, W).
            cond: What the residue is predicted from, (N, 3C, H, W): last frame warped, this frame,
                frame before the last warped.
            flow_1, flow_2: From this frame to the last and to the one before, (N, 2, H, W).
        """
        predicted = self.conv_offset(torch.cat([cond, flow_1, flow_2], dim=1))
        moves, mask = predicted.split([2 * POINTS * OFFSET_GROUPS, POINTS * OFFSET_GROUPS], dim=1)
        # Offsets come as (down, right) for each point, a flow is (right, down).
        half = POINTS * OFFSET_GROUPS // 2
        flows = [flow.flip(1).repeat(1, half, 1, 1) for flow in (flow_1, flow_2)]
        offset = self.max_residue * torch.tanh(moves) + torch.cat(flows, dim=1)
        return deform_conv2d(
            feats,
            offset,
            self.weight,
            self.bias,
            padding=(1, 1),
            mask=torch.sigmoid(mask),
            offset_groups=OFFSET_GROUPS,
        )


class BasicVSRPlusPlus(nn.Module):
    """Four recurrent branches, each fed by the features of the earlier ones, and an up-sampler.

    7,322,927 parameters for 4x with 64 channels and 7 blocks; 7,396,783 for restoration
    (scale 1, shrink 4), 9,760,175 with the 15 blocks of its published weights.

    Args:
        channels: Width of the features, a multiple of 8.
        blocks: Residual blocks in each branch.
        scale: 4 or 2, or 1 to restore a clip (noise, blur, compression) at its size.
        shrink: The body works at 1 / shrink of the input size: 1 for low-resolution input; 4 with
            scale 1 is the original's is_low_res_input=False; 2 with scale 1 is the paper's
            "BasicVSR++ 2". 2 with scale 2 works, but was never published.
        max_residue: Pixels by which learned offsets can differ from the flow. It cannot be inferred
            from a checkpoint; all published ones have 10.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 7,
        scale: int = 4,
        shrink: int = 1,
        max_residue: float = 10,
    ) -> None:
        super().__init__()
        if shrink not in (1, 2, 4) or scale * shrink not in (2, 4):
            raise ValueError(
                f"BasicVSR++ has no form with scale {scale} and shrink {shrink}. "
                "Take scale 2 or 4 with shrink 1, or scale 1 with shrink 2 or 4."
            )
        if channels % 8:
            raise ValueError(
                f"channels must be a multiple of 8 for {OFFSET_GROUPS} groups of offsets, "
                f"got {channels}."
            )
        self.channels, self.scale, self.shrink = channels, scale, shrink
        self.spynet = SPyNet()
        self.feat_extract: nn.Module = ConvResidualBlocks(3, channels, 5)
        if shrink > 1:
            layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, stride=2, padding=1)]
            if shrink == 4:
                layers += [nn.LeakyReLU(0.1), nn.Conv2d(channels, channels, 3, 2, 1)]
            blocks_5 = ConvResidualBlocks(channels, channels, 5)
            self.feat_extract = nn.Sequential(*layers, nn.LeakyReLU(0.1), blocks_5)
        self.deform_align = nn.ModuleDict(
            {branch: SecondOrderAlignment(channels, max_residue) for branch in BRANCHES}
        )
        self.backbone = nn.ModuleDict(
            {
                branch: ConvResidualBlocks((2 + earlier) * channels, channels, blocks)
                for earlier, branch in enumerate(BRANCHES)
            }
        )
        self.reconstruction = ConvResidualBlocks(5 * channels, channels, 5)
        # Each up-convolution is followed by a pixel shuffle, which keeps a quarter of its channels.
        if scale * shrink == 4:
            self.upconv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
            self.upconv2 = nn.Conv2d(channels, 4 * TAIL, 3, padding=1)
        else:
            self.upconv1 = nn.Conv2d(channels, 4 * TAIL, 3, padding=1)
        self.conv_hr = nn.Conv2d(TAIL, TAIL, 3, padding=1)
        self.conv_last = nn.Conv2d(TAIL, 3, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W), RGB in [0, 1] -> (N, T, 3, sH, sW), not clamped."""
        n, t, c, h, w = clip.shape
        clip = pad_clip(clip, multiple_of=self.shrink, at_least=SMALLEST * self.shrink)
        frames = clip.unbind(1)
        small = clip
        if self.shrink > 1:
            shrunk = F.interpolate(clip.flatten(0, 1), scale_factor=1 / self.shrink, mode="bicubic")
            small = shrunk.reshape(n, t, c, *shrunk.shape[-2:])
        to_next, to_previous = self.spynet.along(small)

        # The features of each frame: its own, then those of finished branches.
        known = [[self.feat_extract(frame)] for frame in frames]
        for branch in BRANCHES:
            if branch.startswith("backward"):
                results = self.run(branch, known[::-1], to_next.flip(1))[::-1]
            else:
                results = self.run(branch, known, to_previous)
            for feats, feat in zip(known, results, strict=True):
                feats.append(feat)

        sr = []
        for frame, feats in zip(frames, known, strict=True):
            enlarged = self.enlarge(frame, torch.cat(feats, dim=1))
            sr.append(enlarged[..., : h * self.scale, : w * self.scale])
        return torch.stack(sr, dim=1)

    def run(self, branch: str, known: list[list[Tensor]], flows: Tensor) -> list[Tensor]:
        """The features that a branch computes, in the order of `known`.

        Args:
            branch: Its name.
            known: For each frame, in the order of the run, its spatial features and those of the
                earlier branches, each (N, C, H, W).
            flows: Entry i leads from frame i + 1 of the run to frame i, (N, T - 1, 2, H, W).
        """
        results: list[Tensor] = []
        for i, feats in enumerate(known):
            current = feats[0]
            aligned = torch.zeros_like(current)
            if i > 0:
                flow_1 = flows[:, i - 1]
                flow_2 = torch.zeros_like(flow_1)
                feat_2 = cond_2 = torch.zeros_like(current)
                if i > 1:
                    # This frame to the last, and from where that leads, on to the one before.
                    flow_2 = flow_1 + flow_warp(flows[:, i - 2], flow_1)
                    feat_2 = results[i - 2]
                    cond_2 = flow_warp(feat_2, flow_2)
                cond = torch.cat([flow_warp(results[i - 1], flow_1), current, cond_2], dim=1)
                both = torch.cat([results[i - 1], feat_2], dim=1)
                aligned = self.deform_align[branch](both, cond, flow_1, flow_2)
            results.append(aligned + self.backbone[branch](torch.cat([*feats, aligned], dim=1)))
        return results

    def enlarge(self, frame: Tensor, feat: Tensor) -> Tensor:
        """A frame (N, 3, H, W) and all its features -> (N, 3, sH, sW)."""
        feat = self.reconstruction(feat)
        feat = F.leaky_relu(F.pixel_shuffle(self.upconv1(feat), 2), 0.1)
        if self.scale * self.shrink == 4:
            feat = F.leaky_relu(F.pixel_shuffle(self.upconv2(feat), 2), 0.1)
        feat = F.leaky_relu(self.conv_hr(feat), 0.1)
        residual: Tensor = self.conv_last(feat)
        if self.scale > 1:
            frame = F.interpolate(
                frame, scale_factor=self.scale, mode="bilinear", align_corners=False
            )
        return frame + residual


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """(arguments of BasicVSRPlusPlus, its state) if this is a checkpoint of it, else None."""
    named = basicsr_names(state)
    align = named.get("deform_align.backward_1.bias")
    if align is None or align.ndim != 1 or not len(align) or len(align) % 8:
        return None
    # Strided convolutions precede the blocks: `feat_extract.0`, and `.2` when there are two.
    shrink = 1
    if "feat_extract.0.weight" in named:
        shrink = 4 if "feat_extract.2.weight" in named else 2
    arguments = {
        "channels": len(align),
        "blocks": count(named, "backbone.backward_1.main.2.", ".conv1.weight"),
        "scale": (4 if "upconv2.weight" in named else 2) // shrink,
        "shrink": shrink,
    }
    if not arguments["scale"]:  # two strided convolutions and one shuffle: half the size
        return None
    tensors = fits(BasicVSRPlusPlus, arguments, named)
    return None if tensors is None else (arguments, tensors)
