"""Every frame is read once, in order, with its timestamp; losses are counted."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import InputError
from sharpreel.media.frame import TimeRange
from sharpreel.media.probe import open_input, probe
from sharpreel.media.reader import ReadReport, read_frames
from sharpreel.media.verify import verify
from tests.support.upscaling import enlarge, read
from tests.support.videos import (
    count_frames,
    decode_rgb,
    ffmpeg,
    make_clip,
    make_interlaced,
    moving,
    video_pts,
)

B_FRAMES = {"bf": "3", "b-adapt": "0", "x264-params": "b-pyramid=normal:rc-lookahead=20"}


@pytest.mark.parametrize("threads", [1, 4])
def test_no_frame_stays_in_decoder_or_encoder_with_b_frames_and_threads(
    tmp_path: Path, threads: int
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=31, options=B_FRAMES, threads=threads)
    result = enlarge(clip, tmp_path / "out.mp4", preset="medium")
    assert count_frames(clip) == 31
    assert result.frames == 31
    assert result.lost == 0
    assert count_frames(tmp_path / "out.mp4") == 31


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "ffv1", "mpeg4"])
def test_the_reader_yields_every_frame_in_display_order(tmp_path: Path, codec: str) -> None:
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    clip = make_clip(tmp_path / "in.mkv", frames=20, codec=codec, audio=False, options=quiet)
    frames, report = read(clip)
    assert [f.pts for f in frames] == [40 * k for k in range(20)]
    assert report == ReadReport(decoded=20)
    originals = np.stack(list(moving((64, 48), 20))).astype(float)
    for k, frame in enumerate(frames):
        errors = np.abs(originals - frame.pixels).mean(axis=(1, 2, 3))
        assert errors.argmin() == k


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_frame_rate_keeps_every_timestamp_exactly(tmp_path: Path, suffix: str) -> None:
    pts = [0, 3600, 5400, 16200, 16290, 21600, 43200, 46800, 90000, 90090, 99000, 189000]
    clip = make_clip(tmp_path / f"in{suffix}", pts=pts, options=B_FRAMES)
    enlarge(clip, tmp_path / f"out{suffix}")
    assert video_pts(clip) == [Fraction(p, 90000) for p in pts]
    assert video_pts(tmp_path / f"out{suffix}") == video_pts(clip)
    assert verify(clip, tmp_path / f"out{suffix}") == []


def test_timestamps_at_23_976_fps_stay_exact_in_mp4(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", rate=Fraction(24000, 1001), frames=30)
    enlarge(clip, tmp_path / "out.mp4")
    assert video_pts(tmp_path / "out.mp4") == [Fraction(1001 * k, 24000) for k in range(30)]
    assert probe(tmp_path / "out.mp4").rate == Fraction(24000, 1001)


def test_frames_without_a_time_of_their_own_get_one_and_are_counted(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "raw.mp4", frames=6, audio=False, options={"bf": "0"})
    ffmpeg("-i", clip, "-c", "copy", tmp_path / "in.h264")
    frames, report = read(tmp_path / "in.h264")
    assert len(frames) == 6
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
    assert report.retimed == 6


@pytest.mark.parametrize("gop", ["10", "250"])
def test_reading_from_a_timestamp_gives_the_same_frames_as_reading_all(
    gop: str, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=120, options={"g": gop, "bf": "2"}, audio=False)
    whole, _ = read(clip)
    for number in (1, 55, 119):
        rest, report = read(clip, start_pts=whole[number].pts)
        assert [f.pts for f in rest] == [f.pts for f in whole[number:]]
        assert report.decoded == len(rest)  # those before are not made RGB to be thrown away
        assert all((a.pixels == b.pixels).all() for a, b in zip(rest, whole[number:], strict=True))
        assert report.lost == 0


def test_interlaced_video_read_from_a_timestamp_has_its_neighbours(tmp_path: Path) -> None:
    clip = make_interlaced(tmp_path / "in.mkv", frames=100)
    whole, _ = read(clip)
    rest, _ = read(clip, start_pts=whole[80].pts)
    assert [f.pts for f in rest] == [f.pts for f in whole[80:]]
    assert all((a.pixels == b.pixels).all() for a, b in zip(rest, whole[80:], strict=True))


def two_sizes(folder: Path) -> Path:
    """An elementary H.264 stream whose frames grow in the middle."""
    parts = []
    for number, size in enumerate([(64, 48), (96, 64)]):
        part = make_clip(folder / f"{number}.mp4", size=size, frames=8, audio=False)
        parts.append(ffmpeg("-i", part, "-c", "copy", "-f", "h264", "-"))
    (folder / "in.h264").write_bytes(b"".join(parts))
    return folder / "in.h264"


def test_frames_that_change_their_size_are_one_clear_error(tmp_path: Path) -> None:
    clip = two_sizes(tmp_path)
    with pytest.raises(InputError, match=r"is 96x64, those before it are 64x48. Cut the file"):
        enlarge(clip, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def test_a_truncated_file_is_upscaled_as_far_as_possible_and_losses_are_counted(
    tmp_path: Path,
) -> None:
    clip = make_clip(
        tmp_path / "whole.mp4",
        frames=60,
        audio=False,
        options={"g": "5", "bf": "0"},
        container_options={"movflags": "+faststart"},
    )
    data = clip.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 7 // 10])
    result = enlarge(cut, tmp_path / "out.mp4")
    assert result.frames + result.lost == 60
    assert 5 <= result.lost <= 40
    assert count_frames(tmp_path / "out.mp4") == result.frames
    with pytest.raises(InputError, match="stopped because of strict=True"):
        enlarge(cut, tmp_path / "strict.mp4", strict=True)
    assert not (tmp_path / "strict.mp4").exists()


def test_frames_that_do_not_decode_are_counted_and_the_others_keep_their_times(
    tmp_path: Path,
) -> None:
    raw = make_clip(tmp_path / "raw.mkv", frames=20, audio=False)
    clip = tmp_path / "in.mkv"
    ffmpeg("-i", raw, "-c:v", "png", clip)
    data = bytearray(clip.read_bytes())
    with open_input(clip) as file:
        victim = [bytes(p) for p in file.demux(file.streams.video[0])][9]
    offset = bytes(data).index(victim) + 200  # inside the compressed frame
    data[offset : offset + 200] = bytes(200)
    clip.write_bytes(data)
    frames, report = read(clip)
    assert [f.pts for f in frames] == [40 * k for k in range(20) if k != 9]
    assert report.errors == [(360, "a frame does not decode")]
    result = enlarge(clip, tmp_path / "out.mkv")
    assert (result.frames, result.lost) == (19, 1)
    assert video_pts(tmp_path / "out.mkv") == [Fraction(k, 25) for k in range(20) if k != 9]
    with pytest.raises(
        InputError, match=r"a frame does not decode at 0.36 s; stopped because of strict=True"
    ):
        read(clip, strict=True)


def test_a_cut_begins_at_zero_and_holds_the_frames_of_the_window(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=50, options={"g": "20"})
    options = {"start": Fraction(2, 5), "end": Fraction(6, 5)}
    result = enlarge(clip, tmp_path / "out.mp4", **options)
    assert result.frames == 20
    assert video_pts(tmp_path / "out.mp4") == [Fraction(k, 25) for k in range(20)]
    assert verify(clip, tmp_path / "out.mp4", TimeRange(**options)) == []
    whole, _ = read(clip)
    shown = decode_rgb(tmp_path / "out.mp4")[0, ::2, ::2].astype(float)
    errors = [np.abs(shown - f.pixels).mean() for f in whole]
    assert int(np.argmin(errors)) == 10


def test_short_clips_are_read_as_one_array(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=7, audio=False)
    assert read_frames(clip).shape == (7, 48, 64, 3)
    assert read_frames(clip, max_frames=3).shape == (3, 48, 64, 3)
