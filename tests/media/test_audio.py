"""Audio is re-encoded only where that is allowed."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from sharpreel.errors import UsageError
from sharpreel.media.streams import codec_name
from tests.support.rich_clips import pcm_video
from tests.support.upscaling import enlarge, planned
from tests.support.videos import (
    make_clip,
    video_pts,
)


def test_audio_is_re_encoded_only_where_allowed(tmp_path: Path) -> None:
    video = pcm_video(tmp_path)
    plan = planned(video, tmp_path / "out.mp4", allow_audio_transcode=True)
    assert plan.notes[-1] == (
        "audio stream 1 (pcm_u8) is re-encoded: .mp4 does not take pcm_u8; becomes AAC"
    )
    out = enlarge(video, tmp_path / "out.mp4", allow_audio_transcode=True).output
    with av.open(str(out)) as file:
        (sound,) = file.streams.audio
        assert codec_name(sound) == "aac"
        assert sound.metadata["language"] == "eng"
        length = sum(f.samples for f in file.decode(sound)) / 44100
    assert length == pytest.approx(0.96, abs=0.05)
    assert video_pts(out) == video_pts(video)


def test_webm_gets_opus(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6)
    with pytest.raises(UsageError, match=r"\.webm cannot hold audio stream 1 \(aac\)"):
        planned(clip, tmp_path / "out.webm")
    out = enlarge(clip, tmp_path / "out.webm", allow_audio_transcode=True, preset="8").output
    with av.open(str(out)) as file:
        assert codec_name(file.streams.audio[0]) == "opus"
