"""Scores of the bundled models."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.data.store import load_clips
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.evaluation import validation
from sharpreel.evaluation.validation import markdown, mean_gain
from sharpreel.models.weights import load_model
from tests.support.tiles import tile_clips


def test_bicubic_gains_nothing_over_bicubic() -> None:
    scores = validation.evaluate(OpenVinoEngine(load_model("bicubic", 2)), tile_clips(2))
    assert [s.gain for s in scores] == [0, 0]
    assert "P1" in markdown("bicubic", scores)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_default_model_beats_bicubic_on_every_validation_clip(scale: int, corpus: Path) -> None:
    paths = sorted((corpus / "val").glob("*.mp4"))
    loaded = load_clips(paths, scale, max_frames=6)
    scores = validation.evaluate(OpenVinoEngine(load_model("reel-fast", scale)), loaded)
    assert len(scores) == 10
    assert min(s.gain for s in scores) > 0.3
    assert mean_gain(scores) > 1.0
