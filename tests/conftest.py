"""What several test files need: the corpus of real clips, and one small clip made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.videos import REPO, make_clip


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real clips beside the repository; tests that need it are skipped without."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the corpus of real clips is not here")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64x48, 24 frames at 25 a second, H.264 with AAC in MP4. Shared: read only."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")
