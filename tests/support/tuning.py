"""Tiny searches: real training runs, or stand-ins that follow a script."""

from __future__ import annotations

import csv
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.data import degrade
from sharpreel.data.store import Clip
from sharpreel.training.config import TrainConfig
from sharpreel.training.progress import TrainProgress
from sharpreel.training.tune import search as search_
from sharpreel.training.tune.results import SearchResult, SearchUpdate
from sharpreel.training.tune.search import SearchOptions
from sharpreel.training.tune.space import Space
from tests.support.videos import REPO

RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


SPACE = Space.of({"learning_rate": RATE, "loss": {"choices": ["charbonnier", "l1"]}})


TINY: dict[str, Any] = {
    "arguments.channels": 8,
    "arguments.blocks": 1,
    "patch": 16,
    "steps": 4,
    "stages": "[[1.0, 2, 1]]",
    "save_every": 2,
    "validate_every": 2,
    "validate_frames": 1,
    "warmup_steps": 0,
}


TRIALS = 4


def clip(seed: int) -> Clip:
    """Coloured tiles that move by two pixels a frame."""
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    still = tiles.repeat(6, 0).repeat(6, 1)
    hr = np.stack([np.roll(still, 2 * t, axis=1) for t in range(3)])
    return Clip(f"clip{seed}", *degrade.degrade(hr, 2, "bi"))


CLIPS = [clip(k) for k in range(3)]


def search(
    out: Path,
    trials: int = TRIALS,
    space: Space | Path = SPACE,
    settings: Mapping[str, Any] | None = None,
    recipe: str = "reel-fast",
    **more: Any,
) -> SearchResult:
    chosen = TINY if settings is None else settings
    names = {field.name for field in dataclasses.fields(SearchOptions)}
    given = {"mlflow": False, "plots": False, **more}
    options = SearchOptions(**{name: given.pop(name) for name in names & given.keys()})
    return search_.tune(
        recipe, space, CLIPS[:2], CLIPS[2:], out, trials, settings=chosen, options=options, **given
    )


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tried(out: Path) -> list[tuple[float, str, float]]:
    """Return the settings and values of the finished trials, in order."""
    return [
        (float(r["learning_rate"]), r["loss"], float(r["value"]))
        for r in rows(out)
        if r["state"] in ("complete", "pruned")
    ]


def python(code: str, *arguments: Path) -> subprocess.Popen[bytes]:
    """Start a process that runs code with the names of this file."""
    setup = (
        f"import signal, sys, torch; sys.path.insert(0, {str(REPO)!r})\n"
        "from tests.support.tuning import *"
    )
    return subprocess.Popen([sys.executable, "-c", f"{setup}\n{code}", *map(str, arguments)])


def scripted(curve: Callable[[TrainConfig], list[float]]) -> Callable[..., Path]:
    """Return a stand-in for `trainer.train` that scores by this curve, one point per 10 steps."""

    def train(config: TrainConfig, *clips: Any, on_progress: Any, **more: Any) -> Path:
        run: Path = clips[2]
        for k, gain in enumerate(curve(config)):
            on_progress(
                TrainProgress(
                    10 * (k + 1), config.steps, 0.1, 0.0, 0.0, psnr=30 + gain, gain_db=gain
                )
            )
        path = run / "reel-fast_x2.safetensors"
        path.write_text(f"{config.learning_rate}")
        return path

    return train


def flat(config: TrainConfig) -> list[float]:
    """The lower the learning rate the better, from the first step to the last."""
    return [-config.learning_rate] * (config.steps // 10)


LONG = {**TINY, "steps": 40, "save_every": 10, "validate_every": 10}


def slow(config: TrainConfig) -> list[float]:
    time.sleep(0.3)
    return flat(config)


def interrupt_in(trial: int, error: type[BaseException] = KeyboardInterrupt) -> Any:
    """Return a callback that raises at the first score of a trial."""

    def on_update(update: SearchUpdate) -> None:
        if update.trial == trial and update.progress:
            raise error

    return on_update
