"""A folder of videos for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.videos import make_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, one in a subfolder, among other things."""
    videos = tmp_path / "videos"
    (videos / "sub" / "deep").mkdir(parents=True)
    make_clip(videos / "a.mp4", frames=3)
    make_clip(videos / "sub" / "deep" / "b.mkv", frames=3)
    (videos / "notes.txt").write_text("not a video")
    return videos
