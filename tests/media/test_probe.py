"""Files are described by their headers, and what is not a video is refused in one line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import InputError
from sharpreel.media.probe import probe
from tests.support.upscaling import enlarge
from tests.support.videos import (
    decode_rgb,
    ffmpeg,
    make_clip,
    video_pts,
)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sample_aspect_ratio_is_kept(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"in{suffix}", frames=3, aspect=Fraction(64, 45))
    enlarge(clip, tmp_path / f"out{suffix}")
    assert probe(clip).sample_aspect_ratio == Fraction(64, 45)
    assert probe(tmp_path / f"out{suffix}").sample_aspect_ratio == Fraction(64, 45)


def test_an_exact_size_is_shown_in_the_proportions_of_the_input(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(64, 48), frames=3, aspect=Fraction(4, 3))
    enlarge(clip, tmp_path / "out.mp4", size=(160, 90))
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (160, 90)
    assert info.sample_aspect_ratio * Fraction(160, 90) == Fraction(4, 3) * Fraction(64, 48)
    assert decode_rgb(tmp_path / "out.mp4").shape == (3, 90, 160, 3)


def test_a_short_progressive_scene_in_an_interlaced_file_is_left_sharp(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="mpeg2video", frames=4, audio=False)
    assert not probe(clip).interlaced


def test_a_video_with_transparency_is_refused_with_a_way_out(tmp_path: Path) -> None:
    frame = np.zeros((32, 32, 4), np.uint8)
    frame[..., 3] = 128
    ffmpeg(
        *("-f", "rawvideo", "-s", "32x32", "-pix_fmt", "rgba", "-i", "-", "-c:v", "ffv1"),
        *("-pix_fmt", "bgra", tmp_path / "in.mkv"),
        stdin=frame.tobytes() * 3,
    )
    with pytest.raises(InputError, match=r"transparency.*Choose an output folder"):
        enlarge(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"This is no video, whatever it is called.\n" * 50, "not a readable video"),
        (
            "half.mp4",
            b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
            "not a readable video|no video",
        ),
    ],
)
def test_a_file_that_is_not_a_video_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        enlarge(path, tmp_path / "out.mp4")
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_an_audio_file_is_refused_as_such(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", tmp_path / "in.m4a")
    with pytest.raises(InputError, match="no video stream, only audio"):
        probe(tmp_path / "in.m4a")


def test_a_folder_is_not_a_video(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        probe(tmp_path)


def test_a_bare_stream_runs_at_the_rate_in_its_headers(tmp_path: Path) -> None:
    clip = tmp_path / "in.h264"
    source = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=60000/1001"]
    ffmpeg(*source, "-frames:v", "12", "-c:v", "libx264", clip)
    enlarge(clip, tmp_path / "out.mkv")
    times = video_pts(tmp_path / "out.mkv")
    assert len(times) == 12
    assert float(times[-1] - times[0]) == pytest.approx(11 * 1001 / 60000, abs=0.001)


def test_matroska_tags_give_the_length_of_the_video_where_a_subtitle_is_longer(
    tmp_path: Path,
) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:50,000\nwords\n")
    video = tmp_path / "in.mkv"
    ffmpeg("-i", make_clip(tmp_path / "in.mp4", frames=25), "-i", words, "-c", "copy", video)
    info = probe(video)
    assert (info.num_frames, info.duration_seconds) == (25, 1.0)
