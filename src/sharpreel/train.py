"""Train a Reel: a folder of videos in, a safetensors file out.

    python -m sharpreel.train --data FOLDER --scale 2 --steps 8000 --out run/

The run folder holds `last.pt` (everything needed to go on) and `reel-fast_x2.safetensors` (the
averaged weights, which `sharpreel upscale -m` runs). Starting again with the same folder goes on
where it was. Settings are the fields of `TrainConfig`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel import data, ops
from sharpreel.models.reel import Reel


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


def charbonnier(sr: Tensor, hr: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): L1 that is smooth at zero (Lai et al., 2017)."""
    return torch.sqrt((sr - hr) ** 2 + epsilon**2).mean()


def allowed_clips(folder: Path) -> list[Path]:
    """Videos of a folder; where a MANIFEST.csv stands beside it, without the noncommercial rows."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".mp4", ".mkv", ".mov"})
    manifest = folder.parent / "MANIFEST.csv"
    if not manifest.is_file():
        return paths
    with manifest.open(newline="") as file:
        rights = {row["file"]: row["rights"] for row in csv.DictReader(file)}
    return [p for p in paths if rights.get(f"{folder.name}/{p.name}") != "noncommercial"]


@torch.no_grad()
def validate(model: Reel, clips: list[data.Clip]) -> float:
    """Mean gain in PSNR on Y over bicubic, dB, on the given clips; one state per clip."""
    gains = []
    for clip in clips:
        t, h, w, _ = clip.lr.shape
        u = model.unshuffle
        h, w = h - h % u, w - w % u
        lr = torch.from_numpy(clip.lr[:, :h, :w]).permute(0, 3, 1, 2).float() / 255
        state = model.zero_state(lr[:1])
        for index in range(t):
            frame = lr[index : index + 1]
            sr, state = model.step(frame, state)
            bicubic = F.pixel_shuffle(model.base(frame), model.scale)
            hr = ops.luma(clip.hr[index, : h * model.scale, : w * model.scale])
            if index < t // 2:
                continue  # the state needs a few frames
            errors = []
            for picture in (sr, bicubic):
                rgb = (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
                errors.append(((ops.luma(rgb) - hr) ** 2).mean())
            gains.append(10 * math.log10(errors[1] / errors[0]))
    return float(np.mean(gains))


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
        if step % 250 == 0 or step == config.steps:
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
            if step % 1000 == 0 or step == config.steps:
                probe.load_state_dict(average)
                line["val_gain_db"] = round(validate(probe, val), 3)
            print(json.dumps(line), flush=True)
            with (run / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
    return average
