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

from sharpreel import data, degrade, precision, recipes, train
from sharpreel.video import VIDEO_SUFFIXES, usable_cpus

RECIPES: dict[str, dict[str, Any]] = {
    "reel-fast": {},
    "reel-realistic": {"degradation": "bi"},
    "tsrcnn-small": {"degradation": "bi"},
    "fast-srgan-2x": {"gan.features": "discriminator", "gan.start": 0, "degradation": "bi"},
}


def texture(seed: int) -> data.Frames:
    """(12, 270, 480, 3): a smooth random texture that slides."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (40, 70, 3), np.uint8)
    wide = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    return np.stack([wide[t : t + 270, 2 * t : 2 * t + 480] for t in range(12)])


def timed(
    config: train.TrainConfig, clips: list[data.Clip], steps: int
) -> tuple[float, float, float]:
    """Seconds a step, lr clips a second, and the share of the time without a batch."""
    with tempfile.TemporaryDirectory() as folder:
        training = train.Training(config, clips, [], Path(folder))
        batches = training.batches()
        training.learn(next(batches))  # the first makes room and picks kernels
        began, waited, seen = time.perf_counter(), 0.0, 0
        for _ in range(steps):
            asked = time.perf_counter()
            pairs = next(batches)
            waited += time.perf_counter() - asked
            training.learn(pairs)
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
    print("| recipe | s a step, float32 | precision chosen | s a step in it | times faster "
          "| lr clips a second | share of time without data |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name in [options.recipe] if options.recipe else RECIPES:
        config = recipes.configure(name, RECIPES[name])
        config = replace(config, save_every=options.steps)
        if options.folder is None:
            clips = [
                data.Clip(str(k), *degrade.degrade(texture(k), config.scale)) for k in range(8)
            ]
        else:
            paths = sorted(
                p for p in options.folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES
            )
            clips = data.load_clips(paths[:16], config.scale)
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
