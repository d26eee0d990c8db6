"""MP4's subtitles become SubRip in Matroska."""

from __future__ import annotations

from pathlib import Path

import av

from sharpreel.media.verify import verify
from sharpreel.upscale import run
from tests.support.upscaling import enlarge, planned
from tests.support.videos import (
    ffmpeg,
    make_clip,
    make_rich,
)


def test_subtitles_of_mp4_become_subrip_in_matroska_and_the_plan_notes_it(tmp_path: Path) -> None:
    video = make_rich(tmp_path / "in.mp4")
    plan = planned(video, tmp_path / "out.mkv")
    assert sum("becomes SubRip" in note for note in plan.notes) == 2
    result = run(plan)
    with av.open(str(result.output)) as out:
        for stream, language in zip(out.streams.subtitles, ("fra", "jpn"), strict=True):
            assert stream.codec_context.name in ("srt", "subrip")
            assert stream.language == language
        first = out.streams.subtitles[0]
        made = [(p.pts, p.duration, bytes(p).decode()) for p in out.demux(first) if p.size]
    assert made == [(100, 300, "First line."), (500, 400, "Second line, with ü.")]


def test_the_empty_text_that_ends_mp4_subtitles_is_no_difference(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,500\nwords\n")
    video = tmp_path / "in.mp4"
    clip = make_clip(tmp_path / "clip.mp4")
    codecs = ["-c", "copy", "-c:s", "mov_text"]
    ffmpeg("-i", clip, "-i", words, "-map", "0", "-map", "1", *codecs, video)
    out = enlarge(video, tmp_path / "out.mp4").output
    assert verify(video, out) == []
