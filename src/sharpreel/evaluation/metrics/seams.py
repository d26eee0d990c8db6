"""Measure how visible the seams between tiles and between segments are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpreel.errors import UsageError
from sharpreel.evaluation.metrics.fidelity import Plane, grey_levels, validate_frames
from sharpreel.ops import Pixels


def seam_in_time(
    sr_frames: Sequence[Pixels],
    position: int,
    hr_frames: Sequence[Pixels] | None = None,
    reach: int = 4,
) -> float:
    """Prominence of the step between two segments, compared with the steps around it.

    step(t) is the mean absolute difference of frames t - 1 and t. Returned is step(position)
    divided by the median of the steps up to `reach` frames away: 1.0 is not visible, 2.0 is a
    jump twice the usual, and below 1.0 is smoother than usual. With a reference, steps are those of
    the error sr - hr, so that real motion does not count; without it, a scene cut at the boundary
    looks like a seam.

    Args:
        sr_frames: RGB, (H, W, 3), in order; only those near the boundary are used.
        position: Index of the first frame of the later segment.
        hr_frames: The reference of each frame.
        reach: Number of steps on each side.

    Returns:
        1.0 also when nothing moves at all; infinite when only the boundary does.
    """
    count = len(sr_frames)
    if hr_frames is not None and len(hr_frames) != count:
        raise ValueError(
            f"sr and hr must have the same number of frames, got {count} and {len(hr_frames)}."
        )
    around = [t for t in range(position - reach, position + reach + 1) if 1 <= t < count]
    if position not in around or len(around) < 2:
        raise ValueError(f"position={position} has no steps on it and around it in {count} frames.")

    steps = {}
    for t in around:
        pair = None if hr_frames is None else (hr_frames[t - 1], hr_frames[t])
        steps[t] = error_step(sr_frames[t - 1], sr_frames[t], pair)
    return prominence(steps, position, reach)


def error_step(sr_prev: Pixels, sr_next: Pixels, hr: tuple[Pixels, Pixels] | None = None) -> float:
    """Mean absolute difference of two frames, or of their errors if there is a reference."""
    before, after = hr or (None, None)
    return float(np.mean(np.abs(_levels(sr_next, after) - _levels(sr_prev, before))))


def prominence(steps: Mapping[int, float], position: int, reach: int = 4) -> float:
    """The step to frame `position` divided by the median of those up to `reach` frames away.

    Args:
        steps: By the later frame of each; see `seam_in_time`.

    Returns:
        NaN when there is no such step, or none beside it.
    """
    near = range(position - reach, position + reach + 1)
    around = [steps[t] for t in near if t != position and t in steps]
    if position not in steps or not around:
        return math.nan
    return _ratio(steps[position], around)


def seam_in_space(
    sr: Pixels,
    position: int,
    axis: Literal[0, 1],
    hr: Pixels | None = None,
    reach: int = 8,
) -> float:
    """Prominence of the border between two tiles, compared with the lines beside it.

    bend(p) is the mean absolute second difference |x[p-1] - 2 x[p] + x[p+1]| of all pixels of line
    p, across the line. The border is between lines position - 1 and position; its bend is the
    mean of those two, and is divided by the median of the same for the borders next to it, from 2
    to reach + 1 lines away: 1.0 is not visible, 2.0 is an edge twice as sharp as usual there.
    With a reference, the error sr - hr is measured, so that a real edge does not count.

        position = 4:  0   1   2   3 | 4   5   6   7
        bends                      *   *

    Args:
        sr: RGB, (H, W, 3).
        position: Index of the first row (column) of the second tile; 2 to size - 2.
        axis: 0 when the tiles are one below the other, 1 when side by side.
        hr: The reference.
        reach: Number of borders on each side.

    Returns:
        1.0 also when nothing bends at all; infinite when only the border does.
    """
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 (tiles one below the other) or 1, got {axis}.")
    lines = sr.shape[axis]
    if not 2 <= position <= lines - 2:
        raise ValueError(f"position={position} is not inside {lines} lines: 2 to {lines - 2}.")
    first, last = max(position - reach - 1, 2), min(position + reach + 1, lines - 2)
    near = (slice(None),) * axis + (slice(first - 2, last + 2),)
    levels = np.moveaxis(_levels(sr[near], None if hr is None else hr[near]), axis, 0)
    bends = np.abs(np.diff(levels, n=2, axis=0)).mean(axis=(1, 2))  # of lines first - 1 to last
    borders = {p: (bends[p - first] + bends[p - first + 1]) / 2 for p in range(first, last + 1)}
    usual = [float(bend) for p, bend in borders.items() if abs(p - position) >= 2]
    if not usual:
        raise ValueError(f"There is no line beside {position} to compare with in {lines} lines.")
    return _ratio(float(borders[position]), usual)


def _levels(sr: Pixels, hr: Pixels | None) -> Plane:
    """The frame, or its error if there is a reference, (H, W, 3), in 8-bit levels."""
    if hr is None:
        validate_frames(sr)
        return grey_levels(sr)
    validate_frames(sr, hr)
    return grey_levels(sr) - grey_levels(hr)


def _ratio(value: float, others: list[float]) -> float:
    usual = float(np.median(others))
    if usual == 0:
        return 1.0 if value == 0 else math.inf
    return value / usual


SEAM = re.compile(r"([txy])(\d+)(\+?)")


@dataclass(frozen=True)
class Seams:
    """Possible positions of seams.

    An axis is "t", the first frame of a later segment, or "x" or "y", the first column or row of a
    later tile, in pixels of the result.

    Args:
        text: As `parse` takes it: "t48+,x640" is every 48th frame and column 640.
        positions: Axis, number, and whether its multiples are included.
    """

    text: str
    positions: tuple[tuple[str, int, bool], ...]

    @classmethod
    def parse(cls, text: str) -> Seams:
        """Parse positions that are separated by commas.

        Raises:
            UsageError: One of them is not a position.
        """
        positions = []
        for part in text.split(","):
            match = SEAM.fullmatch(part.strip())
            if match is None or int(match[2]) == 0:
                raise UsageError(
                    f"seams={text!r}: {part.strip()!r} is not a position. Write t48 for the seam "
                    "before frame 48, x640 or y360 for that before a column or row, t48+ for every "
                    "48 frames."
                )
            positions.append((match[1], int(match[2]), bool(match[3])))
        return cls(text, tuple(positions))

    def has(self, axis: Literal["t", "x", "y"]) -> bool:
        """Whether there are positions on an axis."""
        return any(kind == axis for kind, *_ in self.positions)

    def on(self, axis: Literal["t", "x", "y"], length: int) -> list[int]:
        """The positions on an axis; multiples keep two lines or frames free at each end."""
        indices: set[int] = set()
        for kind, number, repeated in self.positions:
            if kind == axis:
                indices.update(range(number, length - 1, number) if repeated else [number])
        return sorted(indices)
