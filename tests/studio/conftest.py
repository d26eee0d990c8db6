"""Studio folders, videos, and one finished training run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from sharpreel.studio import (
    jobs,
)
from sharpreel.studio.folder import (
    FOLDER_VARIABLE,
    RUNS,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    SMALL,
    ended,
)
from tests.support.tiles import tiles
from tests.support.videos import write_frames

# Without Streamlit there is nothing to test.
collect_ignore_glob = [] if find_spec("streamlit") else ["test_*.py"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "studio"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for k in range(4):
        write_frames(folder / f"clip{k}.mp4", [tiles(k, t) for t in range(5)], options={"crf": "5"})
    return folder


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studio folder with a finished run, `runs/first`: 12 steps, validated every 4."""
    folder = tmp_path_factory.mktemp("trained")
    job = Job(folder / RUNS / "first")
    words = ["train", "reel-fast", "--data", str(videos), "--out", str(job.folder), *SMALL]
    for setting in ("steps=12", "save_every=4", "validate_every=4"):
        words += ["--set", setting]
    job.start(words)
    assert ended(job) == jobs.Outcome("finished"), job.log_tail()
    return folder
