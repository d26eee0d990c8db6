"""Validation scores, the validation image, and warnings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.evaluation.validation import Score
from sharpreel.models.weights import load_model
from sharpreel.training import trackers, trainer
from sharpreel.training.config import TrainConfig
from sharpreel.training.progress import TrainProgress
from sharpreel.training.recipes import configure
from sharpreel.training.setup import TrainModule
from sharpreel.training.validation import Validator, score_bursts, shortfall
from tests.support.scans import scans
from tests.support.training import SMALL_GAN, TINY, script_scores


def test_validation_does_not_change_the_number_of_threads(
    three: list[Clip], tmp_path: Path
) -> None:
    seen: list[int] = []

    class CountsThreads(trackers.JsonlTracker):
        def step(self, step: int, terms: dict[str, float]) -> None:
            seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)  # a number that no machine has by default
        trainer.train(TINY, three[:2], three[2:], tmp_path, tracker=CountsThreads(tmp_path))
    finally:
        torch.set_num_threads(before)
    assert seen == [3] * TINY.steps


def test_a_model_worse_than_its_start_or_bicubic_causes_a_warning(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_scores(monkeypatch, 21.0, 19.5, 19.0)
    lines: list[TrainProgress] = []
    run = tmp_path / "run"
    path = trainer.train(
        TINY,
        three[:2],
        three[2:],
        run,
        on_progress=lines.append,
        tracker=trackers.JsonlTracker(run),
    )
    assert load_model(path).card["steps"] == 3  # the best of the trained weights
    assert lines[-1].note == (
        "The model is 1.500 dB worse than the weights it started from and 0.500 dB worse than "
        "bicubic. Lower learning_rate?"
    )
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["note"] == lines[-1].note


def test_clips_are_scored_one_by_one_with_bicubic(three: list[Clip]) -> None:
    numbers: list[tuple[int, str]] = []
    validator = Validator(TINY, three[:2], "cpu")
    scores = validator.score(
        TrainModule(TINY).network.eval(), lambda n, score: numbers.append((n, score.clip))
    )
    assert numbers == [(1, "clip0"), (2, "clip1")]
    for score in scores:  # an untrained network is bicubic
        assert score.psnr == pytest.approx(score.bicubic, abs=0.1)
        assert score.more.keys() == {"ssim", "loss"}
        assert 0 < score.more["ssim"][0] < 1


def test_the_validation_image_is_bicubic_network_and_ground_truth(three: list[Clip]) -> None:
    image = Validator(TINY, three, "cpu").image(TrainModule(TINY).network.eval())
    assert image is not None
    assert image.shape == (80, 3 * 96, 3)
    np.testing.assert_array_equal(image[:, 192:], three[0].hr[2])
    assert Validator(TINY, [], "cpu").image(TrainModule(TINY).network) is None


def test_bursts_are_scored_against_their_best_scan() -> None:
    config = configure("afm-denoise", {"arguments.num_frames": 3, "arguments.feat": 8})
    network = TrainModule(config).network.eval()
    (score,) = score_bursts(network, [scans(0)], {"error": lambda x, hr: float(abs(x - hr).mean())})
    assert score.clip == "burst 0"
    # The network is residual: untrained it returns the noisy reference, nearly.
    assert score.psnr == pytest.approx(score.bicubic, abs=6)
    assert all(error > 0 for error in score.more["error"])
    assert Validator(config, [scans(0)], "cpu").image(network) is None


@pytest.mark.parametrize(
    ("config", "best", "start", "expected"),
    [
        (TINY, 30.0, None, ""),
        (TINY, 29.9998, 30.0, ""),
        (TINY, 29.0, None, "The model is 1.000 dB worse than bicubic. Lower learning_rate?"),
        (
            replace(TINY, gan=SMALL_GAN),
            30.0,
            31.0,
            "The model is 1.000 dB worse than the weights it started from "
            "(expected: a GAN trades PSNR for texture).",
        ),
    ],
)
def test_a_model_is_compared_with_its_start_and_bicubic(
    config: TrainConfig, best: float, start: float | None, expected: str
) -> None:
    assert shortfall(config, best, start, [Score("c", best, 30.0)]) == expected
