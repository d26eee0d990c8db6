"""Checks that all losses share: names in tables, and the shapes of sr and hr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from sharpreel.errors import UsageError, did_you_mean

Row = TypeVar("Row")


def find(table: Mapping[str, Row], what: str, name: str) -> Row:
    """Return the row of a table by its name.

    Args:
        what: What the table lists, for the message.

    Raises:
        UsageError: No such row; the message suggests the nearest name.
    """
    if name in table:
        return table[name]
    hint = did_you_mean(name, table)
    raise UsageError(f"No {what} is called {name}.{hint} There are: {', '.join(table)}.")


def as_frames(clip: Tensor, name: str = "sr") -> Tensor:
    """Flatten a clip to a batch of frames, in float32 or better.

    Args:
        clip: (N, T, C, H, W) or (N, C, H, W), floats.
        name: What error messages call it.

    Returns:
        (N*T, C, H, W) or (N, C, H, W).

    Raises:
        ValueError: Another shape, or integers.
    """
    if clip.ndim not in (4, 5) or not clip.is_floating_point():
        raise ValueError(
            f"{name} must be floats in [0, 1] of shape (N, T, C, H, W) or (N, C, H, W), "
            f"got {clip.dtype} of shape {tuple(clip.shape)}."
        )
    precise = clip.to(torch.promote_types(clip.dtype, torch.float32))
    return precise.flatten(0, 1) if clip.ndim == 5 else precise


def frame_pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten sr and hr to frames; ValueError unless they have the same shape."""
    if sr.shape != hr.shape:  # (1, 3, H, W) and (N, 3, H, W) would broadcast silently
        raise ValueError(
            f"sr and hr must have one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}. "
            "A network that loses a border needs hr without that border."
        )
    return as_frames(sr, "sr"), as_frames(hr, "hr")
