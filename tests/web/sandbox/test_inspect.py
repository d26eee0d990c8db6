"""Inspection of an upload in a child process."""

from __future__ import annotations

import json
from pathlib import Path

from sharpreel.web.http import schemas
from sharpreel.web.sandbox import process


def run_inspection(path: Path) -> dict[str, object]:
    ended = process.run(
        "sharpreel.web.sandbox.inspect", [path], process.ResourceLimits(file_bytes=0), 60
    )
    assert ended.exit_code == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_video_is_described_as_in_the_api(clip: Path) -> None:
    info = schemas.Info.model_validate(run_inspection(clip)["info"])
    assert (info.width, info.height, info.frames, info.fps) == (64, 48, 24, 25.0)
    assert {stream.kind for stream in info.streams} == {"video", "audio"}


def test_a_playlist_is_not_opened(tmp_path: Path, clip: Path) -> None:
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n")
    assert "not a readable video" in str(run_inspection(playlist)["error"])
