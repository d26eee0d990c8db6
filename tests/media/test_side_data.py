"""Rotation and HDR10 metadata of streams and frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sharpreel.media.color import ColorInfo, Hdr10
from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from tests.support.upscaling import enlarge
from tests.support.videos import (
    ffmpeg,
    make_clip,
    make_hdr10,
    write_frames,
)


def test_hdr10_is_kept_with_all_its_metadata(tmp_path: Path) -> None:
    clip = make_hdr10(tmp_path / "in.mp4")
    before = probe(clip)
    assert before.hdr10 == Hdr10(
        primaries=(
            (Fraction(34, 50), Fraction(16, 50)),
            (Fraction(265, 1000), Fraction(69, 100)),
            (Fraction(15, 100), Fraction(6, 100)),
            (Fraction(3127, 10000), Fraction(329, 1000)),
        ),
        min_luminance=Fraction(5, 1000),
        max_luminance=Fraction(1000),
        max_cll=1000,
        max_fall=400,
    )
    enlarge(clip, tmp_path / "out.mp4")
    after = probe(tmp_path / "out.mp4")
    assert (after.codec, after.pix_fmt) == ("hevc", "yuv420p10le")
    assert after.color == ColorInfo(matrix=9, full_range=False, primaries=9, transfer=16)
    assert after.hdr10 == before.hdr10


def test_hdr10_metadata_goes_into_av1_too(tmp_path: Path) -> None:
    clip = make_hdr10(tmp_path / "in.mp4", frames=2)
    enlarge(clip, tmp_path / "out.mp4", codec="av1", preset="12")
    after = probe(tmp_path / "out.mp4").hdr10
    assert after is not None
    assert (after.max_cll, after.max_fall) == (1000, 400)
    assert after.max_luminance == pytest.approx(1000, abs=1)
    assert verify(clip, tmp_path / "out.mp4") == []


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_kept(tmp_path: Path, degrees: int) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, rotation=degrees)
    enlarge(clip, tmp_path / "out.mp4")
    before, after = probe(clip), probe(tmp_path / "out.mp4")
    assert before.rotation == after.rotation == degrees
    assert after.display_matrix == before.display_matrix
    assert (after.width, after.height) == (128, 96)


def test_rotation_is_counted_clockwise_as_players_turn_the_frame(tmp_path: Path) -> None:
    """Against FFmpeg's own rotation of the frame."""
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:16, :16] = 255  # at the top left as stored, at the top right when turned clockwise
    clip = write_frames(tmp_path / "in.mp4", [corner], rotation=90, options={"qp": "0"})
    assert probe(clip).rotation == 90
    raw = ffmpeg("-i", clip, "-pix_fmt", "gray", "-f", "rawvideo", "-")
    shown = np.frombuffer(raw, np.uint8).reshape(64, 48)
    assert shown[:12, -12:].min() > 200
    assert shown[-12:].max() < 50


def test_the_height_of_a_turned_clip_is_the_one_that_is_seen(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(64, 48), frames=2, rotation=90)
    enlarge(clip, tmp_path / "out.mp4", height=128)
    info = probe(tmp_path / "out.mp4")
    assert info.shown_size == (96, 128)
    assert (info.width, info.height) == (128, 96)
