"""video.py: frames in and out with their times, colours and shapes."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.media import reader as video_reader
from sharpreel.media import writer
from sharpreel.media.color import BT601, BT709, HLG, MATRIX_NAMES, ColorInfo, Hdr10
from sharpreel.media.encoders import EncodeSettings, codec_named, output_pixel_format
from sharpreel.media.frame import Frame, TimeRange
from sharpreel.media.probe import open_input, probe
from sharpreel.media.reader import ReadReport, read_frames
from sharpreel.media.verify import verify
from sharpreel.pipeline.stages import Result
from sharpreel.upscale import upscale_video
from tests.support.videos import (
    BARS,
    bars_frame,
    comb_energy,
    count_frames,
    decode_rgb,
    ffmpeg,
    make_bars,
    make_clip,
    make_hdr10,
    make_interlaced,
    moving,
    patches,
    video_pts,
    write_frames,
)
from tests.support.upscaling import enlarge, read






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


def test_the_last_frame_is_shown_as_long_as_before(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pts=[0, 3600, 45000], audio=False)
    enlarge(clip, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").duration_seconds == pytest.approx(
        probe(clip).duration_seconds, abs=1e-9
    )


def test_timestamps_of_ntsc_film_stay_exact_in_mp4(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_colours_are_right_in_and_out(tmp_path: Path, matrix: str, full: bool) -> None:
    clip = make_bars(tmp_path / "in.mp4", matrix, full=full)
    frames, _ = read(clip)
    np.testing.assert_allclose(patches(frames[0].pixels), BARS, atol=2)
    enlarge(clip, tmp_path / "out.mp4", crf=8)
    color = probe(tmp_path / "out.mp4").color
    assert (color.matrix_name, color.full_range) == (
        MATRIX_NAMES[{"bt601": 6, "bt709": 1, "bt2020": 9}[matrix]],
        full,
    )
    for picture in decode_rgb(tmp_path / "out.mp4"):
        np.testing.assert_allclose(patches(picture), BARS, atol=3)


def test_untagged_video_that_grows_to_hd_keeps_its_colours_and_says_its_matrix(
    tmp_path: Path,
) -> None:
    clip = make_bars(tmp_path / "in.mp4", "bt601", tagged=False, size=(128, 360), frames=2)
    assert probe(clip).color.guessed
    enlarge(clip, tmp_path / "out.mp4", crf=8)
    color = probe(tmp_path / "out.mp4").color
    assert not color.guessed  # players would take 720 lines for BT.709 otherwise
    assert color.matrix_name == "BT.601"
    np.testing.assert_allclose(patches(decode_rgb(tmp_path / "out.mp4")[0]), BARS, atol=3)


def test_untagged_hd_video_is_taken_for_bt709(tmp_path: Path) -> None:
    clip = make_bars(tmp_path / "in.mp4", "bt709", tagged=False, size=(128, 720), frames=1)
    assert probe(clip).color == ColorInfo(BT709, False, 2, 2, guessed=True)
    np.testing.assert_allclose(patches(read(clip)[0][0].pixels), BARS, atol=2)


def test_rgb_video_becomes_yuv_with_the_matrix_it_states(tmp_path: Path) -> None:
    bars = np.repeat(np.array(BARS, np.uint8)[None], 64, axis=0).repeat(16, axis=1)
    clip = write_frames(tmp_path / "in.mkv", [bars] * 2, codec="ffv1", pix_fmt="bgr0")
    enlarge(clip, tmp_path / "out.mkv", crf=8)
    info = probe(tmp_path / "out.mkv")
    assert info.color == ColorInfo(BT601, False, 2, 2)
    np.testing.assert_allclose(patches(decode_rgb(tmp_path / "out.mkv")[0]), BARS, atol=3)


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


def test_gray_video_stays_gray(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", pix_fmt="gray", frames=3)
    enlarge(clip, tmp_path / "out.mkv", crf=4)
    shown = decode_rgb(tmp_path / "out.mkv").astype(int)
    assert np.abs(shown - shown.mean(axis=3, keepdims=True)).max() <= 2


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


def test_hlg_tags_are_kept(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pix_fmt="yuv420p10le", frames=3, color=(9, 9, HLG, 1))
    enlarge(clip, tmp_path / "out.mp4")
    color = probe(tmp_path / "out.mp4").color
    assert color == ColorInfo(matrix=9, full_range=False, primaries=9, transfer=HLG)
    assert color.hdr == "HLG"


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


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_kept(tmp_path: Path, degrees: int) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, rotation=degrees)
    enlarge(clip, tmp_path / "out.mp4")
    before, after = probe(clip), probe(tmp_path / "out.mp4")
    assert before.rotation == after.rotation == degrees
    assert after.display_matrix == before.display_matrix
    assert (after.width, after.height) == (128, 96)


def test_rotation_is_counted_clockwise_as_players_turn_the_picture(tmp_path: Path) -> None:
    """Against FFmpeg's own turning of the picture."""
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


def test_interlaced_video_is_deinterlaced_frame_for_frame(tmp_path: Path) -> None:
    clip = make_interlaced(tmp_path / "in.mkv")
    info = probe(clip)
    assert info.interlaced
    frames, _ = read(clip)
    woven = decode_rgb(clip)
    assert len(frames) == len(woven) == 12
    assert [f.pts * info.time_base for f in frames] == video_pts(clip)
    assert comb_energy(woven[3:9]) > 3
    assert comb_energy(np.stack([f.pixels for f in frames[3:9]])) < 0.3
    enlarge(clip, tmp_path / "out.mkv")
    assert not probe(tmp_path / "out.mkv").interlaced
    assert verify(clip, tmp_path / "out.mkv") == []


def test_interlaced_video_read_from_a_timestamp_has_its_neighbours(tmp_path: Path) -> None:
    clip = make_interlaced(tmp_path / "in.mkv", frames=100)
    whole, _ = read(clip)
    rest, _ = read(clip, start_pts=whole[80].pts)
    assert [f.pts for f in rest] == [f.pts for f in whole[80:]]
    assert all((a.pixels == b.pixels).all() for a, b in zip(rest, whole[80:], strict=True))


def test_a_short_progressive_scene_in_an_interlaced_file_is_left_sharp(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="mpeg2video", frames=4, audio=False)
    assert not probe(clip).interlaced


def test_a_video_with_transparency_is_refused_with_a_way_out(tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[..., 3] = 128
    ffmpeg(
        *("-f", "rawvideo", "-s", "32x32", "-pix_fmt", "rgba", "-i", "-", "-c:v", "ffv1"),
        *("-pix_fmt", "bgra", tmp_path / "in.mkv"),
        stdin=picture.tobytes() * 3,
    )
    with pytest.raises(InputError, match=r"transparency.*Choose an output folder"):
        enlarge(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def two_sizes(folder: Path) -> Path:
    """An elementary H.264 stream whose picture grows on the way."""
    parts = []
    for number, size in enumerate([(64, 48), (96, 64)]):
        part = make_clip(folder / f"{number}.mp4", size=size, frames=8, audio=False)
        parts.append(ffmpeg("-i", part, "-c", "copy", "-f", "h264", "-"))
    (folder / "in.h264").write_bytes(b"".join(parts))
    return folder / "in.h264"


def test_a_picture_that_changes_its_size_is_one_clear_error(tmp_path: Path) -> None:
    clip = two_sizes(tmp_path)
    with pytest.raises(InputError, match=r"is 96x64, those before it are 64x48. Cut the file there"):
        enlarge(clip, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def test_a_file_cut_off_is_upscaled_as_far_as_it_goes_and_the_loss_is_counted(
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
    place = bytes(data).index(victim) + 200  # inside the compressed picture
    data[place : place + 200] = bytes(200)
    clip.write_bytes(data)
    frames, report = read(clip)
    assert [f.pts for f in frames] == [40 * k for k in range(20) if k != 9]
    assert report.errors == [(360, "a frame does not decode")]
    result = enlarge(clip, tmp_path / "out.mkv")
    assert (result.frames, result.lost) == (19, 1)
    assert video_pts(tmp_path / "out.mkv") == [Fraction(k, 25) for k in range(20) if k != 9]
    with pytest.raises(InputError, match=r"a frame does not decode at 0.36 s; stopped because of strict=True"):
        read(clip, strict=True)


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
def test_what_is_no_video_is_refused_in_one_line(
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


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        probe(tmp_path)


def test_an_unknown_matrix_is_refused_instead_of_guessed(tmp_path: Path) -> None:
    frame = bars_frame("bt601", False, (128, 64))
    clip = write_frames(tmp_path / "in.mp4", [frame], color=(8, 2, 2, 1))  # YCgCo
    with pytest.raises(InputError, match=r"colour matrix 8 .* cannot be converted"):
        probe(clip)


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


def test_a_bare_stream_runs_at_the_rate_in_its_headers(tmp_path: Path) -> None:
    clip = tmp_path / "in.h264"
    source = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=60000/1001"]
    ffmpeg(*source, "-frames:v", "12", "-c:v", "libx264", clip)
    enlarge(clip, tmp_path / "out.mkv")
    times = video_pts(tmp_path / "out.mkv")
    assert len(times) == 12
    assert float(times[-1] - times[0]) == pytest.approx(11 * 1001 / 60000, abs=0.001)


def test_matroska_says_how_long_its_picture_is_where_a_subtitle_is_longer(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:50,000\nwords\n")
    film = tmp_path / "in.mkv"
    ffmpeg("-i", make_clip(tmp_path / "in.mp4", frames=25), "-i", words, "-c", "copy", film)
    info = probe(film)
    assert (info.num_frames, info.duration_seconds) == (25, 1.0)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such thing here")
def test_an_encoder_does_not_take_the_processor_from_everybody(tmp_path: Path) -> None:
    """SVT-AV1 makes its caller a real-time thread, where root runs it."""
    before = os.sched_getscheduler(0)
    film = make_clip(tmp_path / "in.mp4", frames=6)
    enlarge(film, tmp_path / "out.mp4", codec="av1", preset="12")
    assert os.sched_getscheduler(0) == before
