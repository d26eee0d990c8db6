"""Draw training samples: batches of crops from pairs of clips, and from bursts of scans.

A sample depends on (seed, step, number in the batch) alone. Training therefore resumes exactly, and
several processes divide one batch among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.data.store import Clip, Frames
from sharpreel.errors import UsageError


def middle(clip: Clip, scale: int, frames: int, patch: int) -> Clip:
    """The first frames of a clip, cropped to the middle `patch` lr pixels per side (0: all)."""
    _, h, w, _ = clip.lr.shape
    height, width = (min(side, patch or side) for side in (h, w))
    y, x = (h - height) // 2, (w - width) // 2
    lr = clip.lr[:frames, y : y + height, x : x + width]
    hr = clip.hr[:frames, y * scale : (y + height) * scale, x * scale : (x + width) * scale]
    return Clip(clip.name, hr, lr)


def sample_batch(
    clips: Sequence[Clip],
    scale: int,
    batch: int,
    clip_len: int,
    patch: int,
    seed: int,
    step: int,
    part: tuple[int, int] = (0, 1),
) -> tuple[Frames, Frames]:
    """Random crops with flips, quarter turns and time reversal, for one training step.

    Args:
        patch: Side of the crop in lr pixels.
        seed, step: Identify the batch: the same pair gives the same bytes.
        part: (rank of this process, number of processes): which share of the batch to return.

    Returns:
        lr, (N, T, 3, patch, patch), and hr, (N, T, 3, scale * patch, scale * patch), uint8.
    """
    lrs, hrs = [], []
    for number in range(part[0], batch, part[1]):
        rng = np.random.default_rng((seed, step, number))
        clip = clips[int(rng.integers(len(clips)))]
        t, h, w, _ = clip.lr.shape
        first = rng.integers(max(t - clip_len, 0) + 1)
        y, x = rng.integers(h - patch + 1), rng.integers(w - patch + 1)
        # A clip that is too short continues backwards from its last frame.
        times = first + np.arange(clip_len)
        times = np.abs((times + t - 1) % max(2 * t - 2, 1) - (t - 1))
        if rng.random() < 0.5:
            times = times[::-1]
        lr = clip.lr[times, y : y + patch, x : x + patch]
        hr = clip.hr[times, y * scale : (y + patch) * scale, x * scale : (x + patch) * scale]
        lr, hr = _turned(rng, lr, hr)
        lrs.append(lr.transpose(0, 3, 1, 2))
        hrs.append(hr.transpose(0, 3, 1, 2))
    return np.stack(lrs), np.stack(hrs)


def _turned(rng: np.random.Generator, *clips: Frames) -> list[Frames]:
    """The same random flips and transposition of each clip (T, H, W, 3): all eight symmetries."""
    flip_y, flip_x, swap = rng.random(3) < 0.5
    step_y, step_x = (-1 if flip_y else 1), (-1 if flip_x else 1)
    turned = [clip[:, ::step_y, ::step_x] for clip in clips]
    return [clip.swapaxes(1, 2) for clip in turned] if swap else turned


def check_clips(clips: Sequence[Clip], patch: int) -> list[Clip]:
    """Return the clips that are at least as large as a patch.

    Raises:
        UsageError: There is no such clip.
    """
    kept = [c for c in clips if min(c.lr.shape[1:3]) >= patch]
    if not kept:
        sizes = ", ".join(sorted({f"{c.lr.shape[2]}x{c.lr.shape[1]}" for c in clips})[:3])
        raise UsageError(
            f"patch={patch} is larger than every clip: in low resolution they are "
            f"{sizes or 'none at all'}. Choose a smaller patch, or larger videos."
        )
    return kept


def noise_score(scan: ops.Pixels) -> float:
    """Measure how much a scan is streaked along its rows; about 0 for a clean one.

    mean(|d/dy| - |d/dx|) / 3 of Sobel slopes in [0, 1] units, as in yasue32/afm-denoise: scan-line
    noise makes neighbouring rows differ more than neighbouring columns.
    """
    grey = _grey(scan)
    up, mid, down = grey[:-2], grey[1:-1], grey[2:]
    dy = down - up
    dy = dy[:, :-2] + 2 * dy[:, 1:-1] + dy[:, 2:]
    dx = up + 2 * mid + down
    dx = dx[:, 2:] - dx[:, :-2]
    return float((np.abs(dy) - np.abs(dx)).mean() / 3)


def blur_score(scan: ops.Pixels) -> float:
    """Variance of the Laplacian in 8-bit levels: low for a blurred scan, high for a noisy one."""
    grey = _grey(scan) * 255
    laplacian = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    return float(laplacian.var())


def _grey(scan: ops.Pixels) -> npt.NDArray[np.float32]:
    grey: npt.NDArray[np.float32] = scan.astype(np.float32).mean(axis=2) / np.iinfo(scan.dtype).max
    return grey


def choose_target(
    scans: Frames, max_noise: float = 0.02, blur: tuple[float, float] = (250, 1500)
) -> list[int]:
    """Order the scans of a burst for training: target first, then reference, then the others.

    The target is the least noisy of the good ones (noise and sharpness within the bounds), the
    reference the least noisy after it; where fewer than two are good, the least noisy of all.
    """
    noise = [noise_score(scan) for scan in scans]
    good = [
        k
        for k, scan in enumerate(scans)
        if noise[k] < max_noise and blur[0] < blur_score(scan) < blur[1]
    ]
    best = sorted(good if len(good) > 1 else range(len(scans)), key=noise.__getitem__)[:2]
    return [*best, *(k for k in range(len(scans)) if k not in best)]


def sample_bursts(
    bursts: Sequence[Frames],
    batch: int,
    frames: int,
    patch: int,
    seed: int,
    step: int,
    part: tuple[int, int] = (0, 1),
    tries: int = 20,
) -> tuple[Frames, Frames]:
    """Random crops of bursts of scans; the least noisy scan of a crop is its target.

    Args:
        bursts: Each (T, H, W, 3), T scans of the same area.
        frames: Scans in a window; the reference is in its middle.
        tries: At most N crops are drawn in search of one with a clean target.

    Returns:
        lr, (N, frames, 1, patch, patch), and hr, (N, 1, 1, patch, patch), grey, uint8.
    """
    lrs, hrs = [], []
    for number in range(part[0], batch, part[1]):
        rng = np.random.default_rng((seed, step, number))
        crop: Frames | None = None
        for _ in range(tries):
            burst = bursts[int(rng.integers(len(bursts)))]
            _, h, w, _ = burst.shape
            y, x = rng.integers(h - patch + 1), rng.integers(w - patch + 1)
            crop = np.asarray(burst[:, y : y + patch, x : x + patch])
            order = choose_target(crop)
            if noise_score(crop[order[0]]) < 0.02:
                break
        assert crop is not None
        others = [order[2 + k] for k in rng.permutation(len(order) - 2)]
        others = (others or [order[1]]) * frames  # a small burst repeats its scans
        window = others[: frames - 1]
        window.insert(frames // 2, order[1])
        flip_y, flip_x = (int(f) * -2 + 1 for f in rng.integers(0, 2, 2))
        gamma = rng.uniform(0.8, 1.1)
        turned = crop[:, ::flip_y, ::flip_x].mean(axis=3, keepdims=True) / 255
        levels = np.rint(turned**gamma * 255).astype(np.uint8).transpose(0, 3, 1, 2)
        lrs.append(levels[window])
        hrs.append(levels[order[:1]])
    return np.stack(lrs), np.stack(hrs)
