"""Lossless files of the frames that a protocol counts, so that VMAF can be measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from sharpreel.evaluation.metrics.vmaf import vmaf
from sharpreel.media.color import RGB, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame
from sharpreel.media.writer import SegmentWriter
from sharpreel.ops import Pixels


class VmafClips:
    """Writes the reference and each model's version of a clip, then measures VMAF of each model.

    Args:
        folder: For the files, about two bytes for each pixel, frame and version.
        models: Number of models.
    """

    def __init__(self, folder: Path, models: int) -> None:
        self._paths = [folder / f"{name}.mkv" for name in ("reference", *range(models))]
        self._writers: list[SegmentWriter] = []
        self._count = 0

    def write(self, hr: Pixels, srs: Sequence[Pixels]) -> None:
        """Append one frame of the reference and of every model."""
        if not self._writers:
            self._writers = [_lossless_writer(path, hr) for path in self._paths]
        for writer, pixels in zip(self._writers, (hr, *srs), strict=True):
            writer.write(Frame(pixels, self._count))
        self._count += 1

    def measure(self) -> list[dict[str, float] | None]:
        """Close the files and return `vmaf` of each model."""
        for writer in self._writers:
            writer.close()
        reference, *versions = self._paths
        return [vmaf(version, reference) for version in versions]


def _lossless_writer(path: Path, frame: Pixels) -> SegmentWriter:
    """An FFV1 file of RGB, 25 frames per second, for frames of this size and type."""
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
    return SegmentWriter(path, settings)
