"""mux.py: everything beside the picture is carried across, packet for packet."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.media.streams import codec_name, is_cover
from sharpreel.media.frame import TimeRange, time_range_of
from sharpreel.media.probe import probe
from sharpreel.media.tags import stream_tags
from sharpreel.media.verify import verify
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.pipeline.stages import Result
from sharpreel.upscale import run, upscale_video
from tests.support.videos import (
    FONT,
    count_frames,
    decode_rgb,
    ffmpeg,
    make_clip,
    make_cover,
    make_rich,
    make_timecode,
    packets,
    video_pts,
)
from tests.support.upscaling import enlarge, planned






def chapters(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """(start, end, title) of every chapter, in seconds."""
    with av.open(str(path)) as file:
        return [
            (c["start"] * unit, c["end"] * unit, c["metadata"]["title"])
            for c in file.chapters()
            if (unit := c["time_base"]) is not None
        ]


def facts(path: Path) -> list[tuple[Any, ...]]:
    """(type, codec, language, title, disposition) of every stream but the picture."""
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
def test_sound_and_subtitles_are_carried_packet_for_packet(tmp_path: Path, suffix: str) -> None:
    film = make_rich(tmp_path / f"in{suffix}")
    out = enlarge(film).output
    assert out == tmp_path / f"in_bicubic_x2{suffix}"
    for kind in ("audio", "subtitle"):
        for number in (0, 1):
            before, after = packets(film, kind, number), packets(out, kind, number)
            assert len(before) >= (1 if kind == "subtitle" else 40)
            assert after == before
    assert facts(out) == facts(film)
    assert {row[2:4] for row in facts(out)} >= {("eng", None), ("deu", "Kommentar")}
    assert verify(film, out) == []


def test_attachments_keep_their_bytes_name_and_type(tmp_path: Path) -> None:
    film = make_rich(tmp_path / "in.mkv")
    with av.open(str(enlarge(film).output)) as file:
        (font,) = [s for s in file.streams if s.type == "attachment"]
        assert isinstance(font, av.stream.AttachmentStream)
        assert font.data == FONT
        assert font.metadata == {"filename": "font.ttf", "mimetype": "font/ttf"}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_chapters_and_tags_are_kept(tmp_path: Path, suffix: str) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    film = tmp_path / f"in{suffix}"
    tags = ["-metadata", "mood=calm", "-movflags", "use_metadata_tags"]
    ffmpeg("-i", rich, "-map", "0:v", "-c", "copy", *tags, film)
    out = enlarge(film).output
    with av.open(str(out)) as file:
        tags = {key.lower(): value for key, value in file.metadata.items()}
    assert chapters(out) == [
        (0, Fraction(2, 5), "Opening"),
        (Fraction(2, 5), Fraction(24, 25), "The end"),
    ]
    assert tags["title"] == "A film"
    assert tags["comment"] == "Two words"
    assert tags["mood"] == "calm"  # a key that nobody has heard of


def test_a_title_survives_the_way_from_matroska_to_mp4_and_back(tmp_path: Path) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    film = tmp_path / "in.mkv"
    ffmpeg("-i", rich, "-map", "0:v", "-map", "0:a", "-c", "copy", film)
    there = enlarge(film, tmp_path / "there.mp4").output
    assert verify(film, there) == []
    back = enlarge(there, tmp_path / "back.mkv").output
    assert verify(there, back) == []
    with av.open(str(back)) as file:
        assert file.streams[2].metadata["title"] == "Kommentar"


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_the_timecode_track_is_kept(tmp_path: Path, suffix: str) -> None:
    film = make_timecode(tmp_path / f"in{suffix}")
    out = enlarge(film).output
    with av.open(str(out)) as file:
        (track,) = [s for s in file.streams if s.type == "data"]
        assert track.metadata["timecode"] == "01:02:03:04"
    assert packets(out, "data") == packets(film, "data")
    assert verify(film, out) == []


@pytest.mark.parametrize(
    ("before", "after"), [(".mp4", ".mp4"), (".mkv", ".mkv"), (".mp4", ".mkv"), (".mkv", ".mp4")]
)
def test_the_cover_picture_is_kept(tmp_path: Path, before: str, after: str) -> None:
    film = make_cover(tmp_path / f"in{before}")
    out = enlarge(film, tmp_path / f"out{after}").output
    info = probe(out)
    assert (info.width, info.height) == (128, 96)  # the film was upscaled, not its cover
    with av.open(str(out)) as file:
        covers = [s for s in file.streams if is_cover(s)]
        assert [codec_name(s) for s in covers] == ["png"]
        (picture,) = [bytes(p) for p in file.demux(covers[0]) if p.size]
    assert picture == (tmp_path / "cover.png").read_bytes()
    assert verify(film, out) == []


def test_a_cover_that_mp4_cannot_hold_beside_free_tags_is_named_before_the_run(
    tmp_path: Path,
) -> None:
    film = make_cover(tmp_path / "in.mkv", mood="calm")
    plan = planned(film, tmp_path / "out.mp4")
    assert "video stream 2 (png) cannot be kept: .mp4 holds it or the tags mood, not both" in (
        plan.notes
    )
    assert enlarge(film, tmp_path / "out.mp4").frames == 12


@pytest.mark.parametrize(
    ("before", "after"), [(".mp4", ".mp4"), (".mkv", ".mkv"), (".mov", ".mov")]
)
def test_sound_that_begins_later_than_the_picture_stays_late(
    tmp_path: Path, before: str, after: str
) -> None:
    clip = make_clip(tmp_path / "clip.mkv")
    film = tmp_path / f"in{before}"
    streams = ["-map", "0:v", "-map", "1:a"]
    ffmpeg("-i", clip, "-itsoffset", "0.3", "-i", clip, *streams, "-c", "copy", film)
    out = enlarge(film, tmp_path / f"out{after}").output
    begin = packets(film, "audio")[0][0]
    assert begin is not None
    assert 0.25 < begin < 0.35
    assert packets(out, "audio") == packets(film, "audio")
    assert video_pts(out) == video_pts(film)


def test_a_picture_that_begins_later_than_the_sound_stays_late(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    film = tmp_path / "in.mp4"
    streams = ["-map", "0:v", "-map", "1:a"]
    ffmpeg("-itsoffset", "0.44", "-i", clip, "-i", clip, *streams, "-c", "copy", film)
    out = enlarge(film).output
    assert video_pts(film)[0] == Fraction(11, 25)
    assert video_pts(out) == video_pts(film)
    assert packets(out, "audio") == packets(film, "audio")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_that_begins_before_zero_moves_nothing(tmp_path: Path, suffix: str) -> None:
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
    film = tmp_path / "in.mp4"
    ffmpeg("-ss", start, "-i", clip, "-c", "copy", film)
    result = enlarge(film)
    assert result.frames == count_frames(film) == count_frames(result.output)
    assert video_pts(result.output) == video_pts(film)
    assert len(decode_rgb(film)) < 50
    assert verify(film, result.output) == []


def test_matroska_rounds_times_to_milliseconds_and_the_plan_says_so(tmp_path: Path) -> None:
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


def pcm_film(folder: Path) -> Path:
    clip = make_clip(folder / "clip.mkv", audio=False)
    film = folder / "in.mkv"
    sound = ["-f", "lavfi", "-i", "sine=d=0.96:r=44100"]
    codecs = ["-c:v", "copy", "-c:a", "pcm_u8"]
    ffmpeg("-i", clip, *sound, *codecs, "-metadata:s:a:0", "language=eng", film)
    return film


def test_a_named_suffix_that_refuses_the_sound_is_an_error_with_two_ways_out(
    tmp_path: Path,
) -> None:
    film = pcm_film(tmp_path)
    with pytest.raises(
        UsageError,
        match=r"\.mp4 cannot hold audio stream 1 \(pcm_u8\) of .*in.mkv\. "
        r"Name the output \.mkv, or set allow_audio_transcode=True",
    ):
        planned(film, tmp_path / "out.mp4")


def test_sound_is_re_encoded_only_where_allowed(tmp_path: Path) -> None:
    film = pcm_film(tmp_path)
    plan = planned(film, tmp_path / "out.mp4", allow_audio_transcode=True)
    assert plan.notes[-1] == (
        "audio stream 1 (pcm_u8) is re-encoded: .mp4 does not take pcm_u8; becomes AAC"
    )
    out = enlarge(film, tmp_path / "out.mp4", allow_audio_transcode=True).output
    with av.open(str(out)) as file:
        (sound,) = file.streams.audio
        assert codec_name(sound) == "aac"
        assert sound.metadata["language"] == "eng"
        length = sum(f.samples for f in file.decode(sound)) / 44100
    assert length == pytest.approx(0.96, abs=0.05)
    assert video_pts(out) == video_pts(film)


def test_webm_gets_opus(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6)
    with pytest.raises(UsageError, match=r"\.webm cannot hold audio stream 1 \(aac\)"):
        planned(clip, tmp_path / "out.webm")
    out = enlarge(clip, tmp_path / "out.webm", allow_audio_transcode=True, preset="8").output
    with av.open(str(out)) as file:
        assert codec_name(file.streams.audio[0]) == "opus"


def test_webm_stays_webm(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.webm", codec="libvpx-vp9", frames=6, options={"deadline": "realtime"}
    )
    out = enlarge(clip, preset="8").output
    assert out.suffix == ".webm"
    assert packets(out, "audio") == packets(clip, "audio")


@pytest.mark.parametrize("suffix", [".avi", ".gif"])
def test_what_cannot_keep_times_becomes_matroska_with_a_note(tmp_path: Path, suffix: str) -> None:
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


def test_a_second_video_stream_is_copied_and_the_default_one_upscaled(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "one.mp4", audio=False)
    two = make_clip(tmp_path / "two.mp4", size=(32, 32), audio=False)
    film = tmp_path / "in.mkv"
    dispositions = ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    ffmpeg("-i", one, "-i", two, "-map", "0", "-map", "1", "-c", "copy", *dispositions, film)
    out = enlarge(film).output
    assert (probe(out).width, probe(out).height) == (64, 64)
    with av.open(str(out)) as file:
        assert [s.codec_context.width for s in file.streams.video] == [64, 64]
        assert [s.codec_context.height for s in file.streams.video] == [48, 64]
    assert packets(out, "video", 0) == packets(film, "video", 0)
    assert verify(film, out) == []


def test_hevc_in_mp4_carries_the_tag_that_apple_players_want(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    out = enlarge(clip, tmp_path / "out.mp4", codec="hevc").output
    assert b"hvc1" in out.read_bytes()


def test_a_cut_takes_sound_subtitles_and_chapters_with_it(tmp_path: Path) -> None:
    film = make_rich(tmp_path / "in.mkv")
    window = TimeRange(Fraction(1, 5), Fraction(4, 5))
    out = enlarge(film, tmp_path / "out.mkv", start=window.start, end=window.end).output
    assert video_pts(out) == [Fraction(k, 25) for k in range(15)]
    inside = [
        (t - Fraction(1, 5), data)
        for t, data in packets(film, "audio")
        if t is not None and window.holds(t)
    ]
    assert packets(out, "audio") == inside
    assert [t for t, _ in packets(out, "subtitle")] == [0, Fraction(3, 10)]
    assert chapters(out) == [
        (0, Fraction(1, 5), "Opening"),
        (Fraction(1, 5), Fraction(3, 5), "The end"),
    ]
    assert verify(film, out, window) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_the_date_of_a_phone_clip_stands_in_no_containers_way(tmp_path: Path, suffix: str) -> None:
    """MP4 dates each track too, which others have no place for; the film's date is kept."""
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    film = tmp_path / "in.mp4"
    ffmpeg("-i", clip, "-c", "copy", "-metadata", "creation_time=2020-01-02T03:04:05Z", film)
    if suffix == ".ts":  # has no tags at all
        film = clip
    out = enlarge(film, tmp_path / f"out{suffix}").output
    assert verify(film, out) == []
    if suffix != ".ts":
        with av.open(str(out)) as file:
            assert file.metadata["creation_time"] == "2020-01-02T03:04:05.000000Z"


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_rotation_and_aspect_go_from_mp4_to_matroska(tmp_path: Path, codec: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, rotation=270, aspect=Fraction(4, 3))
    out = enlarge(clip, tmp_path / "out.mkv", codec=codec).output
    info = probe(out)
    assert (info.rotation, info.sample_aspect_ratio) == (270, Fraction(4, 3))


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        (["-metadata:s:a:0", "SOURCE_ID=0011"], ".mp4"),
        (["-metadata:s:a:0", "language=en-US"], ".mp4"),
        (["-disposition:a:0", "original"], ".mp4"),
        (["-metadata:s:a:0", "language=deu"], ".mov"),
        (["-metadata", "title=A film"], ".ts"),
    ],
)
def test_a_tag_the_named_container_has_no_place_for_is_said_before_the_run(
    tmp_path: Path, options: list[str], suffix: str
) -> None:
    film = tmp_path / "in.mkv"
    ffmpeg("-i", make_clip(tmp_path / "clip.mkv", frames=3), "-c", "copy", *options, film)
    plan = planned(film, tmp_path / f"out{suffix}")
    run(plan)
    assert any("cannot be kept" in note for note in plan.notes)


def test_subtitles_of_mp4_become_subrip_in_matroska_and_the_plan_says_so(tmp_path: Path) -> None:
    film = make_rich(tmp_path / "in.mp4")
    plan = planned(film, tmp_path / "out.mkv")
    assert sum("becomes SubRip" in note for note in plan.notes) == 2
    result = run(plan)
    with av.open(str(result.output)) as out:
        for stream, language in zip(out.streams.subtitles, ("fra", "jpn"), strict=True):
            assert stream.codec_context.name in ("srt", "subrip")
            assert stream.language == language
        first = out.streams.subtitles[0]
        made = [(p.pts, p.duration, bytes(p).decode()) for p in out.demux(first) if p.size]
    assert made == [(100, 300, "First line."), (500, 400, "Second line, with ü.")]


def make_wmv(path: Path) -> Path:
    ffmpeg("-i", make_clip(path.with_suffix(".mp4")), "-c:v", "wmv2", "-c:a", "wmav2", path)
    return path


def test_sound_that_no_container_takes_is_never_left_out_unasked(tmp_path: Path) -> None:
    film = make_wmv(tmp_path / "in.wmv")
    with pytest.raises(UsageError, match=r"none of the supported containers can hold its audio stream 1 \(wmav2\)"):
        planned(film)
    with pytest.raises(UsageError, match=r"in\.wmv\. Set allow_audio_transcode=True\.$"):
        planned(film, tmp_path / "out.mkv")
    out = enlarge(film, allow_audio_transcode=True).output
    assert packets(out, "audio")


def test_a_transport_stream_takes_only_what_can_be_read_from_one(tmp_path: Path) -> None:
    film = tmp_path / "in.mkv"
    ffmpeg("-i", make_clip(tmp_path / "in.mp4"), "-c:v", "copy", "-c:a", "flac", film)
    with pytest.raises(UsageError, match=r"\.ts cannot hold audio stream 1 \(flac\)"):
        planned(film, tmp_path / "out.ts")


def test_the_empty_text_that_ends_mp4_subtitles_is_no_difference(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,500\nwords\n")
    film = tmp_path / "in.mp4"
    clip = make_clip(tmp_path / "clip.mp4")
    codecs = ["-c", "copy", "-c:s", "mov_text"]
    ffmpeg("-i", clip, "-i", words, "-map", "0", "-map", "1", *codecs, film)
    out = enlarge(film, tmp_path / "out.mp4").output
    assert verify(film, out) == []


def test_times_of_a_transport_stream_count_from_its_beginning(tmp_path: Path) -> None:
    film = tmp_path / "in.ts"
    clip = make_clip(tmp_path / "in.mp4", frames=50)
    ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", "1000", film)
    half = {"start": Fraction(1, 2), "end": Fraction(1)}
    assert planned(film, None, **half).num_frames == 12
    out = enlarge(film, tmp_path / "out.ts", **half).output
    assert count_frames(out) == 13  # at 0.52, 0.56 ... 1.00 of a clock that began with the sound
    assert verify(film, out, time_range_of(probe(film), **half)) == []
    with pytest.raises(InputError, match=r"start=3\.00 s is after its end \(2\.0"):
        planned(film, start=3)


def test_a_cut_behind_the_end_of_the_sound_has_none(tmp_path: Path) -> None:
    film = tmp_path / "in.mp4"
    clip = make_clip(tmp_path / "clip.mp4", frames=50)
    sound = ["-f", "lavfi", "-i", "sine=d=0.5"]
    ffmpeg("-i", clip, *sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", film)
    assert enlarge(film, tmp_path / "out.mp4", start=1).frames == 25


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cut_between_two_ticks_of_a_clock_is_within_a_tick(tmp_path: Path, suffix: str) -> None:
    film = make_clip(tmp_path / "in.mp4", frames=50)
    out = enlarge(film, tmp_path / f"out{suffix}", start=Fraction(1, 3)).output
    assert count_frames(out) == 41
