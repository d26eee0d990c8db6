"""Fixtures of the evaluation tests: a small Vid4 and its evaluation, three videos to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpreel.evaluation.results import Evaluation
from tests.support.evaluation import SIZE, lossless, noisy, run_benchmark, save_images
from tests.support.videos import moving


@pytest.fixture(scope="module")
def vid4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folders of numbered PNGs, 48x36, five frames each."""
    root = tmp_path_factory.mktemp("vid4") / "GT"
    for shift, name in enumerate(("calendar", "city", "foliage", "walk")):
        frames = list(moving((48, 36), 5 + shift))[shift:]
        save_images(root / name, frames)
    return root.parent


@pytest.fixture(scope="module")
def found(vid4: Path) -> Evaluation:
    return run_benchmark(["reel-fast"], vid4, scale=4, temporal=True)


@pytest.fixture(scope="module")
def truth() -> list[Any]:
    return list(moving(SIZE, 16))


@pytest.fixture(scope="module")
def trio(truth: list[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A better video, a worse one and the truth."""
    folder = tmp_path_factory.mktemp("trio")
    return (
        lossless(folder / "a.mkv", noisy(truth, 4)),
        lossless(folder / "b.mkv", noisy(truth, 12, 1)),
        lossless(folder / "truth.mkv", truth),
    )
