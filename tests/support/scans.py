"""Bursts of noisy scans of one surface."""

from __future__ import annotations

import numpy as np

from sharpreel.data.store import Frames
from tests.support.videos import moving


def scans(seed: int) -> Frames:
    """A burst: one surface, each scan with streaks of its own."""
    rng = np.random.default_rng(seed)
    clean = np.stack(list(moving((64, 64), 1)))[0].astype(float).mean(axis=2)
    noisy = [clean + rng.normal(0, 12, (64, 1)) + rng.normal(0, 3, (64, 64)) for _ in range(4)]
    best = [clean + rng.normal(0, 0.5, (64, 64))]
    levels: Frames = np.clip(np.stack(noisy + best), 0, 255).astype(np.uint8)
    return levels[..., None].repeat(3, axis=3)
