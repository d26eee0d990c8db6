"""`sharpreel data` from the command line, as users type it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.data.store import open_store
from tests.support.videos import moving, write_frames


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Four videos of five frames, 96x80."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(4):
        write_frames(folder / f"clip{k}.mp4", moving((96, 80), 5), options={"crf": "5"})
    return folder


def test_clips_are_reduced_when_they_are_prepared(videos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert run("data", "prepare", videos, "-o", store, "--height", 40).exit_code == 0
    assert {(e.width, e.height) for e in open_store(store).entries} == {(48, 40)}
    done = run("data", "prepare", videos, "-o", store, "--height", 60)
    assert done.exit_code == 2
    assert "holds clip0 with 40 lines" in done.stderr
    done = run("data", "prepare", videos, "-o", tmp_path / "two", "--height", 200)
    assert done.exit_code == 3
    assert "clip0 is 96x80, and training clips are never enlarged" in done.stderr


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


def test_json_events_report_each_clip_and_the_store(videos: Path, tmp_path: Path) -> None:
    done = run("data", "prepare", videos, "-o", tmp_path / "store", "--json")
    assert done.exit_code == 0, done.output
    *clips, store = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(e["event"], e["what"], e["done"], e["total"]) for e in clips] == [
        ("clip", "prepared", k, 4) for k in range(1, 5)
    ]
    assert (store["event"], store["clips"], store["frames"]) == ("store", 4, 20)
    assert store["sha256"] == open_store(tmp_path / "store").sha256
    assert store["rights"] == {"unknown": 4}


def test_an_unknown_data_set_is_one_line(tmp_path: Path) -> None:
    done = run("data", "fetch", "vid5", "-o", tmp_path / "sets")
    assert done.exit_code == 2
    assert "vid5: no such data set; choose one of vimeo90k" in done.stderr
    assert not (tmp_path / "sets").exists()


def test_harvesting_reports_each_source(videos: Path, tmp_path: Path) -> None:
    words = ["data", "harvest", videos, "-o", tmp_path / "clips", "--clip-len", 3, "--height", 64]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    *sources, last = [json.loads(line) for line in done.stdout.splitlines()]
    finished = [e for e in sources if e["finished"]]
    assert len(finished) == 4
    assert all("is too small: height=64 needs 96 pixels" in e["problem"] for e in finished)
    assert (last["event"], last["clips"]) == ("harvested", 0)
