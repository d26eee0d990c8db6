"""Means and times between two saves."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from sharpreel.data.store import Clip
from sharpreel.training import (
    trainer,
)
from sharpreel.training.progress import Interval, TrainProgress, mean_terms
from tests.support.training import (
    TINY,
)


def test_before_the_first_step_there_is_no_loss(three: list[Clip], tmp_path: Path) -> None:
    lines: list[TrainProgress] = []
    trainer.train(TINY, three[:2], three[2:], tmp_path, on_progress=lines.append)
    assert lines[0].loss is None
    for line in lines:
        json.dumps(dataclasses.asdict(line), allow_nan=False)


def test_terms_are_averaged_over_the_steps_that_have_them() -> None:
    means = mean_terms([{"loss": 1.0, "ssim": 0.5}, {"loss": 3.0}])
    assert means == {"loss": 2.0, "ssim": 0.5}


def test_an_interval_measures_seconds_per_step_and_the_share_of_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 1.0, 4.0, 6.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    interval = Interval(10)
    with interval.waiting():  # 3 of 6 seconds
        pass
    interval.add({"loss": 2.0, "psnr": 30.0})
    progress = interval.progress(12, 20)
    assert (progress.step, progress.steps, progress.loss) == (12, 20, 2.0)
    assert (progress.seconds_per_step, progress.waited) == (3.0, 0.5)
    assert progress.terms == {"psnr": 30.0}
