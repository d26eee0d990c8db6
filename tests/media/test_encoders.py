"""Codecs, pixel formats and sizes that encoders take, and what they keep."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import UsageError
from sharpreel.media.encoders import codec_named, output_pixel_format
from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from sharpreel.upscale import upscale_video
from tests.support.upscaling import enlarge, read
from tests.support.videos import (
    count_frames,
    decode_rgb,
    make_clip,
    write_frames,
)


def test_ten_bits_stay_ten_bits_all_the_way(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16)[None, :, None], (32, 1, 3))
    clip = write_frames(
        tmp_path / "in.mp4",
        [ramp] * 2,
        pix_fmt="yuv420p10le",
        options={"qp": "0"},
        color=(1, 1, 1, 1),
    )
    frames, _ = read(clip)
    assert frames[0].pixels.dtype == np.uint16
    assert len(np.unique(frames[0].pixels)) > 400
    enlarge(clip, tmp_path / "out.mp4", codec="h264", crf=4)
    assert probe(tmp_path / "out.mp4").bits == 10
    shown = decode_rgb(tmp_path / "out.mp4", deep=True)[0, :, :, 1]
    assert len(np.unique(shown >> 6)) > 400  # in steps of ten bits; eight bits have 256
    line = shown[32].astype(float) / 65535
    np.testing.assert_allclose(line, np.linspace(0, 1, 1024), atol=0.01)


@pytest.mark.parametrize(
    ("pix_fmt", "size", "stays"),
    [
        ("yuv422p", (64, 48), "yuv422p"),
        ("yuv444p", (63, 47), "yuv444p"),
        ("yuv422p10le", (64, 48), "yuv422p10le"),
        ("gray", (64, 48), "yuv420p"),
    ],
)
def test_chroma_and_depth_are_kept(
    tmp_path: Path, pix_fmt: str, size: tuple[int, int], stays: str
) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=size, pix_fmt=pix_fmt, frames=5)
    enlarge(clip, tmp_path / "out.mkv")
    info = probe(tmp_path / "out.mkv")
    assert (info.pix_fmt, info.width, info.height) == (stays, 2 * size[0], 2 * size[1])
    assert count_frames(tmp_path / "out.mkv") == 5


def test_odd_sizes_are_doubled_to_the_pixel(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.webm",
        size=(57, 35),
        codec="libvpx-vp9",
        frames=4,
        options={"deadline": "realtime"},
    )
    enlarge(clip, tmp_path / "out.webm", preset="8")
    info = probe(tmp_path / "out.webm")
    assert (info.width, info.height, info.codec) == (114, 70, "vp9")


def test_an_odd_output_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    with pytest.raises(UsageError, match="131x97 is odd, which yuv420p cannot store"):
        enlarge(clip, tmp_path / "out.mp4", size=(131, 97))


@pytest.mark.parametrize(
    ("codec", "wanted"), [("h264", "yuv411p"), ("prores", "yuv420p"), ("vp9", "rgb24")]
)
def test_a_pixel_format_the_encoder_does_not_take_is_refused(
    tmp_path: Path, codec: str, wanted: str
) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=1, audio=False))
    with pytest.raises(UsageError, match=f"pix_fmt='{wanted}': .* takes "):
        output_pixel_format(info, codec, wanted)


def test_an_unknown_codec_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="codec='divx' is not known; choose one of h264, hevc"):
        codec_named("divx")


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1", "prores"])
def test_every_codec_makes_a_faithful_file(tmp_path: Path, codec: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=5, color=(1, 1, 1, 1))
    preset = {"av1": "12", "vp9": "8", "h264": "ultrafast", "hevc": "ultrafast"}.get(codec)
    result = upscale_video(clip, tmp_path / "out.mkv", model="bicubic", codec=codec, preset=preset)
    assert result.frames == 5
    assert verify(clip, tmp_path / "out.mkv") == []
    assert probe(tmp_path / "out.mkv").codec == codec


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such thing here")
def test_an_encoder_does_not_change_the_scheduling_of_its_thread(tmp_path: Path) -> None:
    """SVT-AV1 makes its caller a real-time thread, where root runs it."""
    before = os.sched_getscheduler(0)
    video = make_clip(tmp_path / "in.mp4", frames=6)
    enlarge(video, tmp_path / "out.mp4", codec="av1", preset="12")
    assert os.sched_getscheduler(0) == before
