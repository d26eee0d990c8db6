"""How visible the block grid of a codec is in a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.ops import Pixels

BLOCK = 8  # pixels of the coded frame that a transform block of H.263, MPEG and JPEG has a side


def grid_visibility(frame: Pixels, scale: float = 1) -> float:
    """How much more luma bends across the grid of coded blocks than in the middle of blocks.

    The bend at pixel k is |2 s_k - s_k-1 - s_k+1| / 2 of the steps s_k between neighbours: a step
    that stands alone bends, a slope does not.

        block |o o o o o o o o|o o o o o o o o|     on:  the step across the line
                      ^       ^       ^              off: the step half a block away

    Args:
        frame: RGB, (H, W, 3), enlarged by `scale` after it was decoded; blocks begin at its top
            left corner.
        scale: A grid line lies at every 8 * scale pixels.

    Returns:
        Mean bend on grid lines over that between them, mean of both directions; 1: no grid. NaN
        where a side has no two lines, or the frame is flat.
    """
    period = round(BLOCK * scale)
    luma = ops.luma(frame)
    return float(np.mean([_across(plane, period) for plane in (luma, luma.T)]))


def _across(luma: npt.NDArray[np.floating], period: int) -> float:
    steps = luma[:, 1:] - luma[:, :-1]
    bend = np.abs(2 * steps[:, 1:-1] - steps[:, 2:] - steps[:, :-2]) / 2
    place = np.arange(1, luma.shape[1] - 2) % period  # step k lies between pixels k and k + 1
    on, off = bend[:, place == period - 1], bend[:, place == period // 2 - 1]
    if on.size == 0 or off.size == 0 or not off.any():
        return float("nan")
    return float(on.mean() / off.mean())
