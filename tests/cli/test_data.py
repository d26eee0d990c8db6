"""`sharpreel data` from the command line, as users type it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.data.store import open_store
from tests.support.tiles import tiles
from tests.support.videos import write_frames


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(4):
        frames = [tiles(k, t) for t in range(5)]
        write_frames(folder / f"clip{k}.mp4", frames, options={"crf": "5"})
    return folder


def test_clips_are_scaled_down_when_they_are_prepared(videos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert run("data", "prepare", videos, "-o", store, "--height", 40).exit_code == 0
    assert {(e.width, e.height) for e in open_store(store).entries} == {(48, 40)}
    done = run("data", "prepare", videos, "-o", store, "--height", 60)
    assert done.exit_code == 2
    assert "was prepared with 40 lines, not 60" in done.stderr
    done = run("data", "prepare", videos, "-o", tmp_path / "two", "--height", 200)
    assert done.exit_code == 3
    assert "96x80 is lower than 200 lines, and clips are never enlarged" in done.stderr


def test_data_is_prepared_checked_and_split(videos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = run("data", "prepare", videos, "-o", store, "--max-frames", 3)
    assert done.exit_code == 0, done.output
    assert {e.frames for e in open_store(store).entries} == {3}
    done = run("data", "check", store)
    assert done.exit_code == 0
    done = run("data", "split", store, "-o", tmp_path / "lists", "--shares", "50/25/25")
    assert done.exit_code == 0, done.output
    listed = [
        (tmp_path / "lists" / f"{p}.txt").read_text().split() for p in ("train", "val", "test")
    ]
    assert [len(names) for names in listed] == [2, 1, 1]
    again = tmp_path / "again"
    done = run("data", "prepare", videos, "-o", again, "--list", tmp_path / "lists" / "val.txt")
    assert open_store(again).names == listed[1]
    file = store / open_store(store).entries[0].file
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    done = run("data", "check", store)
    assert done.exit_code == 3
    for shares in ("most", "0/0/0", "-1/1/1"):
        done = run("data", "split", store, "-o", tmp_path / "bad", "--shares", shares)
        assert done.exit_code == 2, done.output
        assert not (tmp_path / "bad").exists()
    done = run("data", "split", store, "-o", file / "lists")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
