"""All streams beside the video are copied packet for packet, with their times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from sharpreel.media.frame import TimeRange
from sharpreel.media.probe import probe
from sharpreel.media.streams import codec_name
from sharpreel.media.tags import stream_tags
from sharpreel.media.verify import verify
from tests.support.upscaling import enlarge
from tests.support.videos import (
    count_frames,
    decode_rgb,
    ffmpeg,
    make_clip,
    make_rich,
    packets,
    video_pts,
)


def chapters(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """(start, end, title) of every chapter, in seconds."""
    with av.open(str(path)) as file:
        return [
            (c["start"] * unit, c["end"] * unit, c["metadata"]["title"])
            for c in file.chapters()
            if (unit := c["time_base"]) is not None
        ]


def facts(path: Path) -> list[tuple[Any, ...]]:
    """(type, codec, language, title, disposition) of every stream but the video."""
    with av.open(str(path)) as file:
        return [
            (
                s.type,
                codec_name(s),
                s.metadata.get("language"),
                stream_tags(s).get("title"),
                int(s.disposition) & ~1,
            )
            for s in file.streams
            if s.type != "video"
        ]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_audio_and_subtitles_are_copied_packet_for_packet(tmp_path: Path, suffix: str) -> None:
    video = make_rich(tmp_path / f"in{suffix}")
    out = enlarge(video).output
    assert out == tmp_path / f"in_bicubic_x2{suffix}"
    for kind in ("audio", "subtitle"):
        for number in (0, 1):
            before, after = packets(video, kind, number), packets(out, kind, number)
            assert len(before) >= (1 if kind == "subtitle" else 40)
            assert after == before
    assert facts(out) == facts(video)
    assert {row[2:4] for row in facts(out)} >= {("eng", None), ("deu", "Kommentar")}
    assert verify(video, out) == []


@pytest.mark.parametrize(
    ("before", "after"), [(".mp4", ".mp4"), (".mkv", ".mkv"), (".mov", ".mov")]
)
def test_audio_that_starts_after_the_video_stays_late(
    tmp_path: Path, before: str, after: str
) -> None:
    clip = make_clip(tmp_path / "clip.mkv")
    video = tmp_path / f"in{before}"
    streams = ["-map", "0:v", "-map", "1:a"]
    ffmpeg("-i", clip, "-itsoffset", "0.3", "-i", clip, *streams, "-c", "copy", video)
    out = enlarge(video, tmp_path / f"out{after}").output
    begin = packets(video, "audio")[0][0]
    assert begin is not None
    assert 0.25 < begin < 0.35
    assert packets(out, "audio") == packets(video, "audio")
    assert video_pts(out) == video_pts(video)


def test_video_that_starts_after_the_audio_stays_late(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    video = tmp_path / "in.mp4"
    streams = ["-map", "0:v", "-map", "1:a"]
    ffmpeg("-itsoffset", "0.44", "-i", clip, "-i", clip, *streams, "-c", "copy", video)
    out = enlarge(video).output
    assert video_pts(video)[0] == Fraction(11, 25)
    assert video_pts(out) == video_pts(video)
    assert packets(out, "audio") == packets(video, "audio")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_audio_that_starts_before_zero_moves_nothing(tmp_path: Path, suffix: str) -> None:
    """AAC's priming samples lie before zero in MP4; Matroska's writer would shift all streams."""
    clip = make_clip(tmp_path / "in.mp4")
    begin = packets(clip, "audio")[0][0]
    assert begin is not None
    assert begin < 0
    out = enlarge(clip, tmp_path / f"out{suffix}").output
    step = 0 if suffix != ".mkv" else Fraction(1, 2000)
    assert video_pts(out) == video_pts(clip)
    for (wanted, data), (have, copy) in zip(
        packets(clip, "audio"), packets(out, "audio"), strict=True
    ):
        assert wanted is not None
        assert have is not None
        assert abs(wanted - have) <= step
        assert data == copy
    assert verify(clip, out) == []


@pytest.mark.parametrize("start", ["0.2", "0.5", "0.77"])
def test_an_edit_list_neither_hides_nor_adds_a_frame(tmp_path: Path, start: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=50, options={"g": "12", "bf": "2"})
    video = tmp_path / "in.mp4"
    ffmpeg("-ss", start, "-i", clip, "-c", "copy", video)
    result = enlarge(video)
    assert result.frames == count_frames(video) == count_frames(result.output)
    assert video_pts(result.output) == video_pts(video)
    assert len(decode_rgb(video)) < 50
    assert verify(video, result.output) == []


def test_hevc_in_mp4_carries_the_tag_that_apple_players_want(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    out = enlarge(clip, tmp_path / "out.mp4", codec="hevc").output
    assert b"hvc1" in out.read_bytes()


def test_a_cut_moves_audio_subtitles_and_chapters_with_it(tmp_path: Path) -> None:
    video = make_rich(tmp_path / "in.mkv")
    window = TimeRange(Fraction(1, 5), Fraction(4, 5))
    out = enlarge(video, tmp_path / "out.mkv", start=window.start, end=window.end).output
    assert video_pts(out) == [Fraction(k, 25) for k in range(15)]
    inside = [
        (t - Fraction(1, 5), data)
        for t, data in packets(video, "audio")
        if t is not None and window.holds(t)
    ]
    assert packets(out, "audio") == inside
    assert [t for t, _ in packets(out, "subtitle")] == [0, Fraction(3, 10)]
    assert chapters(out) == [
        (0, Fraction(1, 5), "Opening"),
        (Fraction(1, 5), Fraction(3, 5), "The end"),
    ]
    assert verify(video, out, window) == []


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_rotation_and_aspect_go_from_mp4_to_matroska(tmp_path: Path, codec: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, rotation=270, aspect=Fraction(4, 3))
    out = enlarge(clip, tmp_path / "out.mkv", codec=codec).output
    info = probe(out)
    assert (info.rotation, info.sample_aspect_ratio) == (270, Fraction(4, 3))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cut_between_two_ticks_of_a_clock_is_within_a_tick(tmp_path: Path, suffix: str) -> None:
    video = make_clip(tmp_path / "in.mp4", frames=50)
    out = enlarge(video, tmp_path / f"out{suffix}", start=Fraction(1, 3)).output
    assert count_frames(out) == 41
