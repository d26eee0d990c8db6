"""Train a Reel: a folder of videos in, a model file out.

    python -m sharpreel.train --data train/ --val val/ --scale 2 --out run/

The run folder holds `last.pt`, all that is needed to go on, and in the end
`reel-fast_x2.safetensors`, the averaged weights with their card, beside its OpenVINO graph;
`sharpreel upscale -m run/reel-fast_x2.safetensors` runs it at once. Giving the same command again
goes on where it stopped, to the same weights bit for bit.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import platform
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpreel import data, evaluate, video, weights
from sharpreel.engine import OpenVinoEngine, TorchEngine
from sharpreel.models import MODELS
from sharpreel.models.reel import Reel

NAME = "reel-fast"
SAVE_EVERY = 250  # steps
SCORE_EVERY = 1000


@dataclass(frozen=True)
class TrainConfig:
    """One training, from an empty network to the last step.

    `stages` are (share of the steps, frames per clip, clips per batch): short clips first, since
    most of what the network learns is spatial, and long ones last, so that its state stays stable.
    """

    scale: int = 2
    channels: int = 32
    blocks: int = 5
    unshuffle: int = 2
    patch: int = 96  # lr pixels
    steps: int = 8000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    clip_gradient: float = 0.5
    ema: float = 0.999
    seed: int = 123
    stages: tuple[tuple[float, int, int], ...] = (
        (0.25, 2, 12),
        (0.55, 5, 8),
        (0.2, 10, 4),
    )

    def model(self) -> Reel:
        return Reel(self.scale, self.channels, self.blocks, self.unshuffle)

    def stage(self, step: int) -> tuple[int, int]:
        """(frames per clip, clips per batch) at this step."""
        end = 0.0
        for share, clip_len, batch in self.stages:
            end += share * self.steps
            if step < end:
                return clip_len, batch
        return self.stages[-1][1:]

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def recipe(scale: int, steps: int = TrainConfig.steps) -> TrainConfig:
    """The bundled reel-fast: pixel-unshuffled at 2x, for speed; at full resolution at 4x."""
    if scale == 2:
        return TrainConfig(scale=2, unshuffle=2, patch=96, steps=steps)
    return TrainConfig(scale=scale, unshuffle=1, patch=48, steps=steps)


def charbonnier(sr: Tensor, hr: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): L1 that is smooth at zero (Lai et al., 2017)."""
    return torch.sqrt((sr - hr) ** 2 + epsilon**2).mean()


def allowed_clips(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """Videos that bundled weights may be trained on, and how many there are of each `rights`.

    Where a MANIFEST.csv stands beside the folder, its noncommercial rows are left out.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in video.VIDEO_SUFFIXES)
    manifest = folder.parent / "MANIFEST.csv"
    rights: dict[str, str] = {}
    if manifest.is_file():
        with manifest.open(newline="") as file:
            rights = {row["file"]: row["rights"] for row in csv.DictReader(file)}
    kinds = {p: rights.get(f"{folder.name}/{p.name}", "unknown") for p in paths}
    kept = [p for p in paths if kinds[p] != "noncommercial"]
    return kept, dict(Counter(kinds[p] for p in kept))


def score(config: TrainConfig, module: Reel, clips: list[data.Clip]) -> list[evaluate.Score]:
    """The network's scores as `evaluate.py` takes them, through the torch engine."""
    model = weights.Model(NAME, MODELS[NAME], config.scale, {}, None, None, "")
    threads = torch.get_num_threads()
    try:
        return evaluate.evaluate(TorchEngine(model, module=module), clips)
    finally:
        torch.set_num_threads(threads)


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Write beside, then rename: a crash leaves the last whole checkpoint."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def train(
    config: TrainConfig, train_paths: list[Path], val_paths: list[Path], run: Path
) -> dict[str, Tensor]:
    """Train to the end of `config.steps`, going on from `run/last.pt` where there is one.

    Returns:
        The averaged weights.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model: Reel = config.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    step = 0
    last = run / "last.pt"
    if last.is_file():
        saved = torch.load(last, weights_only=True)
        if saved["config"] != json.dumps(dataclasses.asdict(config)):
            raise SystemExit(f"{last} was made with other settings; choose another folder.")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step = saved["average"], saved["step"]
    clips = data.load_clips(train_paths, config.scale)
    clips = [c for c in clips if min(c.lr.shape[1:3]) >= config.patch]
    val = data.load_clips(val_paths, config.scale, max_frames=8)
    print(f"{len(clips)} clips, from step {step} of {config.steps}", flush=True)
    probe = config.model()
    began, seen, losses = time.monotonic(), 0, []
    while step < config.steps:
        clip_len, batch = config.stage(step)
        lr8, hr8 = data.sample_batch(
            clips, config.scale, batch, clip_len, config.patch, config.seed, step
        )
        lr, hr = (
            torch.from_numpy(lr8).float() / 255,
            torch.from_numpy(hr8).float() / 255,
        )
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        sr, _ = model(lr)
        loss = charbonnier(sr, hr)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_gradient)
        optimizer.step()
        step, seen = step + 1, seen + 1
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SystemExit(
                f"The loss is {losses[-1]} at step {step}; {last} is the state before."
            )
        decay = min(config.ema, step / (step + 10))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % SAVE_EVERY == 0 or step == config.steps:
            state = {
                "config": json.dumps(dataclasses.asdict(config)),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
            }
            save_checkpoint(last, state)
            line = {
                "step": step,
                "loss": round(float(np.mean(losses)), 5),
                "seconds_per_step": round((time.monotonic() - began) / seen, 3),
            }
            losses = []
            if (step % SCORE_EVERY == 0 or step == config.steps) and val:
                probe.load_state_dict(average)
                line["val_gain_db"] = round(evaluate.mean_gain(score(config, probe, val)), 3)
            print(json.dumps(line), flush=True)
            with (run / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
    return average


def finish(
    config: TrainConfig,
    average: dict[str, Tensor],
    clips: dict[str, int],
    val_paths: list[Path],
    run: Path,
) -> Path:
    """Write the model file with its card, build its graph, and score that graph.

    Args:
        clips: Number of training clips of each `rights`.

    Returns:
        The safetensors file.
    """
    path = run / f"{NAME}_x{config.scale}.safetensors"
    module = config.model()
    module.load_state_dict(average)
    card: dict[str, Any] = {
        "model": NAME,
        "arguments": {
            "scale": config.scale,
            "channels": config.channels,
            "blocks": config.blocks,
            "unshuffle": config.unshuffle,
        },
        "parameters": sum(p.numel() for p in module.parameters()),
        "licence": "Apache-2.0",
        "recipe": dataclasses.asdict(config),
        "data": {"clips by rights": clips, "degradation": "BI (MATLAB bicubic), rounded to bytes"},
        "steps": config.steps,
        "hardware": f"{platform.machine()} CPU",
    }
    weights.save_weights(path, average, card)
    model = weights.load_model(path)
    weights.export_graph(dataclasses.replace(model, name=NAME), run)
    if val_paths:
        engine = OpenVinoEngine(weights.load_model(path))
        val = data.load_clips(val_paths, config.scale)
        scores = evaluate.evaluate(engine, val)
        print(evaluate.markdown(NAME, scores), flush=True)
        card["val_psnr_y"] = {
            "protocol": evaluate.PROTOCOL,
            "gain_db": round(evaluate.mean_gain(scores), 4),
            "clips": {s.clip: [round(s.bicubic, 4), round(s.psnr, 4)] for s in scores},
        }
        weights.save_weights(path, average, card)
    return path


def main() -> None:
    """`python -m sharpreel.train`."""
    parser = argparse.ArgumentParser(prog="python -m sharpreel.train", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of videos to train on")
    parser.add_argument("--val", type=Path, help="folder of videos to score on")
    parser.add_argument("--out", type=Path, required=True, help="run folder; exists: go on")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--threads", type=int, default=video.usable_cpus())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = recipe(options.scale, options.steps)
    paths, rights = allowed_clips(options.data)
    val = sorted(p for p in options.val.iterdir() if p.is_file()) if options.val else []
    average = train(config, paths, val, options.out)
    print(finish(config, average, rights, val, options.out))


if __name__ == "__main__":
    main()
