"""Log files of a run, and the status that a tracker is closed with."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpreel.data.store import Clip
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import (
    DiskFullError,
    TerminatedError,
    TrainingError,
)
from sharpreel.evaluation import validation as clip_validation
from sharpreel.media import images
from sharpreel.models.weights import load_model
from sharpreel.training import (
    trackers,
    trainer,
)
from sharpreel.training.config import TrainConfig
from sharpreel.training.progress import TrainProgress
from tests.support.tiles import tile_clips
from tests.support.training import (
    TINY,
    FillsDisk,
    needs_dev_full,
)


@needs_dev_full
@pytest.mark.parametrize("name", ["batches.jsonl", "log.jsonl", "validation.part"])
def test_a_full_disk_under_a_log_is_reported(name: str, three: list[Clip], tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = trackers.MultiTracker(FillsDisk(run, name), trackers.JsonlTracker(run))
    with pytest.raises(DiskFullError, match="the disk is full"):
        trainer.train(TINY, three[:2], three[2:], run, tracker=both)


def test_the_log_is_a_line_for_each_save(three: list[Clip], tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(TINY, three[:2], three[2:], run, tracker=trackers.JsonlTracker(run))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert {"loss", "seconds_per_step", "waited", "psnr", "gain_db"} <= set(lines[-1])
    assert lines[-1]["terms"]["psnr"] > 5  # of the batches
    assert 0 < lines[1]["terms"]["ssim"] < 1


def test_each_batch_and_validation_clip_is_logged_with_bicubic(tmp_path: Path) -> None:
    run, pool = tmp_path / "run", tile_clips(4)
    trainer.train(TINY, pool[:2], pool[2:], run, tracker=trackers.JsonlTracker(run))
    rows = [json.loads(line) for line in (run / "batches.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 6]
    scored = [row for row in rows if "clip" in row]
    first = [(row["clip"], row["number"], row["of"]) for row in scored[:2]]
    assert first == [("clip2", 1, 2), ("clip3", 2, 2)]
    measures = {"psnr", "ssim", "loss", "bicubic_psnr", "bicubic_ssim", "bicubic_loss"}
    assert all(measures <= set(row) for row in (*scored, rows[2]))
    bicubic = clip_validation.evaluate(OpenVinoEngine(load_model("bicubic", 2)), pool[2:])
    for row, score in zip(scored, bicubic * 3, strict=False):
        assert row["bicubic_psnr"] == pytest.approx(score.psnr, rel=1e-5)
    # An untrained network is bicubic, so their numbers must agree.
    assert scored[0]["psnr"] == pytest.approx(scored[0]["bicubic_psnr"], abs=0.1)
    assert rows[2]["psnr"] == pytest.approx(rows[2]["bicubic_psnr"], abs=0.1)
    assert rows[2]["loss"] == pytest.approx(rows[2]["bicubic_loss"], rel=0.02)
    assert images.read_rgb(run / "validation.png").shape == (80, 3 * 96, 3)


def test_batches_of_a_long_run_are_logged_as_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "MOST_LINES", 3)
    monkeypatch.setattr(trackers, "LINE_SECONDS", 1e9)
    log = trackers.JsonlTracker(tmp_path)
    log.begin(replace(TINY, steps=9), 0)
    for step in range(1, 8):
        log.step(step, {"loss": float(step)})
    log.progress(TrainProgress(7, 9, 4.0, 0.1, 0.0))
    rows = [json.loads(line) for line in (tmp_path / "batches.jsonl").read_text().splitlines()]
    assert [(r["step"], r["steps"], r["loss"]) for r in rows] == [(3, 3, 2), (6, 3, 5), (7, 1, 7)]


class Records(trackers.NullTracker):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self, config: TrainConfig, step: int) -> None:
        self.calls.append(("begin", step))

    def close(self, status: trackers.Status = "FINISHED") -> None:
        self.calls.append(status)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (TerminatedError("terminated"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (DiskFullError("full"), "KILLED"),
        (TrainingError("nan"), "FAILED"),
        (RuntimeError("bug"), "FAILED"),
    ],
)
def test_a_tracker_is_closed_with_the_status_of_the_run(
    error: BaseException | None, status: str
) -> None:
    tracker = Records()
    with (
        contextlib.suppress(BaseException),
        trackers.closing_with_status(tracker),
    ):
        if error is not None:
            raise error
    assert tracker.calls == [status]


def test_several_trackers_all_receive_everything() -> None:
    one, two = Records(), Records()
    both = trackers.MultiTracker(one, two)
    both.begin(TINY, 3)
    both.close("KILLED")
    assert one.calls == two.calls == [("begin", 3), "KILLED"]


def test_a_task_without_low_resolution_input_has_no_validation_image(tmp_path: Path) -> None:
    trackers.JsonlTracker(tmp_path).validated(trackers.Validation(3, None, None))
    assert list(tmp_path.iterdir()) == []
