"""What several test files need: the corpus of real clips, and small clips made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

from sharpreel.upscale import upscale_video
from tests.support.resuming import (
    FRAMES,
    SEGMENT,
    UNEVEN,
    journalled,
    sha256,
    stop_at,
)
from tests.support.videos import REPO, make_clip


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real clips beside the repository; tests that need it are skipped without."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the corpus of real clips is not available")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64x48, 24 frames at 25 a second, H.264 with AAC in MP4. Shared: read only."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips with key frames every 12 frames, B-frames and sound; evenly timed, and not."""
    folder = tmp_path_factory.mktemp("sources")
    options = {"g": "12", "bf": "2"}
    return {
        "mp4": make_clip(folder / "even.mp4", frames=FRAMES, options=options),
        "mkv": make_clip(folder / "even.mkv", frames=FRAMES, options=options),
        "vfr": make_clip(folder / "uneven.mp4", pts=UNEVEN, options=options),
    }


@pytest.fixture(scope="session")
def uncut(
    sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], str]:
    """SHA-256 of the output of an uninterrupted run, by source and model."""
    folder = tmp_path_factory.mktemp("uncut")

    @lru_cache
    def digest(source: str, model: str) -> str:
        output = folder / f"{source}_{model}{sources[source].suffix}"
        upscale_video(sources[source], output, model=model, segment_seconds=SEGMENT)
        return sha256(output)

    return digest


@pytest.fixture
def stopped(sources: dict[str, Path], tmp_path: Path) -> Path:
    """The output of a bicubic run of "mp4" that an exception stopped after its third segment."""
    output = tmp_path / "out.mp4"
    stop_at(sources["mp4"], output, "segment", times=3)
    assert len(journalled(output)) == 3
    return output
