"""Losses on pixels: L1, Charbonnier, MSE, 1/PSNR, DSSIM and total variation.

`LOSSES` lists those of (sr, hr) by name; they take clips (N, T, C, H, W) or frames (N, C, H, W) in
[0, 1] and compute in float32 or better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.training.losses.arguments import as_frames, find, frame_pair

PixelLoss = Callable[[Tensor, Tensor], Tensor]


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference: RBPN's loss, and iSeeBetter's default."""
    return F.l1_loss(*frame_pair(sr, hr))


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(*frame_pair(sr, hr))


def charbonnier(sr: Tensor, hr: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): L1 that is smooth at zero (Lai et al., 2017).

    Equal frames give epsilon, not zero. BasicVSR++ has epsilon^2 = 1e-12.
    """
    sr, hr = frame_pair(sr, hr)
    return torch.sqrt((sr - hr) ** 2 + epsilon**2).mean()


def inverse_psnr(sr: Tensor, hr: Tensor) -> Tensor:
    """1 / PSNR of the whole batch, TSRCNN's "PNSR": 0.0125 for equal frames, 0.033 at 30 dB.

    PSNR = 10 log10(1 / (MSE + 1e-8)). The value is infinite at 0 dB (MSE 1) and negative below, so
    the loss does not suit a network whose first outputs are that far off.
    """
    psnr = 10 * torch.log10(1 / (mse(sr, hr) + 1e-8))
    return 1 / psnr


SSIM_TAPS = 7
SSIM_SIGMA = 1.0


def ssim7(sr: Tensor, hr: Tensor) -> Tensor:
    """SSIM of frames, 1 for equal ones, as TSRCNN measures it with piqa.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004,
    with a Gaussian of 7 taps and sigma 1 instead of 11 and 1.5, k1 = 0.01, k2 = 0.03 and range 1.
    Per channel; windows lie inside the frame, so its outer 3 pixels count less.

    Args:
        sr, hr: Clips or frames of one shape, at least 7 x 7.

    Returns:
        The mean over windows, channels and frames, a scalar.
    """
    sr, hr = frame_pair(sr, hr)
    h, w = sr.shape[-2:]
    if min(h, w) < SSIM_TAPS:
        raise ValueError(f"SSIM needs frames of at least 7 x 7 pixels, got {h} x {w}.")
    offsets = torch.arange(SSIM_TAPS, dtype=sr.dtype, device=sr.device) - SSIM_TAPS // 2
    taps = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    taps = taps / taps.sum()
    moments = torch.stack([sr, hr, sr * sr, hr * hr, sr * hr])
    # Channels with separate filters: torch runs them five times as fast as a batch of frames.
    maps = moments.reshape(1, -1, h, w)  # (1, 5*N*C, H, W)
    count = maps.shape[1]
    down = taps.reshape(1, 1, -1, 1).repeat(count, 1, 1, 1)
    across = taps.reshape(1, 1, 1, -1).repeat(count, 1, 1, 1)
    with torch.autocast(sr.device.type, enabled=False):  # E[x^2] - E[x]^2 cancels in half precision
        maps = F.conv2d(F.conv2d(maps, down, groups=count), across, groups=count)
    mean_s, mean_h, square_s, square_h, product = maps.chunk(5, dim=1)
    var_s, var_h = square_s - mean_s**2, square_h - mean_h**2
    covariance = product - mean_s * mean_h
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_s * mean_h + c1) / (mean_s**2 + mean_h**2 + c1)
    structure = (2 * covariance + c2) / (var_s + var_h + c2)
    ssim: Tensor = luminance * structure
    return ssim.mean()


def dssim(sr: Tensor, hr: Tensor) -> Tensor:
    """1 - SSIM, in [0, 2]: TSRCNN's DSSIM, with the SSIM of `ssim7`."""
    return 1 - ssim7(sr, hr)


LOSSES: dict[str, PixelLoss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "inverse_psnr": inverse_psnr,
    "dssim": dssim,
}


def pixel_loss(name: str) -> PixelLoss:
    """Return the function (sr, hr) -> scalar called `name` in `LOSSES`.

    Raises:
        UsageError: No such loss; the message suggests the nearest name.
    """
    return find(LOSSES, "loss", name)


def total_variation(sr: Tensor, form: Literal["squared", "absolute"] = "squared") -> Tensor:
    """Measure how much neighbouring pixels differ, 0 for a flat frame: iSeeBetter's fourth term.

    dv and dh are the differences to the pixel below and to the right, count_v = C * (H-1) * W and
    count_h = C * H * (W-1) how many a frame has of each.

    Args:
        sr: Clip or frames, at least 2 x 2.
        form: "squared", the code's: 2 * (sum dv^2 / count_v + sum dh^2 / count_h) / frames, a
            mean. "absolute", the figure's: (sum |dv| + sum |dh|) / frames, a sum, which grows
            with the size of the frame.
    """
    frames = as_frames(sr)
    n, _, h, w = frames.shape
    if min(h, w) < 2:
        raise ValueError(f"Total variation needs frames of at least 2 x 2 pixels, got {h} x {w}.")
    dv = frames[..., 1:, :] - frames[..., :-1, :]
    dh = frames[..., 1:] - frames[..., :-1]
    if form == "squared":
        return 2 * (dv.square().mean() + dh.square().mean())  # the means are over frames, too
    if form == "absolute":
        return (dv.abs().sum() + dh.abs().sum()) / n
    raise ValueError(f"form must be squared or absolute, got {form!r}.")
