"""Attachments, covers and second video streams are kept."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from sharpreel.media.probe import probe
from sharpreel.media.streams import codec_name, is_cover
from sharpreel.media.verify import verify
from tests.support.upscaling import enlarge
from tests.support.videos import (
    FONT,
    ffmpeg,
    make_clip,
    make_cover,
    make_rich,
    packets,
)


def test_attachments_keep_their_bytes_name_and_type(tmp_path: Path) -> None:
    video = make_rich(tmp_path / "in.mkv")
    with av.open(str(enlarge(video).output)) as file:
        (font,) = [s for s in file.streams if s.type == "attachment"]
        assert isinstance(font, av.stream.AttachmentStream)
        assert font.data == FONT
        assert font.metadata == {"filename": "font.ttf", "mimetype": "font/ttf"}


@pytest.mark.parametrize(
    ("before", "after"), [(".mp4", ".mp4"), (".mkv", ".mkv"), (".mp4", ".mkv"), (".mkv", ".mp4")]
)
def test_the_cover_image_is_kept(tmp_path: Path, before: str, after: str) -> None:
    video = make_cover(tmp_path / f"in{before}")
    out = enlarge(video, tmp_path / f"out{after}").output
    info = probe(out)
    assert (info.width, info.height) == (128, 96)  # the video was upscaled, not its cover
    with av.open(str(out)) as file:
        covers = [s for s in file.streams if is_cover(s)]
        assert [codec_name(s) for s in covers] == ["png"]
        (image,) = [bytes(p) for p in file.demux(covers[0]) if p.size]
    assert image == (tmp_path / "cover.png").read_bytes()
    assert verify(video, out) == []


def test_a_second_video_stream_is_copied_and_the_default_one_upscaled(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "one.mp4", audio=False)
    two = make_clip(tmp_path / "two.mp4", size=(32, 32), audio=False)
    video = tmp_path / "in.mkv"
    dispositions = ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    ffmpeg("-i", one, "-i", two, "-map", "0", "-map", "1", "-c", "copy", *dispositions, video)
    out = enlarge(video).output
    assert (probe(out).width, probe(out).height) == (64, 64)
    with av.open(str(out)) as file:
        assert [s.codec_context.width for s in file.streams.video] == [64, 64]
        assert [s.codec_context.height for s in file.streams.video] == [48, 64]
    assert packets(out, "video", 0) == packets(video, "video", 0)
    assert verify(video, out) == []
