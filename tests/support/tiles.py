"""Frames of coloured tiles: hard edges that bicubic blurs and networks learn."""

from __future__ import annotations

import numpy as np

from sharpreel.data import degrade
from sharpreel.data.store import Clip, Frames


def tiles(seed: int, shift: int, size: tuple[int, int] = (96, 80)) -> Frames:
    """Return a frame (H, W, 3) of randomly coloured tiles of 5 pixels, moved by 2 * shift."""
    colours = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    width, height = size
    return np.roll(colours.repeat(5, 0).repeat(5, 1), 2 * shift, axis=1)[:height, :width]


def tile_clips(count: int, scale: int = 2, size: tuple[int, int] = (96, 80)) -> list[Clip]:
    """Return clips of 6 frames with their LR versions."""
    videos = [np.stack([tiles(k, t, size) for t in range(6)]) for k in range(count)]
    return [Clip(f"clip{k}", *degrade.degrade(hr, scale)) for k, hr in enumerate(videos)]
