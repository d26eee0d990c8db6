"""The score of an engine on clips in memory."""

from __future__ import annotations

from pathlib import Path

from sharpreel.data.store import load_clips
from sharpreel.engines.choose import choose_engine
from sharpreel.evaluation import validation
from sharpreel.models.weights import load_model
from tests.support.evaluation import SIZE, lossless, run_benchmark
from tests.support.videos import moving


def test_validation_agrees_with_the_benchmark(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 4))
    model = load_model("reel-fast", 2)
    clips = load_clips([path], 2)
    score = validation.evaluate(choose_engine(model), clips)[0]
    clip = run_benchmark([model], path, temporal=False).clips[0]
    assert (clip.of("reel-fast").psnr, clip.of("bicubic").psnr) == (score.psnr, score.bicubic)
