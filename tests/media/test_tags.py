"""Tags, chapters and timecodes are kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from sharpreel.media.verify import verify
from sharpreel.upscale import run
from tests.support.upscaling import enlarge, planned
from tests.support.videos import (
    ffmpeg,
    make_clip,
    make_rich,
    make_timecode,
    packets,
)


def chapters(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """(start, end, title) of every chapter, in seconds."""
    with av.open(str(path)) as file:
        return [
            (c["start"] * unit, c["end"] * unit, c["metadata"]["title"])
            for c in file.chapters()
            if (unit := c["time_base"]) is not None
        ]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_chapters_and_tags_are_kept(tmp_path: Path, suffix: str) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    video = tmp_path / f"in{suffix}"
    options = ["-metadata", "mood=calm", "-movflags", "use_metadata_tags"]
    ffmpeg("-i", rich, "-map", "0:v", "-c", "copy", *options, video)
    out = enlarge(video).output
    with av.open(str(out)) as file:
        tags = {key.lower(): value for key, value in file.metadata.items()}
    assert chapters(out) == [
        (0, Fraction(2, 5), "Opening"),
        (Fraction(2, 5), Fraction(24, 25), "The end"),
    ]
    assert tags["title"] == "A title"
    assert tags["comment"] == "Two words"
    assert tags["mood"] == "calm"  # a key that nobody has heard of


def test_a_title_survives_the_way_from_matroska_to_mp4_and_back(tmp_path: Path) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    video = tmp_path / "in.mkv"
    ffmpeg("-i", rich, "-map", "0:v", "-map", "0:a", "-c", "copy", video)
    there = enlarge(video, tmp_path / "there.mp4").output
    assert verify(video, there) == []
    back = enlarge(there, tmp_path / "back.mkv").output
    assert verify(there, back) == []
    with av.open(str(back)) as file:
        assert file.streams[2].metadata["title"] == "Kommentar"


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_the_timecode_track_is_kept(tmp_path: Path, suffix: str) -> None:
    video = make_timecode(tmp_path / f"in{suffix}")
    out = enlarge(video).output
    with av.open(str(out)) as file:
        (track,) = [s for s in file.streams if s.type == "data"]
        assert track.metadata["timecode"] == "01:02:03:04"
    assert packets(out, "data") == packets(video, "data")
    assert verify(video, out) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_the_date_of_a_phone_clip_is_no_obstacle_for_any_container(
    tmp_path: Path, suffix: str
) -> None:
    """MP4 dates each track too, which others have no place for; the video's date is kept."""
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    video = tmp_path / "in.mp4"
    ffmpeg("-i", clip, "-c", "copy", "-metadata", "creation_time=2020-01-02T03:04:05Z", video)
    if suffix == ".ts":  # has no tags at all
        video = clip
    out = enlarge(video, tmp_path / f"out{suffix}").output
    assert verify(video, out) == []
    if suffix != ".ts":
        with av.open(str(out)) as file:
            assert file.metadata["creation_time"] == "2020-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        (["-metadata:s:a:0", "SOURCE_ID=0011"], ".mp4"),
        (["-metadata:s:a:0", "language=en-US"], ".mp4"),
        (["-disposition:a:0", "original"], ".mp4"),
        (["-metadata:s:a:0", "language=deu"], ".mov"),
        (["-metadata", "title=A title"], ".ts"),
    ],
)
def test_a_tag_that_the_container_cannot_hold_is_reported_before_the_run(
    tmp_path: Path, options: list[str], suffix: str
) -> None:
    video = tmp_path / "in.mkv"
    ffmpeg("-i", make_clip(tmp_path / "clip.mkv", frames=3), "-c", "copy", *options, video)
    plan = planned(video, tmp_path / f"out{suffix}")
    run(plan)
    assert any("cannot be kept" in note for note in plan.notes)
