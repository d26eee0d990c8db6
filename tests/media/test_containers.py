"""The container is chosen by what it can hold, and losses are reported before the run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.media.verify import verify
from tests.support.rich_clips import pcm_video
from tests.support.upscaling import enlarge, planned
from tests.support.videos import (
    count_frames,
    ffmpeg,
    make_clip,
    make_cover,
    make_rich,
    packets,
    video_pts,
)


def test_a_cover_that_mp4_cannot_hold_beside_free_tags_is_named_before_the_run(
    tmp_path: Path,
) -> None:
    video = make_cover(tmp_path / "in.mkv", mood="calm")
    plan = planned(video, tmp_path / "out.mp4")
    assert "video stream 2 (png) cannot be kept: .mp4 holds it or the tags mood, not both" in (
        plan.notes
    )
    assert enlarge(video, tmp_path / "out.mp4").frames == 12


def test_matroska_rounds_times_to_milliseconds_and_the_plan_notes_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", rate=Fraction(30000, 1001), frames=20)
    plan = planned(clip, tmp_path / "out.mkv")
    assert ".mkv stores times in steps of 1/1000 s: rounded to that" in plan.notes
    assert not any("rounded" in note for note in planned(clip, tmp_path / "out.mp4").notes)
    out = enlarge(clip, tmp_path / "out.mkv").output
    exact = [Fraction(1001 * k, 30000) for k in range(20)]
    assert video_pts(clip) == exact
    assert video_pts(out) == [Fraction(int(t * 1000 + Fraction(1, 2)), 1000) for t in exact]


def test_transport_streams_stay_transport_streams(tmp_path: Path) -> None:
    clip = tmp_path / "in.ts"
    ffmpeg("-i", make_clip(tmp_path / "clip.mp4", frames=30), "-c", "copy", clip)
    out = enlarge(clip).output
    assert out.suffix == ".ts"
    assert video_pts(out) == video_pts(clip)
    assert video_pts(clip)[0] > 1  # they begin somewhere, not at zero
    assert [b for _, b in packets(out, "audio")] == [b for _, b in packets(clip, "audio")]
    assert verify(clip, out) == []


def test_a_requested_container_that_cannot_hold_the_audio_is_an_error_with_two_alternatives(
    tmp_path: Path,
) -> None:
    video = pcm_video(tmp_path)
    with pytest.raises(
        UsageError,
        match=r"\.mp4 cannot hold audio stream 1 \(pcm_u8\) of .*in.mkv\. "
        r"Name the output \.mkv, or set allow_audio_transcode=True",
    ):
        planned(video, tmp_path / "out.mp4")


def test_webm_stays_webm(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.webm", codec="libvpx-vp9", frames=6, options={"deadline": "realtime"}
    )
    out = enlarge(clip, preset="8").output
    assert out.suffix == ".webm"
    assert packets(out, "audio") == packets(clip, "audio")


@pytest.mark.parametrize("suffix", [".avi", ".gif"])
def test_a_format_without_exact_times_becomes_matroska_with_a_note(
    tmp_path: Path, suffix: str
) -> None:
    if suffix == ".gif":
        clip = tmp_path / "in.gif"
        ffmpeg("-i", make_clip(tmp_path / "clip.mp4", audio=False), clip)
    else:
        clip = make_clip(tmp_path / "in.avi", codec="mpeg4")
    plan = planned(clip)
    assert plan.output.name == "in_bicubic_x2.mkv"
    assert f"the output is .mkv: {suffix} cannot keep exact timestamps" in plan.notes
    out = enlarge(clip).output
    assert count_frames(out) == count_frames(clip) == 24
    assert verify(clip, out) == []


def test_matroska_is_chosen_when_the_own_container_refuses_a_stream(tmp_path: Path) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    (tmp_path / "in.m4v").write_bytes(rich.read_bytes())  # a Matroska file by another name
    plan = planned(tmp_path / "in.m4v")
    assert plan.suffix == ".mkv"
    assert any(n.startswith("the output is .mkv: .m4v does not take subrip") for n in plan.notes)
    assert not any("cannot be kept" in note for note in plan.notes)


@pytest.mark.parametrize("name", ["out.xyz", "out.avi", "out.y4m"])
def test_a_suffix_we_do_not_write_is_refused_with_the_list(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=1)
    with pytest.raises(UsageError, match=r"sharpreel writes \.mkv, \.webm, \.mp4"):
        planned(clip, tmp_path / name)


def test_a_codec_the_container_refuses_is_an_error_before_the_run(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=1)
    with pytest.raises(UsageError, match=r"\.webm does not take h264 video"):
        planned(clip, tmp_path / "out.webm", codec="h264")


def make_wmv(path: Path) -> Path:
    ffmpeg("-i", make_clip(path.with_suffix(".mp4")), "-c:v", "wmv2", "-c:a", "wmav2", path)
    return path


def test_audio_that_no_container_can_hold_is_never_dropped_silently(tmp_path: Path) -> None:
    video = make_wmv(tmp_path / "in.wmv")
    with pytest.raises(
        UsageError, match=r"none of the supported containers can hold its audio stream 1 \(wmav2\)"
    ):
        planned(video)
    with pytest.raises(UsageError, match=r"in\.wmv\. Set allow_audio_transcode=True\.$"):
        planned(video, tmp_path / "out.mkv")
    out = enlarge(video, allow_audio_transcode=True).output
    assert packets(out, "audio")


def test_a_transport_stream_gets_only_codecs_that_can_be_read_from_one(tmp_path: Path) -> None:
    video = tmp_path / "in.mkv"
    ffmpeg("-i", make_clip(tmp_path / "in.mp4"), "-c:v", "copy", "-c:a", "flac", video)
    with pytest.raises(UsageError, match=r"\.ts cannot hold audio stream 1 \(flac\)"):
        planned(video, tmp_path / "out.ts")
