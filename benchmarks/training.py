"""How fast recipes train here, and how much of the time they wait for data.

    python benchmarks/training.py [FOLDER] [--steps N]

FOLDER holds videos to learn from; without it, clips of moving texture are made. Each recipe runs
with its own batches, so the numbers are those of a real training: lr clips a second, and the share
of the time in which the network had no batch. A table goes to stdout.
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
from sharpreel.training import recipes
from sharpreel.training.trainer import Trainer

RECIPES: dict[str, dict[str, Any]] = {
    "reel-fast": {},
    "tsrcnn-small": {"degradation": "bi"},
    "fast-srgan-2x": {"gan.features": "discriminator", "gan.start": 0, "degradation": "bi"},
}


def texture(seed: int) -> Frames:
    """(12, 270, 480, 3): a smooth random texture that slides."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (40, 70, 3), np.uint8)
    wide = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    return np.stack([wide[t : t + 270, 2 * t : 2 * t + 480] for t in range(12)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="videos to learn from")
    parser.add_argument("--steps", type=int, default=20, help="of each recipe")
    options = parser.parse_args()
    torch.set_num_threads(usable_cpus())
    print("| recipe | lr clips a second | seconds a step | share of time without data |")
    print("|---|---|---|---|")
    for name, settings in RECIPES.items():
        config = recipes.configure(name, settings)
        config = replace(config, save_every=options.steps, steps=config.steps)
        if options.folder is None:
            clips = [Clip(str(k), *degrade.degrade(texture(k), config.scale)) for k in range(8)]
        else:
            paths = sorted(
                p for p in options.folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES
            )
            clips = load_clips(paths[:16], config.scale)
        with tempfile.TemporaryDirectory() as folder:
            training = Trainer(config, clips, [], Path(folder))
            batches = training.batches()
            training.learn(next(batches))  # the first makes room and picks kernels
            began, waited, seen = time.perf_counter(), 0.0, 0
            for _ in range(options.steps):
                asked = time.perf_counter()
                pairs = next(batches)
                waited += time.perf_counter() - asked
                training.learn(pairs)
                seen += sum(len(lr) for lr, _ in pairs)
            spent = time.perf_counter() - began
            batches.close()
        print(
            f"| {name} | {seen / spent:.1f} | {spent / options.steps:.3f} | {waited / spent:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
