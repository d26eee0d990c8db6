"""Segments are encoded with exact timestamps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from sharpreel.media import writer
from sharpreel.media.color import BT709, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame
from sharpreel.media.probe import probe
from tests.support.upscaling import enlarge
from tests.support.videos import (
    count_frames,
    make_clip,
    moving,
)


def test_the_last_frame_is_shown_as_long_as_before(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pts=[0, 3600, 45000], audio=False)
    enlarge(clip, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").duration_seconds == pytest.approx(
        probe(clip).duration_seconds, abs=1e-9
    )


def test_the_encoder_remembers_exact_times_that_its_file_cannot_hold(tmp_path: Path) -> None:
    settings = EncodeSettings(
        codec="h264",
        pix_fmt="yuv420p",
        width=64,
        height=48,
        crf=20,
        preset="medium",
        color=ColorInfo(BT709, False),
        time_base=Fraction(1, 30000),
    )
    encoder = writer.SegmentWriter(tmp_path / "seg.mkv", settings)
    pts = [1001 * k for k in range(11)] + [11020, 11021]  # the last two within a millisecond
    for at, pixels in zip(pts, moving((64, 48), len(pts)), strict=True):
        encoder.write(Frame(pixels, at))
    encoder.close()
    assert encoder.pts == pts
    assert sorted(encoder.order) == list(range(len(pts)))
    assert encoder.order != sorted(encoder.order)  # B-frames were used
    assert count_frames(tmp_path / "seg.mkv") == len(pts)
