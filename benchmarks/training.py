"""How fast recipes train here, and how much of the time they wait for data.

    python benchmarks/training.py [FOLDER] [--steps N]

FOLDER holds videos to learn from; without it, clips of moving texture are made. Each recipe runs
with its own batches, so the numbers are those of a real training: seconds a step in float32 and in
the precision that the trial at the start of a training chooses, and the share of the time in which
the network had no batch. A table goes to stdout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharpreel.data import degrade
from sharpreel.data.store import Clip, Frames, load_clips
from sharpreel.media.probe import VIDEO_SUFFIXES
from sharpreel.system.resources import usable_cpus
from sharpreel.training import precision, recipes
from sharpreel.training.config import TrainConfig
from sharpreel.training.trainer import Trainer

RECIPES: dict[str, dict[str, Any]] = {
    "reel-fast": {},
    "reel-realistic": {"degradation": "bi"},
    "tsrcnn-small": {"degradation": "bi"},
    "fast-srgan-2x": {"gan.features": "discriminator", "gan.start": 0, "degradation": "bi"},
}


def texture(seed: int) -> Frames:
    """(12, 270, 480, 3): a smooth random texture that slides."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (40, 70, 3), np.uint8)
    wide = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    return np.stack([wide[t : t + 270, 2 * t : 2 * t + 480] for t in range(12)])


def timed(config: TrainConfig, clips: list[Clip], steps: int) -> tuple[float, float, float]:
    """Seconds a step, lr clips a second, and the share of the time without a batch."""
    with tempfile.TemporaryDirectory() as folder:
        training = Trainer(config, clips, [], Path(folder))
        batches = training.loader.batches(0)
        training.training_step(next(batches))  # the first allocates memory and chooses kernels
        began, waited, seen = time.perf_counter(), 0.0, 0
        for _ in range(steps):
            asked = time.perf_counter()
            pairs = next(batches)
            waited += time.perf_counter() - asked
            training.training_step(pairs)
            seen += sum(len(lr) for lr, _ in pairs)
        spent = time.perf_counter() - began
        batches.close()
    return spent / steps, seen / spent, waited / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="videos to learn from")
    parser.add_argument("--steps", type=int, default=20, help="of each recipe")
    parser.add_argument("--recipe", choices=[*RECIPES], help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    chosen = precision.fastest_on_cpu()
    print(
        "| recipe | s a step, float32 | precision chosen | s a step in it | times faster "
        "| lr clips a second | share of time without data |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in [options.recipe] if options.recipe else RECIPES:
        config = recipes.configure(name, RECIPES[name])
        config = replace(config, save_every=options.steps)
        if options.folder is None:
            clips = [Clip(str(k), *degrade.degrade(texture(k), config.scale)) for k in range(8)]
        else:
            paths = sorted(
                p for p in options.folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES
            )
            clips = load_clips(paths[:16], config.scale)
        full = timed(replace(config, precision="32"), clips, options.steps)
        best = full
        if chosen != "32":
            best = timed(replace(config, precision=chosen), clips, options.steps)
        print(
            f"| {name} | {full[0]:.3f} | {chosen} | {best[0]:.3f} | {full[0] / best[0]:.2f} "
            f"| {best[1]:.1f} | {best[2]:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
