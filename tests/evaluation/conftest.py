"""Fixtures of the evaluation tests: a small Vid4 and its evaluation, three videos to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpreel.evaluation.results import Evaluation
from tests.support.evaluation import SIZE, lossless, noisy, run_benchmark, save_images
from tests.support.videos import moving


@pytest.fixture(scope="session")
def vid4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folders of numbered PNGs, 48x36, five frames each."""
    root = tmp_path_factory.mktemp("vid4") / "GT"
    for shift, name in enumerate(("calendar", "city", "foliage", "walk")):
        frames = list(moving((48, 36), 5 + shift))[shift:]
        save_images(root / name, frames)
    return root.parent


@pytest.fixture(scope="session")
def evaluation(vid4: Path) -> Evaluation:
    """reel-fast x4 on `vid4`."""
    return run_benchmark(["reel-fast"], vid4, scale=4, temporal=True)


@pytest.fixture(scope="session")
def reference() -> list[Any]:
    """16 frames of moving content. Shared: read only."""
    return list(moving(SIZE, 16))


@pytest.fixture(scope="session")
def trio(reference: list[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A better video, a worse one, and their reference."""
    folder = tmp_path_factory.mktemp("trio")
    return (
        lossless(folder / "a.mkv", noisy(reference, 4)),
        lossless(folder / "b.mkv", noisy(reference, 12, 1)),
        lossless(folder / "reference.mkv", reference),
    )
