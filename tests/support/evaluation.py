"""Helpers of the evaluation tests: lossless clips, image folders, evaluations made by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.evaluation.benchmark import BenchmarkSettings, benchmark
from sharpreel.evaluation.results import (
    ClipResult,
    Crop,
    Evaluation,
    FrameScore,
    ModelInfo,
    ModelResult,
)
from sharpreel.media import images
from tests.support.videos import write_frames

SIZE = (64, 48)


def lossless(path: Path, frames: Any, **more: Any) -> Path:
    """An FFV1 file of RGB: the frames that are written are the frames that are read."""
    return write_frames(path, frames, codec="ffv1", pix_fmt="bgr0", **more)


def save_images(folder: Path, frames: Iterable[Any]) -> Path:
    """A new folder of numbered PNG files."""
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames, 1):
        images.write_png(folder / f"{k:03}.png", frame)
    return folder


def noisy(frames: list[Any], sigma: float, seed: int = 0) -> list[Any]:
    """The frames with Gaussian noise."""
    rng = np.random.default_rng(seed)
    return [np.clip(f + rng.normal(0, sigma, f.shape), 0, 255).astype(np.uint8) for f in frames]


def run_benchmark(models: Any, source: Path | str, **settings: Any) -> Evaluation:
    """`benchmark` with these settings; callbacks may be among them."""
    callbacks = {k: settings.pop(k) for k in ("on_progress", "on_frame") if k in settings}
    return benchmark(models, source, BenchmarkSettings(**settings), **callbacks)


def make_result(model: str, base: float, frames: int, **more: float) -> ModelResult:
    scores = tuple(FrameScore(k, base + math.sin(k), 0.8) for k in range(frames))
    psnr = float(np.mean([s.psnr for s in scores]))
    tof = more.get("tof", 0.4)
    return ModelResult(
        model=model,
        psnr=psnr,
        ssim=0.8,
        qm=5.0,
        tof=tof,
        warping_error=1e-3,
        flicker=0.9,
        lpips=0.3 - base / 1000,
        niqe=4.0,
        seam_time=1.1,
        seam_space=None,
        vmaf=None,
        vmaf_neg=None,
        fps=25.0,
        frames=scores,
    )


def make_crop(clip: str, kind: str, models: list[str], gain: float = 1.0) -> Crop:
    rng = np.random.default_rng(len(clip))
    hr = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return Crop(
        clip, 3, kind, models[-1], gain, 8, 16, hr[::2, ::2].copy(), hr, dict.fromkeys(models, hr)
    )


def make_evaluation(
    clips: int = 2, models: tuple[str, ...] = ("bicubic", "ours", "theirs"), frames: int = 5
) -> Evaluation:
    names = [f"clip{k}" for k in range(clips)]
    return Evaluation(
        protocol="P1",
        protocol_text="Y, full frames",
        degradation="bi",
        scale=2,
        models=tuple(ModelInfo(m, m, "openvino", "00ff") for m in models),
        clips=tuple(
            ClipResult(
                clip=name,
                width=64,
                height=48,
                lr_width=32,
                lr_height=24,
                frames=frames,
                counted=frames,
                truth_warping_error=1e-3,
                truth_niqe=3.5,
                results=tuple(make_result(m, 25 + k + j, frames) for k, m in enumerate(models)),
            )
            for j, name in enumerate(names)
        ),
        notes=("clip0, ours: frame 2 is of one colour where the reference is not, and counted",),
        settings={"source": "data", "max_frames": None, "protocol": {"name": "P1"}},
        versions={"sharpreel": "0", "numpy": np.__version__},
        seconds=1.5,
        peak_memory_mb=321,
        crops=tuple(
            make_crop(name, kind, list(models)) for name in names for kind in ("worst", "best")
        ),
    )
