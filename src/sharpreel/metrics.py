"""How far a picture is from the truth: pure functions of (sr, hr)."""

from __future__ import annotations

import math

import numpy as np

from sharpreel import ops
from sharpreel.ops import Frame


def psnr_y(sr: Frame, hr: Frame, crop_border: int = 0) -> float:
    """PSNR on Y in dB, by protocol P1 (the BasicVSR line): BT.601 luma, not rounded, peak 255.

    Args:
        sr, hr: RGB, (H, W, 3), uint8 or uint16, of one size.
        crop_border: Pixels left out at each side; P1 leaves out none.

    Returns:
        Decibels; infinite for equal pictures.
    """
    if sr.shape != hr.shape:
        raise ValueError(f"sr and hr must have one shape, got {sr.shape} and {hr.shape}.")
    inner = slice(crop_border, -crop_border or None)
    difference = (ops.luma(sr) - ops.luma(hr))[inner, inner]
    error = float(np.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
