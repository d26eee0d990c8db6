"""Tiny training runs, and comparisons of their results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sharpreel.evaluation.validation import Score
from sharpreel.training import recipes
from sharpreel.training.config import GanConfig, Stage, TrainConfig
from sharpreel.training.progress import TrainProgress
from sharpreel.training.trackers import NullTracker
from sharpreel.training.validation import Validator
from tests.support.videos import REPO

TINY = replace(
    recipes.configure("reel-fast"),
    arguments={"scale": 2, "channels": 8, "blocks": 1, "unshuffle": 2},
    patch=16,
    steps=6,
    warmup_steps=2,
    stages=(Stage(0.5, 2, 2), Stage(0.5, 3, 1)),
    save_every=3,
    validate_every=3,
    precision="32",
)
SMALL_GAN = GanConfig(discriminator="patch", game="srgan", features="discriminator", start=2)
VARIANTS: dict[str, TrainConfig] = {
    "plain": TINY,
    "accumulated": replace(TINY, accumulate=2, clip_gradient=0.0, ema=0.0),
    "adagrad": replace(TINY, optimizer="adagrad", schedule="onecycle"),
    "sgd": replace(TINY, optimizer="sgd", momentum=0.9, schedule="step", milestones=(0.3,)),
    "gan": replace(TINY, gan=SMALL_GAN),
}


def weights_of(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def assert_same_weights(one: Path, two: Path) -> None:
    a, b = weights_of(one), weights_of(two)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


class Stopped(Exception):
    pass


def stop_after(saves: int) -> Callable[[TrainProgress], None]:
    """Return a callback that raises Stopped before the save after this many."""

    def on_progress(progress: TrainProgress) -> None:
        nonlocal saves
        saves -= progress.step > 0
        if saves < 0:
            raise Stopped

    return on_progress


def launch(
    code: str, folder: Path, *arguments: str, processes: int = 2
) -> subprocess.CompletedProcess[str]:
    """Run code in N gloo processes; it gets the folder and the arguments, {tests} is the root."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(code.format(tests=str(REPO)))
    torchrun = [
        *("-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=0"),
        *("--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"),
    ]
    command = [sys.executable, *(torchrun if processes > 1 else []), str(script), str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=env, timeout=200, check=False
    )


class FillsDisk(NullTracker):
    """After the save of step 3, a file of this name in the run folder can no longer be written."""

    def __init__(self, run: Path, name: str) -> None:
        self.path = run / name

    def step(self, step: int, terms: dict[str, float]) -> None:
        if step == 4:
            self.path.unlink(missing_ok=True)
            self.path.symlink_to("/dev/full")


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def script_scores(monkeypatch: pytest.MonkeyPatch, *psnr: float, bicubic: float = 20.0) -> None:
    """Let each validation score the next of these values, in dB."""
    left = iter(psnr)
    monkeypatch.setattr(Validator, "score", lambda *_: [Score("c", next(left), bicubic)])
