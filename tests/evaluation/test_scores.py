"""Scores of frames: motion, seams, and the notes on what the means hide."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.engines.base import EngineKind
from sharpreel.evaluation import runners
from sharpreel.evaluation.metric_set import MetricSet
from sharpreel.evaluation.metrics import temporal
from sharpreel.evaluation.metrics.seams import Seams, seam_in_space, seam_in_time
from sharpreel.evaluation.metrics.temporal import _farneback
from sharpreel.evaluation.protocols import PROTOCOLS
from sharpreel.evaluation.scores import ClipScores
from tests.support.evaluation import SIZE, lossless, run_benchmark
from tests.support.videos import moving


def test_motion_of_the_reference_is_computed_once_for_all_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows: list[Any] = []
    farneback = _farneback

    def counted(*pair: Any) -> Any:
        flows.append(pair)
        return farneback(*pair)

    monkeypatch.setattr(temporal, "_farneback", counted)
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 4))
    found = run_benchmark(["reel-fast"], path)
    assert len(flows) == 3 * (2 + 1)  # pairs times two models and the reference
    alone = run_benchmark([], path).clips[0].of("bicubic")
    together = found.clips[0].of("bicubic")
    for name in ("tof", "warping_error", "flicker"):
        assert getattr(alone, name) == getattr(together, name)


def test_seams_are_measured_at_their_positions_only() -> None:
    rng = np.random.default_rng(1)
    hr = list(moving(SIZE, 12))
    sr = [np.clip(f // 2 + 60 + rng.normal(0, 2, f.shape), 0, 255).astype(np.uint8) for f in hr]
    hr = [f // 2 + 60 for f in hr]
    for frame in sr[6:]:
        frame[:] = frame + 20
    for frame in sr:
        frame[:, 32:] += 10
    found = {}
    for text in ("t6,x32", "t4,x20", "t6+,x32+,y24"):
        scores = ClipScores(MetricSet(PROTOCOLS["P1"], False, seams=Seams.parse(text)), 1)
        for index, (frame, reference) in enumerate(zip(sr, hr, strict=True)):
            scores.add(index, reference, [frame])
        found[text] = scores.versions[0].result("sr", 1.0), scores.versions[0].notes()
    seam, notes = found["t6,x32"]
    assert seam.seam_time == seam_in_time(sr, 6, hr)
    assert seam.seam_time is not None
    assert seam.seam_time > 3
    assert any("the seam before frame 6 is the most visible one" in note for note in notes)
    expected = np.mean([seam_in_space(a, 32, 1, b) for a, b in zip(sr, hr, strict=True)])
    assert seam.seam_space == pytest.approx(expected)
    assert expected > 1.5
    assert found["t4,x20"][0].seam_time == pytest.approx(1, abs=0.5)
    assert found["t4,x20"][0].seam_space == pytest.approx(1, abs=0.2)
    assert found["t6+,x32+,y24"][0].seam_time == seam.seam_time


class Broken:
    """An engine with broken frames: one of one colour, one equal to the reference."""

    name, scale, warm_up, clip_len, past, future, tile = "broken", 2.0, 0, 0, 0, 0, None
    kind = EngineKind("torch", "cpu", "float32")

    def __init__(self, hr: list[Any]) -> None:
        self.hr = hr
        self.count = -1  # the first frame only warms up

    def reset(self) -> None: ...

    def run(self, frame: Any) -> Any:
        index, self.count = self.count, self.count + 1
        if index == 2:
            return np.zeros_like(self.hr[0])
        return self.hr[3] if index == 3 else frame.repeat(2, 0).repeat(2, 1)

    def run_clip(self, frames: list[Any], first: int, count: int) -> list[Any]:
        raise NotImplementedError


def test_broken_frames_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hr = [f // 4 + 60 for f in moving(SIZE, 6)]
    hr[5] = np.full_like(hr[5], 90)
    path = lossless(tmp_path / "one.mkv", hr)
    monkeypatch.setattr(runners, "choose_engine", lambda *_, **__: Broken(hr))
    found = run_benchmark(["reel-fast"], path, protocol="P3", temporal=False)
    result = found.clips[0].of("reel-fast")
    assert [s.frame for s in result.frames] == [2, 3]
    assert [s.constant for s in result.frames] == [True, False]
    assert result.psnr == math.inf
    assert math.isnan(result.ssim)
    notes = "\n".join(found.notes)
    assert "one, reel-fast: frame 2 is of one colour where the reference is not" in notes
    assert "one, reel-fast: frame 3 is equal to the reference" in notes
    assert "one, reel-fast: frame 2 is without a number (NaN)" in notes
    everything = found.as_dict()
    text = json.dumps(everything, allow_nan=False)
    assert json.loads(text)["clips"][0]["results"][1]["psnr"] == "inf"
    whole = run_benchmark([], path, temporal=False)
    assert any("frame 5 is of one colour in the reference itself" in note for note in whole.notes)


def test_pairs_of_frames_with_nan_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(3)]
    found = run_benchmark([], lossless(tmp_path / "one.mkv", frames))
    assert any("2 of 2 pairs of frames have no flicker" in note for note in found.notes)
    flicker = found.clips[0].of("bicubic").flicker
    assert flicker is not None
    assert math.isnan(flicker)
