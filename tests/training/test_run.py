"""Training on a folder of videos from Python."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpreel.data.clips import find_clips
from sharpreel.data.store import prepare
from sharpreel.errors import ResumableError, TerminatedError, UsageError
from sharpreel.models.weights import load_model
from sharpreel.training import run as run_module
from sharpreel.training import trainer
from sharpreel.training.progress import TrainProgress
from sharpreel.training.run import (
    ClipFolders,
    LoadingCallbacks,
    load_training_clips,
    run_lock,
    train_from_folder,
)
from sharpreel.training.trackers import JsonlTracker
from tests.support.tiles import tiles
from tests.support.training import TINY
from tests.support.videos import write_frames

SHORT = replace(TINY, steps=2, warmup_steps=0, save_every=2, validate_every=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for k in range(4):
        write_frames(folder / f"clip{k}.mp4", [tiles(k, t) for t in range(4)])
    return folder


def test_a_folder_of_videos_becomes_a_model_with_a_graph(videos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    clips: list[tuple[str, int, int]] = []
    notes: list[str] = []
    progress: list[TrainProgress] = []
    trained = train_from_folder(
        SHORT,
        ClipFolders(videos),
        run,
        mlflow=False,
        callbacks=LoadingCallbacks(lambda *clip: clips.append(clip), on_note=notes.append),
        on_progress=progress.append,
    )
    assert trained.is_main
    assert trained.path == run / "reel-fast_x2.safetensors"
    assert trained.graph is not None
    assert clips == [(f"clip{k}", k + 1, 4) for k in range(4)]
    assert notes == ["2 clips to train on, 1 to validate on, 1 left for a test"]
    assert [p.step for p in progress] == [0, 2]
    assert len((run / "log.jsonl").read_text().splitlines()) == 2
    card = load_model(trained.path).card
    assert card["data"]["clips"] == 2
    assert card["data"]["clips by rights"] == {"unknown": 2}
    with pytest.raises(UsageError, match="resume=True: no resumable training run"):
        train_from_folder(SHORT, ClipFolders(videos), tmp_path / "none", resume=True)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (TerminatedError("terminated"), "KILLED"), (UsageError("no"), "FAILED")],
)
def test_trackers_are_closed_with_the_status_of_the_run(
    error: Exception | None,
    status: str,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    class Tracker(JsonlTracker):
        def close(self, status: Any = "FINISHED") -> None:
            closed.append(status)

    def train(config: Any, train_clips: Any, val_clips: Any, run: Path, **more: Any) -> Path:
        if error is not None:
            raise error
        return run / "model.safetensors"

    monkeypatch.setattr(run_module, "JsonlTracker", Tracker)
    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(run_module, "release_graph", lambda path, clips: None)
    expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
    with expected:
        train_from_folder(SHORT, ClipFolders(videos), tmp_path / "run", mlflow=False)
    assert closed == [status]


def test_a_run_folder_is_used_by_one_training_run(tmp_path: Path) -> None:
    with (
        run_lock(tmp_path / "run"),
        pytest.raises(ResumableError, match="another training run is using this folder"),
        run_lock(tmp_path / "run"),
    ):
        pass
    with run_lock(tmp_path / "run"):
        pass


def test_each_process_of_a_run_holds_its_own_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_lock(tmp_path):
        monkeypatch.setitem(os.environ, "RANK", "1")
        with run_lock(tmp_path):
            assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "lock1"]


def test_clips_come_from_a_store_and_a_list_selects_some(videos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    prepare(find_clips(videos), store)
    (tmp_path / "list.txt").write_text("clip1\nclip3\n")
    folders = ClipFolders(store, val=store, names=tmp_path / "list.txt")
    clips = load_training_clips(SHORT, folders, tmp_path / "run")
    assert [clip.name for clip in clips.train] == ["clip1", "clip3"]
    assert len(clips.val) == 4
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"height=40: .* is a store, whose clips have their size"):
        load_training_clips(SHORT, replace(folders, height=40), tmp_path / "run")


def test_noncommercial_clips_are_skipped_unless_requested(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(2):
        write_frames(videos / f"clip{k}.mp4", [tiles(k, t) for t in range(2)])
    rows = "videos/clip0.mp4,noncommercial\nvideos/clip1.mp4,permissive\n"
    (tmp_path / "MANIFEST.csv").write_text(f"file,rights\n{rows}")
    notes: list[str] = []
    folders = ClipFolders(videos, val=videos)
    callbacks = LoadingCallbacks(on_note=notes.append)
    clips = load_training_clips(SHORT, folders, tmp_path / "one", callbacks)
    assert clips.facts["clips by rights"] == {"permissive": 1}
    assert notes == ["1 noncommercial clips are skipped"] * 2
    every = load_training_clips(SHORT, replace(folders, noncommercial=True), tmp_path / "two")
    assert json.loads(json.dumps(every.facts))["clips"] == 2
    (tmp_path / "MANIFEST.csv").write_text(
        "file,rights\n" + rows.replace("permissive", "noncommercial")
    )
    with pytest.raises(UsageError, match="noncommercial=True includes them"):
        load_training_clips(SHORT, folders, tmp_path / "three")
