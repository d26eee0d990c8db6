"""Regressions against an earlier report."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import UsageError
from sharpreel.evaluation import baseline as baselines
from sharpreel.evaluation.results import Evaluation
from tests.support.evaluation import run_benchmark


def test_equal_runs_pass_and_a_drop_is_reported(evaluation: Evaluation) -> None:
    baseline = json.loads(json.dumps(evaluation.as_dict()))
    assert baselines.regressions(evaluation, baseline, 0) == []
    was = baseline["clips"][1]["results"][1]["psnr"]
    baseline["clips"][1]["results"][1]["psnr"] = was + 0.05
    assert baselines.regressions(evaluation, baseline, 0.06) == []
    (line,) = baselines.regressions(evaluation, baseline, 0.02)
    assert line.startswith(f"city, reel-fast: {was:.4f} dB, was {was + 0.05:.4f} (-0.0500")
    baseline["clips"][1]["results"][1]["psnr"] = was - 5
    assert baselines.regressions(evaluation, baseline, 0.02) == []


def test_a_score_that_became_nan_is_a_regression(evaluation: Evaluation) -> None:
    baseline = evaluation.as_dict()
    clip = evaluation.clips[0]
    lost = replace(clip.results[1], psnr=math.nan)
    broken = replace(
        evaluation, clips=(replace(clip, results=(clip.results[0], lost)), *evaluation.clips[1:])
    )
    assert len(baselines.regressions(broken, baseline, 100)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "P2"}, "with protocol P2, this run with P1"),
        ({"degradation": "bd"}, "with degradation bd, this run with bi"),
        ({"scale": 2}, "with scale 2, this run with 4"),
        ({"clips": []}, "has other clips: 0 against 4"),
        ({"clips": None}, "not the scores.json of an evaluation"),
        ({"settings": {"protocol": {"name": "P1"}}}, "another variant of protocol P1"),
    ],
)
def test_an_incomparable_baseline_is_rejected(
    evaluation: Evaluation, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        baselines.regressions(evaluation, {**evaluation.as_dict(), **change}, 0.02)


def test_a_baseline_without_the_model_or_with_other_frames_is_rejected(
    evaluation: Evaluation, vid4: Path
) -> None:
    alone = run_benchmark([], vid4, scale=4, temporal=False).as_dict()
    with pytest.raises(UsageError, match="no model reel-fast"):
        baselines.regressions(evaluation, alone)
    fewer = run_benchmark([], vid4, scale=4, temporal=False, max_frames=3)
    with pytest.raises(UsageError, match=r"calendar: the baseline has 5 frames .* this run 3"):
        baselines.regressions(fewer, alone)
