"""Encode a video that shows two videos at once: a wipe, or both side by side."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from sharpreel import ops
from sharpreel.errors import write_error
from sharpreel.media import mux
from sharpreel.media.color import RGB, default_matrix
from sharpreel.media.encoders import CODECS, EncodeSettings, validate_encoder
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.mux import Assembly, Segment
from sharpreel.media.writer import SegmentWriter
from sharpreel.ops import Pixels

Mode = Literal["wipe", "side-by-side"]
SWEEP_SECONDS = 8  # until the line of a wipe is back in the middle and moves the same way


class ComparisonWriter:
    """Writes a comparison video; the file gets its name when it is complete.

    Args:
        out: An .mp4 file.
        info: Of the first video, whose times and colours are used.
    """

    def __init__(self, out: Path, info: VideoInfo, mode: Mode) -> None:
        self._out, self._info, self._mode = out, info, mode
        self._line_width = 2 + info.height // 720  # pixels
        self._settings = _encode_settings(info, mode)
        validate_encoder(self._settings)
        self._first_pts: int | None = None
        self._last_duration = 1
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=".comparison-")
        except OSError as e:
            raise write_error(out, e) from e
        self._encoder = SegmentWriter(Path(self._folder.name) / "video.mkv", self._settings)

    def write(self, frame: Frame, a: Pixels, b: Pixels) -> None:
        """Append a and b at the time of `frame`."""
        self._first_pts = frame.pts if self._first_pts is None else self._first_pts
        pts = frame.pts - self._first_pts
        if self._mode == "wipe":
            pixels = self._wipe(a, b, float(pts * self._info.time_base))
        else:
            pixels = np.concatenate([a, b], axis=1)
        self._encoder.write(Frame(ops.pad_to_multiple(pixels, 2), pts))
        step = round(1 / (self._info.rate * self._info.time_base))
        self._last_duration = frame.duration or max(step, 1)

    def _wipe(self, a: Pixels, b: Pixels, seconds: float) -> Pixels:
        """a left of a line, b right of it; the line swings around the middle."""
        width = a.shape[1]
        line = line_at(width, seconds)
        pixels = a.copy()
        pixels[:, line:] = b[:, line:]
        first = max(line - self._line_width // 2, 0)
        pixels[:, first : first + self._line_width] = np.iinfo(a.dtype).max
        return pixels

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._encoder.close()
        target = Path(self._folder.name) / "complete.mp4"
        rotation = None if self._mode == "side-by-side" else self._info.display_matrix
        assembly = Assembly(
            source=None,
            streams=(),
            suffix=".mp4",
            settings=self._settings,
            display_matrix=rotation,
            last_duration=self._last_duration,
        )
        encoder = self._encoder
        mux.assemble(assembly, [Segment(encoder.path, encoder.pts, encoder.order)], target)
        try:
            os.replace(target, self._out)
        except OSError as e:
            raise write_error(self._out, e) from e
        self._folder.cleanup()

    def abandon(self) -> None:
        """Delete what was written; a file of this name stays as it was."""
        self._encoder.abandon()
        self._folder.cleanup()


def _encode_settings(info: VideoInfo, mode: Mode) -> EncodeSettings:
    """H.264 with the colours and times of a video; odd sides grow by a pixel."""
    width = info.width * 2 if mode == "side-by-side" else info.width
    color = info.color
    if color.matrix == RGB:
        matrix = default_matrix(width, info.height)
        color = replace(color, matrix=matrix, full_range=False)
    codec = CODECS["h264"]
    return EncodeSettings(
        codec="h264",
        pix_fmt="yuv420p",
        width=width + width % 2,
        height=info.height + info.height % 2,
        crf=codec.crf,
        preset=codec.preset,
        color=color,
        sample_aspect_ratio=info.sample_aspect_ratio,
        rate=info.rate.limit_denominator(1_000_000),
        time_base=info.time_base,
    )


def line_at(width: int, seconds: float) -> int:
    """The first column right of a wipe's line.

    It begins in the middle and swings to a tenth of the width from each side.
    """
    swing = math.sin(2 * math.pi * seconds / SWEEP_SECONDS)
    return round(width * (0.5 + 0.4 * swing))
