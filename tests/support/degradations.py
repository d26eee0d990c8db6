"""A synthetic clip and PSNR, for the tests of degradations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Clip = npt.NDArray[Any]


def scene(frames: int, height: int, width: int, seed: int = 0) -> Clip:
    """Coloured clouds that drift, with an edge and some texture: (T, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((height, width + frames, 3))
    clouds = 24 * ndimage.gaussian_filter(noise, (7, 7, 0))
    clouds += 0.5 * ndimage.gaussian_filter(noise, (1, 1, 0))
    clouds[height // 3 : height // 2, width // 3 : width // 2] += 1.2
    levels = np.clip(np.rint(120 + 40 * clouds), 0, 255).astype(np.uint8)
    return np.stack([levels[:, t : t + width] for t in range(frames)])


def psnr(a: Clip, b: Clip) -> float:
    return 10 * math.log10(255**2 / float(np.mean((a.astype(np.float64) - b) ** 2)))
