"""Add noise to clips: Gaussian, Poisson (shot noise), and the streaks of scanning probes."""

from __future__ import annotations

import math

import numpy as np

from sharpreel.data.degrade.resample import Clip, Floats, to_integers, validate_clip


def gaussian_noise(
    clip: Clip, sigma: float | Floats, rng: np.random.Generator, grey: bool = False
) -> Clip:
    """Add white noise, new in every frame.

    Args:
        clip: (T, H, W, C).
        sigma: Standard deviation in 8-bit levels, one for all frames or (T,).
        grey: The same noise on all channels.
    """
    validate_clip(clip, (1, 3))
    unit = np.iinfo(clip.dtype).max / 255
    noisy = add_gaussian(clip.astype(np.float32), np.asarray(sigma) * unit, rng, grey)
    return to_integers(noisy, clip.dtype)


def add_gaussian(
    clip: Floats, sigma: Floats, rng: np.random.Generator, grey: bool = False
) -> Floats:
    """`gaussian_noise` on floats, without rounding; sigma in units of the clip."""
    t, h, w, c = clip.shape
    noise = rng.standard_normal((t, h, w, 1 if grey else c), np.float32)
    return clip + noise * np.broadcast_to(sigma, t).astype(np.float32).reshape(-1, 1, 1, 1)


def poisson_noise(
    clip: Clip, strength: float | Floats, rng: np.random.Generator, grey: bool = False
) -> Clip:
    """Add shot noise, whose variance grows with brightness.

    A pixel of 8-bit level v stands for v photons, and the deviation of their count is multiplied
    by the strength: standard deviation strength * sqrt(v) levels (as in Real-ESRGAN, for images
    that use all levels).

    Args:
        clip: (T, H, W, C).
        strength: At least 0, one for all frames or (T,).
        grey: The same noise on all channels, that of the luma.
    """
    validate_clip(clip, (1, 3))
    unit = np.iinfo(clip.dtype).max / 255
    levels = clip.astype(np.float32) / np.float32(unit)
    return to_integers(add_poisson(levels, np.asarray(strength), rng, grey) * unit, clip.dtype)


def add_poisson(
    clip: Floats, strength: Floats, rng: np.random.Generator, grey: bool = False
) -> Floats:
    """`poisson_noise` on floats in 8-bit levels, without rounding."""
    light = np.clip(clip, 0, 255)
    if grey and clip.shape[3] == 3:
        light = (light @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    noise = rng.poisson(light).astype(np.float32) - light
    t = len(clip)
    return clip + noise * np.broadcast_to(strength, t).astype(np.float32).reshape(-1, 1, 1, 1)


def streaks(clip: Clip, rng: np.random.Generator, strength: float | Floats = 3.0) -> Clip:
    """Add scan-line noise of atomic force microscopes: horizontal streaks.

    The tip scans line by line, and its height reference drifts: each line gets its own offset
    (standard deviation 0.8 * strength), a part that changes slowly along the line (0.4 * strength,
    correlation length 32 pixels), and one line in 20 a jump where the tip catches, of 2 to
    4 * strength on a stretch of the line. Every frame is a new scan. On a flat image, strength 2.4
    has the noise score, mean(|Sobel_y| - |Sobel_x|), of 0.035 that the real frames of
    github.com/yasue32/afm-denoise have on average.

    Args:
        clip: (T, H, W, 1) or (T, H, W, 3); all channels get the same offset.
        strength: In 8-bit levels, one for all frames or (T,).
    """
    validate_clip(clip, (1, 3))
    t, h, w, _ = clip.shape
    keep = math.exp(-1 / 32)
    fresh = rng.standard_normal((w, t, h), np.float32)
    drift = fresh.copy()  # an autoregressive process along x
    for x in range(1, w):
        drift[x] = keep * drift[x - 1] + math.sqrt(1 - keep * keep) * fresh[x]
    offset = 0.8 * rng.standard_normal((t, h, 1), np.float32) + 0.4 * drift.transpose(1, 2, 0)
    start = rng.integers(0, w, (t, h, 1))
    end = start + rng.integers(1, w + 1, (t, h, 1))
    height = rng.uniform(2, 4, (t, h, 1)) * rng.choice((-1, 1), (t, h, 1))
    caught = (rng.random((t, h, 1)) < 0.05) & (np.arange(w) >= start) & (np.arange(w) < end)
    offset = offset + np.where(caught, height, 0)
    unit = np.iinfo(clip.dtype).max / 255
    levels = np.broadcast_to(np.asarray(strength) * unit, t).reshape(-1, 1, 1)
    return to_integers(clip + (offset * levels)[..., None], clip.dtype)
