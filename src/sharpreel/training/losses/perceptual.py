"""Perceptual loss: the distance between VGG features of sr and of hr."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.errors import UsageError
from sharpreel.models.vgg import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LAYERS,
    VGG_FILES,
    VGG_URL,
    read_vgg,
    vgg_features,
)
from sharpreel.training.losses.arguments import as_frames, find, frame_pair
from sharpreel.training.losses.pixel import PixelLoss

DISTANCES: dict[str, PixelLoss] = {"mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss}


class Perceptual(nn.Module):
    """Distance between a VGG's features of sr and hr (Johnson et al., 2016; Ledig et al., 2017).

    The VGG is frozen; gradients reach sr alone. As published:

        iSeeBetter             vgg16_pool5, mse
        RBPN-VSR-P             vgg19_43, mse
        Fast-SRGAN, TensorFlow vgg19_54, mse, divisor=12.75
        Fast-SRGAN, PyTorch    vgg19_53, smooth_l1, normalise=True

    The third was trained with Keras's weights, which take BGR in 0-255 less a mean. torchvision's
    take RGB normalised; its features have another scale, so the value differs by a constant.

    Args:
        layer: One of `LAYERS`.
        weights: torchvision's state dict of that VGG, as .pth or .safetensors. `classifier.*`
            is not used and may be missing.
        normalise: Normalise inputs as the VGG was trained, (frame - mean) / std of ImageNet.
        distance: One of `DISTANCES`, a mean over the features.
        divisor: Features are divided by this first.

    Raises:
        UsageError: No such layer, or no file given; the message names the file to download.
        WeightsError: The file is missing, unreadable, or not that VGG.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layer: str = "vgg16_pool5",
        weights: str | Path | None = None,
        *,
        normalise: bool = False,
        distance: Literal["mse", "smooth_l1"] = "mse",
        divisor: float = 1.0,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance must be {' or '.join(DISTANCES)}, got {distance!r}.")
        if divisor <= 0:
            raise ValueError(f"divisor must be more than 0, got {divisor}.")
        network, end = find(LAYERS, "perceptual layer", layer)
        if weights is None:
            file = VGG_FILES[network]
            raise UsageError(
                f"The perceptual loss {layer} needs torchvision's {file}. "
                f"Download {VGG_URL}{file} and pass its path as `weights`."
            )
        self.layer = layer
        self.normalise = normalise
        self.distance = DISTANCES[distance]
        self.divisor = divisor
        with torch.device("meta"):
            whole = vgg_features(network)
        self.features = nn.Sequential(*list(whole)[:end])
        self.features.load_state_dict(read_vgg(Path(weights), network, whole, end), assign=True)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)
        self.smallest = 2 ** sum(isinstance(step, nn.MaxPool2d) for step in self.features)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in inference mode, also when the loss around this module is set to training."""
        return super().train(False)

    def compute_features(self, frames: Tensor) -> Tensor:
        """Return the VGG's features of frames, (N, 3, H, W) -> (N, C, H', W')."""
        frames = frames.to(self.mean.dtype)
        if self.normalise:
            frames = (frames - self.mean) / self.std
        features: Tensor = self.features(frames)
        return as_frames(features) / self.divisor

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Return the distance, a scalar; clips or RGB frames of one shape, at least 16 or 32 px."""
        sr, hr = frame_pair(sr, hr)
        c, h, w = sr.shape[-3:]
        if c != 3 or min(h, w) < self.smallest:
            least = f"{self.smallest} x {self.smallest}"
            raise ValueError(
                f"{self.layer} needs RGB frames of at least {least} pixels, "
                f"got {c} channels of {h} x {w}."
            )
        with torch.no_grad():
            target = self.compute_features(hr)
        return self.distance(self.compute_features(sr), target)
