"""Crops and comparison videos of an evaluation."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from sharpreel import ops
from sharpreel.evaluation.metrics.vmaf import vmaf
from sharpreel.evaluation.protocols import Protocol
from sharpreel.evaluation.results import CROP, Crop
from sharpreel.evaluation.runners import ModelRow, ModelRunner, SharedInputs
from sharpreel.media import frame, writer
from sharpreel.media.color import RGB, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.ops import Pixels


def side_by_side(
    pairs: Iterator[tuple[Pixels, Pixels]], runners: list[ModelRunner]
) -> Iterator[ModelRow]:
    """Every frame in all versions, in order; networks that look ahead make the truth wait."""
    truth: deque[Pixels] = deque()

    def reduced() -> Iterator[Pixels]:
        for lr, hr in pairs:
            truth.append(hr)
            yield lr
            del lr, hr

    shared = SharedInputs(reduced(), len(runners) + 1)
    made = [r.pictures(shared.reader(k), shared) for k, r in enumerate(runners)]
    for index, (lr, *srs) in enumerate(zip(shared.reader(len(runners)), *made, strict=True)):
        yield ModelRow(index, lr, truth.popleft(), tuple(srs))
        del lr, srs


def chosen_frames(
    rows: Iterator[ModelRow], protocol: Protocol, total: int | None
) -> Iterator[ModelRow]:
    """The frames that count. The middle one is known beforehand: the clip was counted."""
    if not protocol.only_centre:
        return protocol.select(rows)
    assert total is not None
    return (row for row in rows if row.index == total // 2)


class VmafClips:
    """The counted frames of the truth and of each model in lossless files, for VMAF."""

    def __init__(self, folder: Path, models: int) -> None:
        self._paths = [folder / f"{name}.mkv" for name in ("truth", *range(models))]
        self._writers: list[writer.SegmentWriter] = []
        self._count = 0

    def write(self, row: ModelRow) -> None:
        if not self._writers:
            self._writers = [_lossless(path, row.hr) for path in self._paths]
        for clip, pixels in zip(self._writers, (row.hr, *row.srs), strict=True):
            clip.write(frame.Frame(pixels, self._count))
        self._count += 1

    def measure(self) -> list[dict[str, float] | None]:
        for clip in self._writers:
            clip.close()
        truth, *films = self._paths
        return [vmaf(film, truth) for film in films]


def _lossless(path: Path, frame: Pixels) -> writer.SegmentWriter:
    """An FFV1 file of RGB, 25 frames a second, for frames like this one."""
    settings = EncodeSettings(
        codec="ffv1",
        pix_fmt="bgr0" if frame.dtype == np.uint8 else "gbrp16le",
        width=frame.shape[1],
        height=frame.shape[0],
        crf=None,
        preset=None,
        color=ColorInfo(RGB, full_range=True),
        time_base=Fraction(1, 25),
    )
    return writer.SegmentWriter(path, settings)


class Showcase:
    """Keeps pieces of the best and the worst frame of a clip, by the gain of the first model."""

    def __init__(self, clip: str, models: list[str], scale: float) -> None:
        self._clip, self._models = clip, models
        self._factor = Fraction(scale).limit_denominator(64)
        self._best: Crop | None = None
        self._worst: Crop | None = None

    def offer(self, row: ModelRow, psnr: list[float]) -> None:
        gain = psnr[1] - psnr[0] if len(psnr) > 1 else psnr[0]
        if math.isnan(gain):
            return
        if self._best is None or gain > self._best.gain:
            self._best = self._cut(row, gain, "best")
        if self._worst is None or gain < self._worst.gain:
            self._worst = self._cut(row, gain, "worst")

    def crops(self) -> list[Crop]:
        """The worst first."""
        if self._best is None or self._worst is None:
            return []
        if self._best.frame == self._worst.frame:
            return [dataclasses.replace(self._worst, kind="only")]
        return [self._worst, self._best]

    def _cut(self, row: ModelRow, gain: float, kind: str) -> Crop:
        whole, rest = self._factor.numerator, self._factor.denominator
        # Pieces begin and end where lr pixels do.
        high, wide = (
            min(most // whole, side // whole) * whole
            for most, side in zip(CROP, row.hr.shape[:2], strict=True)
        )
        top, left = most_textured_crop(row.hr, max(high, 1), max(wide, 1), whole)
        lr = tuple(
            slice(at // whole * rest, (at + length) // whole * rest)
            for at, length in ((top, high), (left, wide))
        )
        here = slice(top, top + high), slice(left, left + wide)
        return Crop(
            clip=self._clip,
            frame=row.index,
            kind=kind,
            model=self._models[1] if len(self._models) > 1 else self._models[0],
            gain=gain,
            top=top,
            left=left,
            lr=row.lr[lr].copy(),  # a view would keep the whole frame
            truth=row.hr[here].copy(),
            pictures={
                name: sr[here].copy() for name, sr in zip(self._models, row.srs, strict=True)
            },
        )


def most_textured_crop(frame: Pixels, height: int, width: int, step: int = 1) -> tuple[int, int]:
    """Top and left, multiples of `step`, of the piece of this size with the steepest slopes."""
    luma = ops.luma(frame)
    slopes = np.zeros((luma.shape[0] + 1, luma.shape[1] + 1))
    slopes[1:-1, 1:] += np.abs(np.diff(luma, axis=0))
    slopes[1:, 1:-1] += np.abs(np.diff(luma, axis=1))
    total = slopes.cumsum(axis=0).cumsum(axis=1)
    tops = np.arange(0, max(luma.shape[0] - height, 0) + 1, step)[:, None]
    lefts = np.arange(0, max(luma.shape[1] - width, 0) + 1, step)
    sums = total[tops + height, lefts + width] - total[tops, lefts + width]
    sums += total[tops, lefts] - total[tops + height, lefts]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(row) * step, int(column) * step
