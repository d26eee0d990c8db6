"""Thumbnails of a running job, from a segment that is still being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpreel.errors import InputError
from sharpreel.web.sandbox import thumbnails
from tests.support.videos import make_clip


def test_an_unfinished_segment_is_matched_with_its_position_in_the_input(
    tmp_path: Path, long_clip: Path
) -> None:
    record = {"name": "seg-00000.mkv", "pts": [0, 512, 1024]}
    (tmp_path / "journal.jsonl").write_text(json.dumps(record) + '\n{"name": "seg')
    for name in ("part-seg-00001.mkv", "part-seg-00003.mkv"):
        (tmp_path / name).write_bytes(b"")
    assert list(thumbnails.newest_segments(tmp_path)) == [
        (tmp_path / "part-seg-00001.mkv", 1025),
        (tmp_path / "seg-00000.mkv", 0),
    ]
    with pytest.raises(InputError, match="no frame yet"):
        thumbnails.write_thumbnails(long_clip, tmp_path, tmp_path)
    whole = make_clip(tmp_path / "whole.mkv", size=(128, 96), frames=100, audio=False)
    data = whole.read_bytes()
    (tmp_path / "part-seg-00001.mkv").write_bytes(data[: len(data) // 2])
    thumbnails.write_thumbnails(long_clip, tmp_path, tmp_path)
    assert (tmp_path / "before.jpg").exists()
    assert (tmp_path / "after.jpg").exists()
