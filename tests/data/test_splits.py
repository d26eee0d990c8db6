"""Splits as list files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.data.clips import find_clips, split
from sharpreel.data.splits import write_split
from sharpreel.data.store import prepare
from sharpreel.errors import InputError, UsageError
from tests.support.footage import save_named_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(10):
        save_named_images(tmp_path / "clips" / f"{k:02}", ["1.png"])
    return tmp_path / "clips"


def test_each_part_is_a_list_that_selects_its_clips(folder: Path, tmp_path: Path) -> None:
    parts = write_split(folder, tmp_path / "lists", seed=5)
    assert [part.name for part in parts] == ["train", "val", "test"]
    assert {part.name: list(part.clips) for part in parts} == split(
        [clip.name for clip in find_clips(folder)], 5
    )
    for part in parts:
        assert part.path == tmp_path / "lists" / f"{part.name}.txt"
        assert [clip.name for clip in find_clips(folder, part.path)] == list(part.clips)


def test_a_store_is_split_like_its_folder(folder: Path, tmp_path: Path) -> None:
    prepare(find_clips(folder), tmp_path / "store")
    from_folder = write_split(folder, tmp_path / "a")
    from_store = write_split(tmp_path / "store", tmp_path / "b")
    assert [part.clips for part in from_folder] == [part.clips for part in from_store]


def test_a_part_without_a_share_is_an_empty_list(folder: Path, tmp_path: Path) -> None:
    *_, test = write_split(folder, tmp_path / "lists", shares=(1, 1, 0))
    assert test.clips == ()
    assert test.path.read_text() == ""


def test_what_cannot_be_split_is_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shares=0/0/0"):
        write_split(folder, tmp_path / "lists", shares=(0, 0, 0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no videos"):
        write_split(tmp_path / "empty", tmp_path / "lists")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_split(folder, tmp_path / "file" / "lists")
