"""A clip with PCM sound, and the chapters and streams of a file, for tests."""

from __future__ import annotations

from pathlib import Path

from tests.support.videos import (
    ffmpeg,
    make_clip,
)


def pcm_video(folder: Path) -> Path:
    clip = make_clip(folder / "clip.mkv", audio=False)
    video = folder / "in.mkv"
    sound = ["-f", "lavfi", "-i", "sine=d=0.96:r=44100"]
    codecs = ["-c:v", "copy", "-c:a", "pcm_u8"]
    ffmpeg("-i", clip, *sound, *codecs, "-metadata:s:a:0", "language=eng", video)
    return video
