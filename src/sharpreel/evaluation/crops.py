"""Keep a textured piece of the best and of the worst frame of a clip, for the report.

Best and worst are by the gain of the first model over bicubic. A piece starts and ends at borders
of lr pixels, so that the lr version of the same piece can be shown beside it.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np

from sharpreel import ops
from sharpreel.evaluation.results import Crop
from sharpreel.evaluation.runners import ModelRow
from sharpreel.ops import Pixels

CROP_SIZE = (120, 160)  # at most; height and width of the pieces in pixels of the reference


class CropSelector:
    """Sees every scored frame of a clip and keeps pieces of the best and the worst.

    Args:
        models: Names of the versions in each row; bicubic first.
    """

    def __init__(self, clip: str, models: list[str], scale: float) -> None:
        self._clip, self._models = clip, models
        self._scale = Fraction(scale).limit_denominator(64)
        self._best: Crop | None = None
        self._worst: Crop | None = None

    def offer(self, row: ModelRow, psnr: list[float]) -> None:
        """Consider one frame; `psnr` is in dB, one for each model."""
        gain = psnr[1] - psnr[0] if len(psnr) > 1 else psnr[0]
        if math.isnan(gain):
            return
        if self._best is None or gain > self._best.gain:
            self._best = self._crop(row, gain, "best")
        if self._worst is None or gain < self._worst.gain:
            self._worst = self._crop(row, gain, "worst")

    def crops(self) -> list[Crop]:
        """The kept pieces, the worst first; empty when every frame has NaN as its PSNR."""
        if self._best is None or self._worst is None:
            return []
        if self._best.frame == self._worst.frame:
            return [dataclasses.replace(self._worst, kind="only")]
        return [self._worst, self._best]

    def _crop(self, row: ModelRow, gain: float, kind: str) -> Crop:
        hr_step, lr_step = self._scale.numerator, self._scale.denominator
        height, width = (
            min(most // hr_step, side // hr_step) * hr_step
            for most, side in zip(CROP_SIZE, row.hr.shape[:2], strict=True)
        )
        top, left = most_textured_crop(row.hr, max(height, 1), max(width, 1), hr_step)
        lr_region = tuple(
            slice(start // hr_step * lr_step, (start + length) // hr_step * lr_step)
            for start, length in ((top, height), (left, width))
        )
        region = slice(top, top + height), slice(left, left + width)
        return Crop(
            clip=self._clip,
            frame=row.index,
            kind=kind,
            model=self._models[1] if len(self._models) > 1 else self._models[0],
            gain=gain,
            top=top,
            left=left,
            lr=row.lr[lr_region].copy(),  # a view would keep the complete frame
            hr=row.hr[region].copy(),
            srs={name: sr[region].copy() for name, sr in zip(self._models, row.srs, strict=True)},
        )


def most_textured_crop(frame: Pixels, height: int, width: int, step: int = 1) -> tuple[int, int]:
    """Top and left, multiples of `step`, of the crop of this size with the largest luma gradients.

    Args:
        frame: RGB, (H, W, 3).
    """
    luma = ops.luma(frame)
    slopes = np.zeros((luma.shape[0] + 1, luma.shape[1] + 1))
    slopes[1:-1, 1:] += np.abs(np.diff(luma, axis=0))
    slopes[1:, 1:-1] += np.abs(np.diff(luma, axis=1))
    total = slopes.cumsum(axis=0).cumsum(axis=1)  # summed-area table
    tops = np.arange(0, max(luma.shape[0] - height, 0) + 1, step)[:, None]
    lefts = np.arange(0, max(luma.shape[1] - width, 0) + 1, step)
    sums = total[tops + height, lefts + width] - total[tops, lefts + width]
    sums += total[tops, lefts] - total[tops + height, lefts]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(row) * step, int(column) * step
