"""ColorVideoVDP: how much worse people would find one video than another, in JOD.

    pip install --no-deps cvvdp einops

Mantiuk et al., "ColorVideoVDP: A visual difference predictor for image, video and display
distortions", SIGGRAPH 2024 (MIT). Its package imports torchvision for a blur, and readers of files
that are not needed here. What is not installed is replaced by a stand-in while it is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.ops import Pixels

DISPLAY = "standard_4k"
RATE = 25
UNUSED = ("ffmpeg", "imageio", "imageio.v2", "pyexr", "huggingface_hub")


class GaussianBlur(nn.Module):
    """torchvision's: a separable blur of (N, C, H, W) with reflected borders."""

    def __init__(self, kernel_size: int, sigma: float) -> None:
        super().__init__()
        offsets = torch.arange(kernel_size, dtype=torch.float32) - (kernel_size - 1) / 2
        taps = torch.exp(-0.5 * (offsets / sigma) ** 2)
        self.taps = taps / taps.sum()

    def forward(self, images: Tensor) -> Tensor:
        channels, half = images.shape[1], len(self.taps) // 2
        taps = self.taps.to(images).expand(channels, 1, -1)
        padded = F.pad(images, (half, half, half, half), mode="reflect")
        across = F.conv2d(padded, taps[:, :, None], groups=channels)
        return F.conv2d(across, taps[..., None], groups=channels)


@cache
def _metric() -> Any:
    stand_ins: dict[str, Any] = {
        name: MagicMock() for name in UNUSED if importlib.util.find_spec(name) is None
    }
    if importlib.util.find_spec("torchvision") is None:
        transforms: Any = ModuleType("torchvision.transforms")
        transforms.GaussianBlur = GaussianBlur
        parts = ("torchvision", "torchvision.ops", "torchvision.models")
        stand_ins |= {name: MagicMock() for name in parts} | {"torchvision.transforms": transforms}
    sys.modules.update(stand_ins)
    try:
        package: Any = importlib.import_module("pycvvdp")
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
    return package.cvvdp(display_name=DISPLAY, quiet=True, device=torch.device("cpu"))


def jod(sr: list[Pixels], hr: list[Pixels]) -> float:
    """10 for no visible difference, one less for each just objectionable difference.

    Args:
        sr, hr: Frames (H, W, 3), RGB, uint8, of one shape, seen at 25 frames a second.
    """
    with torch.inference_mode():
        found, _ = _metric().predict(
            np.stack(sr), np.stack(hr), dim_order="FHWC", frames_per_second=RATE
        )
    return float(found)
