"""Searches on a folder of videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.training.run import ClipFolders
from sharpreel.training.tune import run as tune_run
from sharpreel.training.tune.search import SearchOptions
from tests.support.tiles import tiles
from tests.support.tuning import TINY
from tests.support.videos import write_frames

SPACE = 'learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}\n'


def test_a_folder_of_videos_is_split_and_searched(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for k in range(3):
        write_frames(videos / f"clip{k}.mp4", [tiles(k, t) for t in range(3)])
    (tmp_path / "space.toml").write_text(SPACE)
    result = tune_run.tune_from_folder(
        "reel-fast",
        tmp_path / "space.toml",
        ClipFolders(videos),
        out,
        1,
        settings={**TINY, "steps": 2},
        options=SearchOptions(mlflow=False, plots=False),
    )
    assert result.states == {"complete": 1, "pruned": 0, "failed": 0}
    assert (out / "clips" / "manifest.json").is_file()


def test_a_missing_device_is_refused_before_videos_are_decoded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device='tpu'"):
        tune_run.tune_from_folder(
            "reel-fast",
            tmp_path / "space.toml",
            ClipFolders(tmp_path),
            tmp_path / "out",
            1,
            options=SearchOptions(device="tpu"),
        )
    assert not (tmp_path / "out").exists()
