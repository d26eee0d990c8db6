"""Temporal losses: they keep still parts of a clip still."""

from __future__ import annotations

from torch import Tensor


def flicker(sr: Tensor, hr: Tensor, still: float = 2.0) -> Tensor:
    """Mean change of `sr` between neighbouring frames where `hr` stands still.

    Args:
        sr, hr: Clips (N, T, C, H, W) in [0, 1] of one shape.
        still: `hr` stands still where no channel changes by more than this many 8-bit levels.

    Returns:
        Mean absolute change over all pixels, counted as 0 where `hr` moves; 0 for a clip of one
        frame.

    Raises:
        ValueError: The shapes differ or are not those of clips.
    """
    if sr.shape != hr.shape or sr.ndim != 5:
        raise ValueError(
            f"flicker compares clips (N, T, C, H, W) of one shape, got {tuple(sr.shape)} and "
            f"{tuple(hr.shape)}."
        )
    if sr.shape[1] < 2:
        return sr.new_zeros(())
    change = (hr[:, 1:] - hr[:, :-1]).abs().amax(dim=2, keepdim=True)
    static = (change <= (still + 0.5) / 255).to(sr.dtype)
    return ((sr[:, 1:] - sr[:, :-1]).abs() * static).mean()
