"""Pixel losses: L1, MSE, Charbonnier, 1/PSNR, DSSIM, total variation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.errors import UsageError, did_you_mean

PixelLoss = Callable[[Tensor, Tensor], Tensor]
Row = TypeVar("Row")


def find(table: Mapping[str, Row], what: str, name: str) -> Row:
    """The row called `name`, or a UsageError that names the nearest one."""
    if name in table:
        return table[name]
    hint = did_you_mean(name, table)
    raise UsageError(f"No {what} is called {name}.{hint} There are: {', '.join(table)}.")


def frames_of(clip: Tensor, name: str = "sr") -> Tensor:
    """A clip or a batch of pictures as pictures, in float32 or better.

    Args:
        clip: (N, T, C, H, W) or (N, C, H, W).
        name: What a message calls it.

    Returns:
        (N*T, C, H, W) or (N, C, H, W).
    """
    if clip.ndim not in (4, 5) or not clip.is_floating_point():
        raise ValueError(
            f"{name} must be floats in [0, 1] of shape (N, T, C, H, W) or (N, C, H, W), "
            f"got {clip.dtype} of shape {tuple(clip.shape)}."
        )
    precise = clip.to(torch.promote_types(clip.dtype, torch.float32))
    return precise.flatten(0, 1) if clip.ndim == 5 else precise


def pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """sr and hr as pictures; they must be of one shape."""
    if sr.shape != hr.shape:  # (1, 3, H, W) against (N, 3, H, W) would be spread out, silently
        raise ValueError(
            f"sr and hr must have one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}. "
            "A network that loses a border needs hr without that border."
        )
    return frames_of(sr, "sr"), frames_of(hr, "hr")


# --- Pixels -------------------------------------------------------------------------------------


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of the absolute difference: RBPN's loss, and iSeeBetter's unless told otherwise."""
    return F.l1_loss(*pair(sr, hr))


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of the squared difference."""
    return F.mse_loss(*pair(sr, hr))


def charbonnier(sr: Tensor, hr: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): L1 that is smooth at zero (Lai et al., 2017).

    Equal pictures give epsilon, not zero. BasicVSR++ has epsilon^2 = 1e-12.
    """
    sr, hr = pair(sr, hr)
    return torch.sqrt((sr - hr) ** 2 + epsilon**2).mean()


def inverse_psnr(sr: Tensor, hr: Tensor) -> Tensor:
    """1 / PSNR of the batch as a whole, TSRCNN's "PNSR": 0.0125 for equal pictures, 0.033 at 30 dB.

    PSNR = 10 log10(1 / (MSE + 1e-8)). At 0 dB, where the mean squared error is 1, the value is
    infinite, and beyond it negative: not a loss for a network whose first pictures are that far
    off.
    """
    psnr = 10 * torch.log10(1 / (mse(sr, hr) + 1e-8))
    return 1 / psnr


SSIM_TAPS = 7
SSIM_SIGMA = 1.0


def ssim7(sr: Tensor, hr: Tensor) -> Tensor:
    """SSIM of the pictures, 1 for equal ones, as TSRCNN measures it with piqa.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004,
    with a Gaussian of 7 taps and sigma 1 instead of 11 and 1.5, k1 = 0.01, k2 = 0.03 and range 1.
    Per channel; windows lie inside the picture, so its outer 3 pixels count less.

    Args:
        sr, hr: Clips or pictures of one shape, at least 7 x 7.

    Returns:
        The mean over windows, channels and pictures, a scalar.
    """
    sr, hr = pair(sr, hr)
    h, w = sr.shape[-2:]
    if min(h, w) < SSIM_TAPS:
        raise ValueError(f"SSIM needs pictures of at least 7 x 7 pixels, got {h} x {w}.")
    offsets = torch.arange(SSIM_TAPS, dtype=sr.dtype, device=sr.device) - SSIM_TAPS // 2
    taps = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    taps = taps / taps.sum()
    moments = torch.stack([sr, hr, sr * sr, hr * hr, sr * hr])
    # As channels with filters of their own, which torch runs five times as fast as as pictures.
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
    """1 - SSIM, in [0, 2]: TSRCNN's DSSIM. `ssim7` says which SSIM."""
    return 1 - ssim7(sr, hr)


LOSSES: dict[str, PixelLoss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "inverse_psnr": inverse_psnr,
    "dssim": dssim,
}


def pixel_loss(name: str) -> PixelLoss:
    """The function (sr, hr) -> scalar called `name` in `LOSSES`.

    Raises:
        UsageError: There is none; the message names the nearest.
    """
    return find(LOSSES, "loss", name)


def total_variation(sr: Tensor, form: Literal["squared", "absolute"] = "squared") -> Tensor:
    """How much neighbouring pixels differ, zero for a flat picture: iSeeBetter's fourth term.

    dv and dh are the differences to the pixel below and to the right, count_v = C * (H-1) * W and
    count_h = C * H * (W-1) how many a picture has of each.

    Args:
        sr: Clip or pictures, at least 2 x 2.
        form: "squared", the code's: 2 * (sum dv^2 / count_v + sum dh^2 / count_h) / pictures, a
            mean. "absolute", the figure's: (sum |dv| + sum |dh|) / pictures, a sum, which grows
            with the size of the picture.
    """
    pictures = frames_of(sr)
    n, _, h, w = pictures.shape
    if min(h, w) < 2:
        raise ValueError(f"Total variation needs pictures of at least 2 x 2 pixels, got {h} x {w}.")
    dv = pictures[..., 1:, :] - pictures[..., :-1, :]
    dh = pictures[..., 1:] - pictures[..., :-1]
    if form == "squared":
        return 2 * (dv.square().mean() + dh.square().mean())  # means are over the pictures, too
    if form == "absolute":
        return (dv.abs().sum() + dh.abs().sum()) / n
    raise ValueError(f"form must be squared or absolute, got {form!r}.")
