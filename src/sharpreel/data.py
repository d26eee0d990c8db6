"""(lr, hr) training clips from a folder of videos.

A clip is decoded once, its low-resolution twin is made once, over the whole frame and by the
same bicubic that the product uses, and both stay in memory as bytes; crops are cut before
anything becomes float. Which crop a step sees depends on (seed, step) alone, so that training
resumes exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sharpreel import ops, video

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """One clip, (T, H, W, 3) high-resolution and (T, H / scale, W / scale, 3) low."""

    name: str
    hr: Frames
    lr: Frames


def degrade_bicubic(hr: Frames, scale: int) -> tuple[Frames, Frames]:
    """hr cropped to a multiple of the scale from the top left, and its MATLAB bicubic reduction.

    Args:
        hr: (T, H, W, 3) uint8.
        scale: Integer factor.

    Returns:
        The cropped hr, and lr (T, H // scale, W // scale, 3), rounded to bytes.
    """
    _, height, width, _ = hr.shape
    h, w = height // scale, width // scale
    hr = hr[:, : h * scale, : w * scale]
    return hr, np.stack([ops.resize(frame, h, w) for frame in hr]).astype(np.uint8)


def load_clips(paths: Iterable[Path], scale: int, max_frames: int | None = None) -> list[Clip]:
    """Decode videos and make their low-resolution twins by `degrade_bicubic`."""
    clips = []
    for path in paths:
        hr = video.read_frames(path, max_frames)
        clips.append(Clip(path.stem, *degrade_bicubic(hr, scale)))
    return clips


def sample_batch(
    clips: list[Clip],
    scale: int,
    batch: int,
    clip_len: int,
    patch: int,
    seed: int,
    step: int,
) -> tuple[Frames, Frames]:
    """Random crops with flips, transposition and time reversal, for one training step.

    Args:
        patch: Side of the crop in lr pixels.
        seed, step: Name the batch: the same pair gives the same bytes.

    Returns:
        lr, (N, T, 3, patch, patch), and hr, (N, T, 3, scale * patch, scale * patch), uint8.
    """
    rng = np.random.default_rng((seed, step))
    lrs, hrs = [], []
    for _ in range(batch):
        clip = clips[rng.integers(len(clips))]
        t, h, w, _ = clip.lr.shape
        first = rng.integers(max(t - clip_len, 0) + 1)
        y, x = rng.integers(h - patch + 1), rng.integers(w - patch + 1)
        times = np.minimum(first + np.arange(clip_len), t - 1)
        if rng.random() < 0.5:
            times = times[::-1]
        lr = clip.lr[times, y : y + patch, x : x + patch]
        hr = clip.hr[times, y * scale : (y + patch) * scale, x * scale : (x + patch) * scale]
        flip_y, flip_x, swap = rng.random(3) < 0.5
        step_y, step_x = (-1 if flip_y else 1), (-1 if flip_x else 1)
        lr, hr = lr[:, ::step_y, ::step_x], hr[:, ::step_y, ::step_x]
        if swap:
            lr, hr = lr.swapaxes(1, 2), hr.swapaxes(1, 2)
        lrs.append(lr.transpose(0, 3, 1, 2))
        hrs.append(hr.transpose(0, 3, 1, 2))
    return np.stack(lrs), np.stack(hrs)
