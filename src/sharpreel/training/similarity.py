"""Similarity of a batch to its ground truth, and what bicubic achieves on the same batch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sharpreel.models.reel import Bicubic
from sharpreel.training.batches import Batch
from sharpreel.training.config import TrainConfig
from sharpreel.training.losses.pixel import SSIM_TAPS, mse, pixel_loss, ssim7
from sharpreel.training.setup import TrainModule


def similarity(sr: Tensor, hr: Tensor, with_ssim: bool) -> dict[str, float]:
    """Return "psnr" of a batch in dB (RGB) and, where frames are large enough, its "ssim"."""
    sr = sr.float().clamp(0, 1)
    measured = {"psnr": 10 * math.log10(1 / (float(mse(sr, hr)) + 1e-8))}
    if with_ssim and min(sr.shape[-2:]) >= SSIM_TAPS:
        measured["ssim"] = float(ssim7(sr, hr))
    return measured


class BicubicBaseline:
    """Measures bicubic on training batches; for bursts, the noisy scan as it is."""

    def __init__(self, config: TrainConfig, module: TrainModule, device: torch.device) -> None:
        self._module = module
        self._device = device
        self._bicubic = Bicubic(config.scale).to(device) if config.task == "sr" else None
        # The combined loss of a GAN is not comparable.
        self._loss = pixel_loss(config.loss) if config.gan is None else None

    @torch.no_grad()
    def measure(self, pairs: list[Batch]) -> dict[str, float]:
        """Return "bicubic_psnr", "bicubic_ssim" and "bicubic_loss", means over the batches.

        The loss is missing when the network's loss is not a pixel loss, SSIM for small patches.
        """
        measured: list[dict[str, float]] = []
        for lr8, hr8 in pairs:
            lr, hr = (x.to(self._device).float() / 255 for x in (lr8, hr8))
            if self._bicubic is None:
                sr = lr[:, self._module.past, None]
            else:
                sr, hr = self._bicubic(self._module.target(lr)), self._module.target(hr)
            terms = similarity(sr, hr, with_ssim=True)
            if self._loss is not None:
                terms["loss"] = float(self._loss(sr, hr))
            measured.append(terms)
        return {
            f"bicubic_{name}": float(np.mean([terms[name] for terms in measured]))
            for name in measured[0]
        }
