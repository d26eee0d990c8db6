"""The score of an engine on clips in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel.data.store import load_clips
from sharpreel.engines.choose import choose_engine
from sharpreel.evaluation import validation
from sharpreel.evaluation.metrics.fidelity import ssim
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames
from tests.support.evaluation import SIZE, lossless, run_benchmark
from tests.support.videos import moving


def test_validation_agrees_with_the_benchmark(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 4))
    model = load_model("reel-fast", 2)
    clips = load_clips([path], 2)
    score = validation.evaluate(choose_engine(model), clips)[0]
    clip = run_benchmark([model], path, temporal=False).clips[0]
    assert (clip.of("reel-fast").psnr, clip.of("bicubic").psnr) == (score.psnr, score.bicubic)


def test_additional_measures_are_taken_of_the_engine_and_of_bicubic(tmp_path: Path) -> None:
    clips = load_clips([lossless(tmp_path / "one.mkv", moving(SIZE, 3))], 2)
    engine = choose_engine(load_model("reel-fast", 2))
    (score,) = validation.scores(engine, clips, {"ssim": ssim})
    upscaled = upscale_frames(clips[0].lr, "bicubic", scale=2)
    expected = np.mean([ssim(sr, hr) for sr, hr in zip(upscaled, clips[0].hr, strict=True)])
    assert score.more["ssim"][1] == pytest.approx(expected)
    assert score.more["ssim"][0] != score.more["ssim"][1]


def test_the_table_has_a_row_for_each_clip_and_the_mean_gain() -> None:
    scores = [validation.Score("a", 31.0, 30.0), validation.Score("b", 34.0, 31.0)]
    assert validation.mean_gain(scores) == 2.0
    lines = validation.markdown("reel x2", scores).splitlines()
    assert lines[0] == "| clip | bicubic | reel x2 | gain |"
    assert lines[2:5] == [
        "| a | 30.00 | 31.00 | +1.00 |",
        "| b | 31.00 | 34.00 | +3.00 |",
        "| **mean** | 30.50 | 32.50 | +2.00 |",
    ]
    assert lines[-1].startswith("P1: PSNR on Y")
