"""Runs that resume exactly, on one process or several, and keep the best weights."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.errors import (
    TerminatedError,
    TrainingError,
)
from sharpreel.models.weights import load_model
from sharpreel.training import (
    trackers,
    trainer,
)
from sharpreel.training.config import Stage, config_text
from sharpreel.training.progress import TrainProgress
from sharpreel.training.setup import make_fabric
from sharpreel.training.trainer import Trainer
from sharpreel.upscale import upscale_frames
from tests.support.training import (
    TINY,
    VARIANTS,
    Stopped,
    assert_same_weights,
    launch,
    script_scores,
    stop_after,
    weights_of,
)


def test_a_run_in_bf16_differs_from_float32_by_rounding_only(
    three: list[Clip], tmp_path: Path
) -> None:
    one = weights_of(trainer.train(TINY, three, [], tmp_path / "float"))
    two = weights_of(trainer.train(replace(TINY, precision="bf16"), three, [], tmp_path / "bf16"))
    moved = 0.0
    for name, tensor in one.items():
        assert two[name].dtype == tensor.dtype == torch.float32
        moved = max(moved, float((tensor - two[name]).abs().max()))
    assert 0 < moved < 0.02  # six steps of Adam at 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one_bit_for_bit(
    variant: str, three: list[Clip], tmp_path: Path
) -> None:
    config = VARIANTS[variant]
    whole = trainer.train(config, three[:2], three[2:], tmp_path / "whole")
    with pytest.raises(Stopped):  # after the save of step 3, before that of step 6
        trainer.train(config, three[:2], three[2:], tmp_path / "cut", on_progress=stop_after(1))
    saved = torch.load(tmp_path / "cut" / "last.pt", weights_only=True)
    assert saved["step"] == 3
    resumed = trainer.train(config, three[:2], three[2:], tmp_path / "cut")
    assert_same_weights(whole, resumed)
    lasts = [torch.load(tmp_path / n / "last.pt", weights_only=True) for n in ("whole", "cut")]
    for part in ("model", "average"):
        for name, value in lasts[0][part].items():
            torch.testing.assert_close(lasts[1][part][name], value, rtol=0, atol=0)


def test_a_finished_run_is_not_trained_again(three: list[Clip], tmp_path: Path) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "run")
    before = first.read_bytes()
    training = Trainer(TINY, three, [], tmp_path / "run")
    training.loader.load_batch = None  # type: ignore[assignment, method-assign]
    training.fit()
    assert training.finish().read_bytes() == before


def test_the_gradient_scale_of_fp16_is_resumed(three: list[Clip], tmp_path: Path) -> None:
    config = replace(TINY, precision="16")
    first = Trainer(config, three, [], tmp_path, make_fabric("16", "cpu"))
    scaler = first.fabric.strategy.precision.scaler  # type: ignore[attr-defined]
    scaler.load_state_dict({**scaler.state_dict(), "scale": 128.0})
    first.save()
    second = Trainer(config, three, [], tmp_path, make_fabric("16", "cpu"))
    assert second.state()["scaler"]["scale"] != 128
    assert second.load()
    assert second.state()["scaler"]["scale"] == 128


def test_sigterm_saves_and_the_run_can_be_resumed(three: list[Clip], tmp_path: Path) -> None:
    config = replace(TINY, save_every=100)
    whole = trainer.train(config, three, [], tmp_path / "whole")

    class SendsSigterm(trackers.NullTracker):
        def step(self, step: int, terms: dict[str, float]) -> None:
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TerminatedError, match="terminated at step 4; saved"):
        trainer.train(config, three, [], tmp_path / "cut", tracker=SendsSigterm())
    assert_same_weights(whole, trainer.train(config, three, [], tmp_path / "cut"))


def test_a_trained_model_beats_bicubic_and_its_file_upscales(
    three: list[Clip], tmp_path: Path
) -> None:
    config = replace(
        TINY,
        arguments={**TINY.arguments, "channels": 16},
        steps=300,
        learning_rate=3e-3,
        stages=(Stage(1.0, 2, 4),),
        validate_every=100,
        save_every=100,
    )
    lines: list[TrainProgress] = []
    path = trainer.train(
        config,
        three[:2],
        three[2:],
        tmp_path / "run",
        on_progress=lines.append,
        extra={"data": "tiles"},
    )
    assert lines[0].step == 0
    assert lines[0].gain_db == pytest.approx(0, abs=0.05)
    assert (lines[-1].loss or 0) < (lines[1].loss or 0)
    assert lines[-1].gain_db is not None
    assert lines[-1].gain_db > 0.3
    assert 0 <= lines[-1].waited < 1
    card = load_model(path).card
    assert card["recipe"] == json.loads(config_text(config))
    assert card["data"] == "tiles"
    assert card["val_psnr_y"]["gain_db"] == pytest.approx(
        max(x.gain_db or 0 for x in lines), abs=1e-3
    )
    frame = np.zeros((8, 8, 3), np.uint8)
    assert next(upscale_frames([frame], path)).shape == (16, 16, 3)


def test_the_weights_with_the_best_validation_are_kept(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_scores(monkeypatch, 20.0, 30.0, 25.0)
    path = trainer.train(TINY, three[:2], three[2:], tmp_path / "run")
    card = load_model(path).card
    assert card["steps"] == 3
    assert card["val_psnr_y"]["gain_db"] == 10


def test_up_training_that_lowers_the_score_keeps_the_starting_weights(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "first")
    script_scores(monkeypatch, 30.0, 25.0, 26.0)
    lines: list[TrainProgress] = []
    path = trainer.train(
        replace(TINY, seed=1),
        three[:2],
        three[2:],
        tmp_path / "run",
        start_from=str(first),
        on_progress=lines.append,
    )
    assert_same_weights(path, first)
    assert load_model(path).card["steps"] == 0
    assert [line.note for line in lines] == ["", "", ""]


def test_the_average_follows_the_weights_slowly(three: list[Clip], tmp_path: Path) -> None:
    training = Trainer(replace(TINY, ema=0.9), three, [], tmp_path)
    before = {k: v.clone() for k, v in training.average.items()}
    training.training_step(training.loader.batch(0))
    now = training.module.state_dict()
    key = "network.head.weight"
    expected = before["head.weight"].lerp(now[key], 1 - min(0.9, 1 / 11))
    torch.testing.assert_close(training.average["head.weight"], expected)


def test_a_nan_loss_stops_the_run_and_saves_the_batch(three: list[Clip], tmp_path: Path) -> None:
    training = Trainer(TINY, three, [], tmp_path / "run")
    (tmp_path / "run").mkdir()
    with torch.no_grad():
        next(training.module.parameters()).fill_(math.nan)
    pairs = training.loader.batch(0)
    with pytest.raises(TrainingError, match="The loss is nan at step 0; the batch is"):
        training.training_step(pairs)
    saved = np.load(tmp_path / "run" / "nan-step-0.npz")
    np.testing.assert_array_equal(saved["lr"], pairs[0][0].numpy())


def test_accumulated_batches_equal_one_large_batch(three: list[Clip], tmp_path: Path) -> None:
    base = replace(
        TINY,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="constant",
        warmup_steps=0,
        loss="mse",
        stages=(Stage(1.0, 2, 4),),
        clip_gradient=0.0,
    )
    one = Trainer(base, three, [], tmp_path / "one")
    two = Trainer(replace(base, accumulate=2), three, [], tmp_path / "two")
    ((lr, hr),) = one.loader.batch(0)
    one.training_step([(lr, hr)])
    two.training_step([(lr[:2], hr[:2]), (lr[2:], hr[2:])])
    for a, b in zip(one.module.parameters(), two.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


TWO = """
import sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from dataclasses import replace
from sharpreel.training import setup, trainer
from sharpreel.training.config import Stage
from tests.support.tiles import tile_clips
from tests.support.training import SMALL_GAN, TINY
torch.set_num_threads(1)
run = Path(sys.argv[1])
gan = SMALL_GAN if len(sys.argv) > 2 else None
config = replace(TINY, stages=(Stage(1.0, 2, 4),), steps=4, save_every=2, gan=gan)
trainer.train(config, tile_clips(2), [], run, fabric=setup.make_fabric("32", "cpu"))
"""


@pytest.mark.parametrize("gan", [False, True])
def test_two_processes_equal_one_on_the_same_batch(gan: bool, tmp_path: Path) -> None:
    """Batch normalisation of the patch discriminator sees half a batch: a GAN only has to run."""
    more = ["gan"] if gan else []
    for name, processes in (("one", 1), ("two", 2)):
        done = launch(TWO, tmp_path / name, *more, processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    a, b = (weights_of(tmp_path / n / "reel-fast_x2.safetensors") for n in ("one", "two"))
    for name in a:
        assert torch.isfinite(b[name]).all()
        if not gan:
            torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=1e-6)
