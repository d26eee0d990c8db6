"""train.py, recipes.py, evaluate.py: trainings that resume exactly, run anywhere, and keep all."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpreel.data import degrade
from sharpreel.data.store import Clip, Frames, load_clips
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import (
    DiskFullError,
    InputError,
    Terminated,
    TrainingError,
    UsageError,
    WeightsError,
)
from sharpreel.evaluation import validation
from sharpreel.evaluation.validation import Score, markdown, mean_gain
from sharpreel.media import images
from sharpreel.models import weights
from sharpreel.models.reel import Bicubic, Reel
from sharpreel.models.weights import load_model
from sharpreel.training import recipes, trackers, trainer
from sharpreel.training.config import GanConfig, Stage, TrainConfig, config_text
from sharpreel.training.setup import for_epochs, make_fabric
from sharpreel.training.trainer import Trainer, TrainProgress
from sharpreel.upscale import upscale_frames
from tests.support.videos import REPO, moving


def tiles(seed: int, shift: int, size: tuple[int, int] = (96, 80)) -> Frames:
    """Hard-edged tiles of random colour, moved sideways: what bicubic blurs and networks learn."""
    colours = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    width, height = size
    return np.roll(colours.repeat(5, 0).repeat(5, 1), 2 * shift, axis=1)[:height, :width]


def clips(count: int, scale: int = 2, size: tuple[int, int] = (96, 80)) -> list[Clip]:
    truths = [np.stack([tiles(k, t, size) for t in range(6)]) for k in range(count)]
    return [Clip(f"clip{k}", *degrade.degrade(hr, scale)) for k, hr in enumerate(truths)]


TINY = replace(
    recipes.configure("reel-fast"),
    arguments={"scale": 2, "channels": 8, "blocks": 1, "unshuffle": 2},
    patch=16,
    steps=6,
    warmup_steps=2,
    stages=(Stage(0.5, 2, 2), Stage(0.5, 3, 1)),
    save_every=3,
    validate_every=3,
)
SMALL_GAN = GanConfig(discriminator="patch", game="srgan", features="discriminator", start=2)
VARIANTS: dict[str, TrainConfig] = {
    "plain": TINY,
    "accumulated": replace(TINY, accumulate=2, clip_gradient=0.0, ema=0.0),
    "adagrad": replace(TINY, optimizer="adagrad", schedule="onecycle"),
    "sgd": replace(TINY, optimizer="sgd", momentum=0.9, schedule="step", milestones=(0.3,)),
    "gan": replace(TINY, gan=SMALL_GAN),
}


@pytest.fixture(scope="module")
def three() -> list[Clip]:
    return clips(3)


def weights_of(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def same(one: Path, two: Path) -> None:
    a, b = weights_of(one), weights_of(two)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


class Stopped(Exception):
    pass


def stop_after(saves: int) -> Callable[[TrainProgress], None]:
    def tell(progress: TrainProgress) -> None:
        nonlocal saves
        saves -= progress.step > 0
        if saves < 0:
            raise Stopped

    return tell


# Precision.


def test_in_bf16_frames_stay_as_they_are_and_convolutions_do_not() -> None:
    fabric = make_fabric("bf16", "cpu")
    network = Reel()
    body: list[torch.dtype] = []
    for conv in (network.head, network.tail):
        conv.register_forward_hook(lambda _, seen, made: body.append(made.dtype))
    frames = torch.rand(1, 2, 3, 16, 24)
    made = fabric.setup(network)(frames)[0]
    assert set(body) == {torch.bfloat16}
    # It begins as bicubic, which a frame in bf16 would miss by half a byte's step.
    torch.testing.assert_close(made, Bicubic(2)(frames), rtol=0, atol=1e-6)


def test_a_training_in_bf16_is_one_in_float_but_for_rounding(
    three: list[Clip], tmp_path: Path
) -> None:
    one = weights_of(trainer.train(TINY, three, [], tmp_path / "float"))
    two = weights_of(trainer.train(replace(TINY, precision="bf16"), three, [], tmp_path / "bf16"))
    moved = 0.0
    for name, tensor in one.items():
        assert two[name].dtype == tensor.dtype == torch.float32
        moved = max(moved, float((tensor - two[name]).abs().max()))
    assert 0 < moved < 0.02  # six steps of Adam at 1e-3


# Going on.


@pytest.mark.parametrize("variant", VARIANTS)
def test_k_and_k_steps_are_two_k_steps_bit_for_bit(
    variant: str, three: list[Clip], tmp_path: Path
) -> None:
    config = VARIANTS[variant]
    whole = trainer.train(config, three[:2], three[2:], tmp_path / "whole")
    with pytest.raises(Stopped):  # after the save of step 3, before that of step 6
        trainer.train(config, three[:2], three[2:], tmp_path / "cut", tell=stop_after(1))
    saved = torch.load(tmp_path / "cut" / "last.pt", weights_only=True)
    assert saved["step"] == 3
    resumed = trainer.train(config, three[:2], three[2:], tmp_path / "cut")
    same(whole, resumed)
    lasts = [torch.load(tmp_path / n / "last.pt", weights_only=True) for n in ("whole", "cut")]
    for part in ("model", "average"):
        for name, value in lasts[0][part].items():
            torch.testing.assert_close(lasts[1][part][name], value, rtol=0, atol=0)


def test_a_finished_training_is_not_done_again(three: list[Clip], tmp_path: Path) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "run")
    before = first.read_bytes()
    training = Trainer(TINY, three, [], tmp_path / "run")
    training.cut = None  # type: ignore[assignment, method-assign]
    training.fit()
    assert training.finish().read_bytes() == before


def test_other_settings_do_not_go_on_with_a_run(three: list[Clip], tmp_path: Path) -> None:
    trainer.train(TINY, three, [], tmp_path / "run")
    with pytest.raises(UsageError, match=r"begun with other settings \(learning_rate, steps\)"):
        trainer.train(replace(TINY, steps=9, learning_rate=1.0), three, [], tmp_path / "run")
    trainer.train(replace(TINY, save_every=2), three, [], tmp_path / "run")


def test_a_refused_training_leaves_the_run_as_it_is(three: list[Clip], tmp_path: Path) -> None:
    trainer.train(TINY, three, [], tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(UsageError, match="begun with other settings"):
        trainer.train(replace(TINY, learning_rate=1.0), three, [], tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_other_clips_or_another_start_do_not_go_on_with_a_run(
    three: list[Clip], tmp_path: Path
) -> None:
    run, others = tmp_path / "run", clips(3)
    others[0] = replace(others[0], hr=255 - others[0].hr)  # of the same name and size
    trainer.train(TINY, three[:2], three[2:], run)
    first = trainer.train(replace(TINY, seed=1), three, [], tmp_path / "first")
    with pytest.raises(UsageError, match=r"with other training clips \(--data\)\. Choose"):
        trainer.train(TINY, others[:2], three[2:], run)
    with pytest.raises(UsageError, match=r"with other validation clips \(--val\)\. Choose"):
        trainer.train(TINY, three[:2], three[1:], run)
    with pytest.raises(UsageError, match=r"with other start \(--from\)\. Choose"):
        trainer.train(TINY, three[:2], three[2:], run, start_from=str(first))
    fewer = [replace(clip, hr=clip.hr[:3], lr=clip.lr[:3]) for clip in three[2:]]
    trainer.train(replace(TINY, validate_frames=3), three[:2], fewer, run)

    up = tmp_path / "up"
    trainer.train(TINY, three, [], up, start_from=str(first))
    trainer.train(TINY, three, [], up)  # what it began with is in last.pt
    begun = torch.load(up / "last.pt", weights_only=True)["begun"]
    assert begun["start (--from)"] == load_model(first).sha256


def test_a_checkpoint_that_does_not_say_what_it_was_begun_with_goes_on(
    three: list[Clip], tmp_path: Path
) -> None:
    trainer.train(TINY, three, [], tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    old = torch.load(last, weights_only=True)
    del old["begun"], old["start"]
    torch.save(old, last)
    trainer.train(TINY, clips(2), [], tmp_path / "run")


def test_validation_leaves_the_threads_as_they_are(three: list[Clip], tmp_path: Path) -> None:
    seen: list[int] = []

    class Counts(trackers.JsonlTracker):
        def step(self, step: int, terms: dict[str, float]) -> None:
            seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)  # no machine has just so many by default
        trainer.train(TINY, three[:2], three[2:], tmp_path, tracker=Counts(tmp_path))
    finally:
        torch.set_num_threads(before)
    assert seen == [3] * TINY.steps


def test_the_scale_of_half_precision_goes_on(three: list[Clip], tmp_path: Path) -> None:
    config = replace(TINY, precision="16")
    first = Trainer(config, three, [], tmp_path, make_fabric("16", "cpu"))
    scaler = first.fabric.strategy.precision.scaler  # type: ignore[attr-defined]
    scaler.load_state_dict({**scaler.state_dict(), "scale": 128.0})
    first.save()
    second = Trainer(config, three, [], tmp_path, make_fabric("16", "cpu"))
    assert second.state()["scaler"]["scale"] != 128
    assert second.load()
    assert second.state()["scaler"]["scale"] == 128


def test_a_damaged_checkpoint_is_one_line(three: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"last\.pt: damaged .* Delete it to start over"):
        trainer.train(TINY, three, [], tmp_path / "run")


def test_sigterm_saves_and_the_same_command_goes_on(three: list[Clip], tmp_path: Path) -> None:
    config = replace(TINY, save_every=100)
    whole = trainer.train(config, three, [], tmp_path / "whole")

    class Kills(trackers.NullTracker):
        def step(self, step: int, terms: dict[str, float]) -> None:
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated, match="terminated at step 4; saved"):
        trainer.train(config, three, [], tmp_path / "cut", tracker=Kills())
    same(whole, trainer.train(config, three, [], tmp_path / "cut"))


class Fills(trackers.NullTracker):
    """After step 3 has been saved, files of this name in the run folder cannot be written."""

    def __init__(self, run: Path, name: str) -> None:
        self.path = run / name

    def step(self, step: int, terms: dict[str, float]) -> None:
        if step == 4:
            self.path.unlink(missing_ok=True)
            self.path.symlink_to("/dev/full")


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@needs_dev_full
def test_a_full_disk_leaves_the_last_whole_checkpoint(three: list[Clip], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DiskFullError, match="the disk is full"):
        trainer.train(TINY, three, [], run, tracker=Fills(run, "last.part"))
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 3
    assert not list(run.glob("*.part"))


@needs_dev_full
@pytest.mark.parametrize("name", ["batches.jsonl", "log.jsonl", "validation.part"])
def test_a_full_disk_under_a_log_is_said_as_such(
    name: str, three: list[Clip], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    both = trackers.MultiTracker(Fills(run, name), trackers.JsonlTracker(run))
    with pytest.raises(DiskFullError, match="the disk is full"):
        trainer.train(TINY, three[:2], three[2:], run, tracker=both)


def test_a_full_disk_under_a_model_file_is_said_as_such(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(path: Path, *rest: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(weights, "save_weights", full)
    for val in (three[2:], []):  # best.safetensors, and the file in the end
        run = tmp_path / f"run{len(val)}"
        with pytest.raises(DiskFullError, match="the disk is full"):
            trainer.train(TINY, three[:2], val, run)
        assert not list(run.glob("*.safetensors"))


# Learning.


def test_a_training_beats_bicubic_and_its_file_upscales(three: list[Clip], tmp_path: Path) -> None:
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
        config, three[:2], three[2:], tmp_path / "run", tell=lines.append, extra={"data": "tiles"}
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


def test_the_best_validated_weights_are_the_ones_that_are_kept(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psnr = iter([20.0, 30.0, 25.0])
    monkeypatch.setattr(Trainer, "score", lambda self: [Score("c", next(psnr), 20.0)])
    path = trainer.train(TINY, three[:2], three[2:], tmp_path / "run")
    card = load_model(path).card
    assert card["steps"] == 3
    assert card["val_psnr_y"]["gain_db"] == 10


def scripted(
    monkeypatch: pytest.MonkeyPatch, *psnr: float, bicubic: float = 20.0
) -> list[TrainProgress]:
    """The validations' scores, one after the other, and where to put what is told."""
    left = iter(psnr)
    monkeypatch.setattr(Trainer, "score", lambda self: [Score("c", next(left), bicubic)])
    return []


def test_up_training_that_only_worsens_keeps_its_start(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "first")
    lines = scripted(monkeypatch, 30.0, 25.0, 26.0)
    made = trainer.train(
        replace(TINY, seed=1), three[:2], three[2:], tmp_path / "run", start_from=str(first),
        tell=lines.append,
    )  # fmt: skip
    same(made, first)
    assert load_model(made).card["steps"] == 0
    assert [line.note for line in lines] == ["", "", ""]


def test_a_model_that_is_worse_than_its_start_or_bicubic_is_said_to_be(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = scripted(monkeypatch, 21.0, 19.5, 19.0)
    run = tmp_path / "run"
    made = trainer.train(
        TINY, three[:2], three[2:], run, tell=lines.append, tracker=trackers.JsonlTracker(run)
    )
    assert load_model(made).card["steps"] == 3  # the best of those that learnt
    told = "The model is 1.500 dB worse than what it began with and 0.500 dB worse than bicubic."
    assert lines[-1].note.startswith(told)
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["note"] == lines[-1].note


@pytest.mark.parametrize("start", [0, 3])
def test_of_a_gan_only_weights_that_the_game_made_are_kept(
    start: int, three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "first")
    scripted(monkeypatch, 30.0, 29.0, 25.0, 24.0)
    config = replace(TINY, steps=9, gan=replace(SMALL_GAN, start=start))
    made = trainer.train(config, three[:2], three[2:], tmp_path / "run", start_from=str(first))
    assert load_model(made).card["steps"] == (3 if start == 0 else 6)


def test_before_the_first_step_there_is_no_loss(three: list[Clip], tmp_path: Path) -> None:
    lines: list[TrainProgress] = []
    trainer.train(TINY, three[:2], three[2:], tmp_path, tell=lines.append)
    assert lines[0].loss is None
    for line in lines:
        json.dumps(dataclasses.asdict(line), allow_nan=False)


def test_the_average_follows_the_weights_slowly(three: list[Clip], tmp_path: Path) -> None:
    training = Trainer(replace(TINY, ema=0.9), three, [], tmp_path)
    before = {k: v.clone() for k, v in training.average.items()}
    training.learn(training.batch(0))
    now = training.task.state_dict()
    key = "network.head.weight"
    wanted = before["head.weight"].lerp(now[key], 1 - min(0.9, 1 / 11))
    torch.testing.assert_close(training.average["head.weight"], wanted)


def test_a_loss_that_is_no_number_stops_with_its_batch(three: list[Clip], tmp_path: Path) -> None:
    training = Trainer(TINY, three, [], tmp_path / "run")
    (tmp_path / "run").mkdir()
    with torch.no_grad():
        next(training.task.parameters()).fill_(math.nan)
    pairs = training.batch(0)
    with pytest.raises(TrainingError, match="The loss is nan at step 0; the batch is"):
        training.learn(pairs)
    kept = np.load(tmp_path / "run" / "nan-step-0.npz")
    np.testing.assert_array_equal(kept["lr"], pairs[0][0].numpy())


def test_up_training_begins_with_the_checkpoint(three: list[Clip], tmp_path: Path) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "one")
    training = Trainer(TINY, three, [], tmp_path / "two", start_from=str(first))
    for name, value in weights_of(first).items():
        torch.testing.assert_close(training.average[name], value, rtol=0, atol=0)
    wide = replace(TINY, arguments={**TINY.arguments, "channels": 12})
    with pytest.raises(WeightsError, match="of 6 tensors fit"):
        Trainer(wide, three, [], tmp_path / "three", start_from=str(first))


def test_accumulated_batches_make_the_step_of_one_large_batch(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = replace(TINY, optimizer="sgd", learning_rate=0.1, schedule="constant", warmup_steps=0,
                   loss="mse", stages=(Stage(1.0, 2, 4),), clip_gradient=0.0)  # fmt: skip
    one = Trainer(base, three, [], tmp_path / "one")
    two = Trainer(replace(base, accumulate=2), three, [], tmp_path / "two")
    ((lr, hr),) = one.batch(0)
    one.learn([(lr, hr)])
    two.learn([(lr[:2], hr[:2]), (lr[2:], hr[2:])])
    for a, b in zip(one.task.parameters(), two.task.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# The adversarial part.


def test_the_four_terms_are_told_and_the_judge_learns_too(
    three: list[Clip], tmp_path: Path
) -> None:
    config = replace(TINY, gan=replace(SMALL_GAN, start=0))
    training = Trainer(config, three, [], tmp_path)
    before = [p.detach().clone() for p in training.judge.parameters()]
    terms = training.learn(training.batch(0))
    assert {"image", "perceptual", "adversarial", "total_variation", "judge", "loss"} <= set(terms)
    assert all(math.isfinite(value) for value in terms.values())
    changed = [(a != b).any() for a, b in zip(before, training.judge.parameters(), strict=True)]
    assert any(changed)


def test_the_generators_step_is_done_before_the_judge_changes(
    three: list[Clip], tmp_path: Path
) -> None:
    config = replace(TINY, gan=replace(SMALL_GAN, start=0))
    training = Trainer(config, three, [], tmp_path)
    order: list[str] = []
    for name, optimizer in (
        ("generator", training.optimizer),
        ("judge", training.judge_optimizer),
    ):
        real = optimizer.step

        def step(*a: Any, name: str = name, real: Any = real, **k: Any) -> Any:
            order.append(name)
            return real(*a, **k)

        optimizer.step = step
    grads: list[bool] = []
    real_learns = training._judge_learns

    def learns(made: Any) -> float:
        grads.extend(p.grad is None for p in training.judge.parameters())
        return real_learns(made)

    training._judge_learns = learns  # type: ignore[method-assign]
    training.learn(training.batch(0))
    assert order == ["generator", "judge"]
    assert all(grads)  # the generator's loss left nothing in the judge


def test_before_its_start_the_game_is_not_played(three: list[Clip], tmp_path: Path) -> None:
    training = Trainer(replace(TINY, gan=SMALL_GAN), three, [], tmp_path)
    assert set(training.learn(training.batch(0))) == {"loss", "psnr", "ssim"}
    training.learn(training.batch(1))
    assert "judge" in training.learn(training.batch(2))


def test_a_perceptual_loss_without_its_file_says_what_to_get(
    three: list[Clip], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"vgg16-397923af\.pth.*--set gan\.vgg_file=FILE"):
        Trainer(replace(TINY, gan=GanConfig()), three, [], tmp_path)


# Schedules and settings.


def test_schedules_warm_up_and_end_where_they_should() -> None:
    base = TrainConfig(name="x", model="reel-fast", steps=1000, warmup_steps=100, learning_rate=1.0)
    for schedule in ("constant", "step", "cosine"):
        assert replace(base, schedule=schedule).learning_rate_at(0) == pytest.approx(0.01)
        assert replace(base, schedule=schedule).learning_rate_at(100) == pytest.approx(1.0)
    assert base.learning_rate_at(999) < 1e-5
    assert replace(base, schedule="constant").learning_rate_at(999) == 1
    step = replace(base, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    assert [step.learning_rate_at(k) for k in (540, 560, 800)] == pytest.approx([1, 0.1, 0.01])
    cycle = replace(base, schedule="onecycle", warmup_steps=0)
    rates = [cycle.learning_rate_at(k) for k in range(1000)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(1) == rates[300]
    assert rates[-1] < 1e-4


def test_stages_share_the_steps() -> None:
    config = replace(TINY, steps=10, stages=(Stage(0.3, 2, 8), Stage(0.7, 5, 4)))
    assert [config.stage(k).clip_len for k in (0, 2, 3, 9)] == [2, 2, 5, 5]


def test_the_flow_network_waits_and_learns_slowly(tmp_path: Path) -> None:
    config = recipes.configure(
        "basicvsr",
        {"arguments.channels": 8, "arguments.blocks": 1, "arguments.scale": 2, "patch": 32,
         "stages": [[1.0, 2, 1]], "freeze_flow": 1, "steps": 4, "schedule": "constant"},
    )  # fmt: skip
    training = Trainer(config, clips(1, size=(96, 96)), [], tmp_path)
    flow = [p for n, p in training.task.named_parameters() if "spynet" in n]
    before = [p.detach().clone() for p in flow]
    training.learn(training.batch(0))
    assert all((a == b).all() for a, b in zip(before, flow, strict=True))
    training.learn(training.batch(1))
    assert any((a != b).any() for a, b in zip(before, flow, strict=True))
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert rates == pytest.approx([2e-4, 2.5e-5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": "1"}, "Did you mean learning_rate"),
        ({"gan.tota_variation": "1"}, r"Did you mean gan\.total_variation"),
        ({"steps": "many"}, "--set steps=many"),
        ({"steps": "0"}, "steps must be 1 or more"),
        ({"optimizer": "lion"}, "--set optimizer=lion"),
        ({"loss": "charbonier"}, "Did you mean charbonnier"),
        ({"stages": "[[0.5, 2, 4]]"}, "must add up to 1"),
        ({"ema": "1"}, "ema must be"),
        ({"scale": "4"}, "do not agree"),
        ({"seed": "-1"}, "seed must be 0 or more, got -1"),
        ({"learning_rate": "-1"}, "learning_rate must be 0 or more"),
        ({"learning_rate": "nan"}, "learning_rate must be a finite number"),
        ({"clip_gradient": "NaN"}, "clip_gradient must be a finite number"),
        ({"gan.image": "Infinity"}, r"gan\.image must be a finite number"),
        ({"arguments.channels": "NaN"}, r"arguments\.channels must be a finite number"),
        ({"gan.start": "-1"}, r"gan\.start must be 0 or more"),
        ({"warmup_steps": "-5"}, "warmup_steps must be 0 or more"),
        ({"validate_every": "-1"}, "validate_every must be 0 or more"),
        ({"validate_frames": "0"}, "validate_frames must be 1 or more"),
        ({"stages": "[[-1, 2, 2], [2, 2, 2]]"}, r"stages\.0\.share must be 0 or more, got -1"),
        ({"stages": "[[1, 2, 0]]"}, r"stages\.0\.batch must be 1 or more"),
        ({"betas": "[0.9, 2]"}, r"betas\.1 must be from 0 to below 1"),
        ({"name": "../evil"}, "name=../evil: must be a plain file name"),
        ({"name": "a/b"}, "name=a/b: must be a plain file name"),
        ({"name": ""}, "must be a plain file name"),
        ({"name": ".."}, "must be a plain file name"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        recipes.configure("reel-fast", settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arguments.foo": "1"}, "no reel-fast can be built of .*'foo'"),
        ({"arguments.channels": "-3"}, "no reel-fast can be built"),
        ({"arguments.channels": "foo"}, "no reel-fast can be built"),
        ({"model": "rbpn"}, "no rbpn can be built of .* argument 'blocks'"),
        ({"patch": "15"}, "patch=15: must be a multiple of 2"),
        ({"arguments.unshuffle": "0"}, "a layer of it would be empty"),
        ({"task": "bursts"}, "needs a network that looks at neighbours"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_line(
    settings: dict[str, str], message: str, three: list[Clip], tmp_path: Path
) -> None:
    config = recipes.configure("reel-fast", {"stages": "[[1.0, 2, 1]]", "patch": "16", **settings})
    with pytest.raises(UsageError, match=message) as refused:
        trainer.train(config, three, [], tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_settings_are_read_as_what_they_are() -> None:
    assert recipes.configure("reel-fast", {"precision": "32"}).precision == "32"
    config = recipes.configure(
        "iseebetter-4x",
        {"learning_rate": "3e-4", "stages": "[[1, 5, 3]]", "gan.image": "2", "arguments.feat": "8"},
    )
    assert (config.learning_rate, config.stages) == (3e-4, (Stage(1.0, 5, 3),))
    assert config.gan is not None
    assert (config.gan.image, config.gan.perceptual) == (2.0, 6e-3)
    assert config.arguments["feat"] == 8
    assert recipes.configure("iseebetter-4x", {"gan": "none"}).gan is None
    assert recipes.configure("reel", scale=4).arguments["scale"] == 4


def test_a_recipe_that_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean rbpn-4x"):
        recipes.configure("rbpn-4")
    with pytest.raises(UsageError, match="is for factor 4, not 2"):
        recipes.configure("rbpn-4x", scale=2)
    (tmp_path / "best.json").write_text('{"recipe": "reel", "scale": 4, "set": {"steps": 7}}')
    config = recipes.configure(str(tmp_path / "best.json"), {"patch": "32"})
    assert (config.name, config.scale, config.steps, config.patch) == ("reel", 4, 7, 32)


# Every recipe learns.

QUICK = {"save_every": 200, "validate_every": 200, "validate_frames": 2, "ema": 0.98}
SHORT: dict[str, dict[str, Any]] = {
    "reel-fast": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 24,
                  "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 16,
             "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel-live": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 24,
                  "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel-gan": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 16,
                 "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel-quality": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 16,
                     "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "tsrcnn-small": {"patch": 16, "stages": [[1.0, 3, 4]], "learning_rate": 1e-3,
                     "degradation": "bi"},
    "tsrcnn-large": {"patch": 12, "stages": [[1.0, 3, 2]], "learning_rate": 1e-3,
                     "degradation": "bi"},
    "fast-srgan-2x": {"patch": 16, "gan.features": "discriminator", "gan.start": 150,
                      "stages": [[1.0, 1, 4]]},
    "rbpn-4x": {"arguments.num_frames": 3, "arguments.base_filter": 16, "arguments.feat": 8,
                "arguments.resblocks": 1, "patch": 12, "stages": [[1.0, 3, 2]],
                "learning_rate": 1e-3, "validate_patch": 16},
    "iseebetter-4x": {"arguments.num_frames": 3, "arguments.base_filter": 16,
                      "arguments.feat": 8, "arguments.resblocks": 1, "patch": 12,
                      "stages": [[1.0, 3, 2]], "learning_rate": 1e-3, "validate_patch": 16,
                      "gan.features": "discriminator"},
    "basicvsr": {"arguments.channels": 8, "arguments.blocks": 1, "patch": 12,
                 "stages": [[1.0, 2, 1]], "learning_rate": 2e-3, "validate_patch": 16},
    "basicvsrpp": {"arguments.channels": 8, "arguments.blocks": 1, "patch": 12,
                   "stages": [[1.0, 2, 1]], "learning_rate": 2e-3, "validate_patch": 16},
    "afm-denoise": {"arguments.num_frames": 3, "arguments.base_filter": 16, "arguments.feat": 8,
                    "arguments.resblocks": 1, "patch": 24, "stages": [[1.0, 3, 2]],
                    "learning_rate": 1e-3},
}  # fmt: skip


def scans(seed: int) -> Frames:
    """A burst: one surface, each scan with streaks of its own."""
    rng = np.random.default_rng(seed)
    clean = np.stack(list(moving((64, 64), 1)))[0].astype(float).mean(axis=2)
    noisy = [clean + rng.normal(0, 12, (64, 1)) + rng.normal(0, 3, (64, 64)) for _ in range(4)]
    best = [clean + rng.normal(0, 0.5, (64, 64))]
    levels: Frames = np.clip(np.stack(noisy + best), 0, 255).astype(np.uint8)
    return levels[..., None].repeat(3, axis=3)


def test_each_recipe_has_a_short_form_that_is_trained() -> None:
    assert SHORT.keys() == recipes.RECIPES.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_two_hundred_steps_of_each_recipe_beat_its_start(name: str, tmp_path: Path) -> None:
    steps = 300 if name == "afm-denoise" else 200
    config = recipes.configure(name, {**QUICK, **SHORT[name], "steps": steps})
    config = replace(config, save_every=50, validate_every=50, freeze_flow=0)
    pool: list[Any]
    if config.task == "bursts":
        pool = [scans(k) for k in range(3)]
    else:
        pool = clips(3, config.scale, (192, 144))
    lines: list[TrainProgress] = []
    path = trainer.train(config, pool[:2], pool[2:], tmp_path / "run", tell=lines.append)
    psnr = [line.psnr for line in lines if line.psnr is not None]
    assert max(psnr[1:]) > psnr[0], psnr
    losses = [line.loss for line in lines[1:] if line.loss is not None]
    assert losses[-1] < losses[0] or config.gan is not None
    assert all(math.isfinite(x) for line in lines for x in (*losses, *line.terms.values()))
    if config.gan is not None:
        wanted = {"image", "perceptual", "adversarial", "total_variation", "judge"}
        assert wanted <= set(lines[-1].terms)
    assert load_model(path).card["recipe"]["name"] == name


# Several processes.

TWO = """
import sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
import tests.training.test_trainer as t
from sharpreel.training import setup, trainer
torch.set_num_threads(1)
run = Path(sys.argv[1])
config = t.replace(t.TINY, stages=(t.Stage(1.0, 2, 4),), steps=4, save_every=2,
                   gan=t.SMALL_GAN if len(sys.argv) > 2 else None)
trainer.train(config, t.clips(2), [], run, fabric=setup.make_fabric("32", "cpu"))
"""


def launched(
    code: str, folder: Path, *arguments: str, processes: int = 2
) -> subprocess.CompletedProcess[str]:
    """Run the code in so many gloo processes; it gets the folder and the arguments."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(code.format(tests=str(REPO)))
    torchrun = [
        "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=0",
        "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0",
    ]  # fmt: skip
    command = [sys.executable, *(torchrun if processes > 1 else []), str(script), str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=env, timeout=200, check=False
    )


@pytest.mark.parametrize("gan", [False, True])
def test_two_processes_make_the_steps_of_one_on_the_same_batch(gan: bool, tmp_path: Path) -> None:
    """gloo; batch normalisation of the patch judge sees half a batch, so a GAN only has to run."""
    more = ["gan"] if gan else []
    for name, processes in (("one", 1), ("two", 2)):
        done = launched(TWO, tmp_path / name, *more, processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    a, b = (weights_of(tmp_path / n / "reel-fast_x2.safetensors") for n in ("one", "two"))
    for name in a:
        assert torch.isfinite(b[name]).all()
        if not gan:
            torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=1e-6)


UNEVEN = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import tests.training.test_trainer as t
from sharpreel.training import setup, trackers, trainer
from sharpreel.errors import Terminated, UsageError
run = Path(sys.argv[1])
fabric = setup.make_fabric("32", "cpu")
try:
    trainer.train(t.TINY, t.clips(2), [], run / "odd", fabric=fabric)  # a stage of batch 1
except UsageError as e:
    assert "a batch of 1 cannot be shared evenly by 2 processes" in str(e), e

class Kills(trackers.NullTracker):
    def step(self, step, terms):
        if step == 2 and fabric.global_rank == 1:
            t.os.kill(t.os.getpid(), t.signal.SIGTERM)

config = t.replace(t.TINY, stages=(t.Stage(1.0, 2, 2),), save_every=100)
try:
    trainer.train(config, t.clips(2), [], run / "even", fabric=fabric, tracker=Kills())
except Terminated as e:
    (run / str(fabric.global_rank)).write_text(str(e))
"""


def test_processes_refuse_uneven_shares_and_stop_at_one_step(tmp_path: Path) -> None:
    done = launched(UNEVEN, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [(tmp_path / rank).read_text() for rank in "01"]
    assert told == ["terminated at step 2; saved. The same command goes on."] * 2


# Tracking.


def test_the_log_is_a_line_for_each_save(three: list[Clip], tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(TINY, three[:2], three[2:], run, tracker=trackers.JsonlTracker(run))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert {"loss", "seconds_per_step", "waited", "psnr", "gain_db"} <= set(lines[-1])
    assert lines[-1]["terms"]["psnr"] > 5  # of the batches
    assert 0 < lines[1]["terms"]["ssim"] < 1


def test_each_batch_and_each_validation_clip_is_logged_beside_bicubic(tmp_path: Path) -> None:
    run, pool = tmp_path / "run", clips(4)
    trainer.train(TINY, pool[:2], pool[2:], run, tracker=trackers.JsonlTracker(run))
    rows = [json.loads(line) for line in (run / "batches.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 6]
    scored = [row for row in rows if "clip" in row]
    assert [(row["clip"], row["number"], row["of"]) for row in scored[:2]] == [
        ("clip2", 1, 2), ("clip3", 2, 2)
    ]  # fmt: skip
    measures = {"psnr", "ssim", "loss", "bicubic_psnr", "bicubic_ssim", "bicubic_loss"}
    assert all(measures <= set(row) for row in (*scored, rows[2]))
    plain = validation.evaluate(OpenVinoEngine(load_model("bicubic", 2)), pool[2:])
    for row, score in zip(scored, plain * 3, strict=False):
        assert row["bicubic_psnr"] == pytest.approx(score.psnr, rel=1e-5)
    # An untrained network is bicubic, so that their numbers are of one kind.
    assert scored[0]["psnr"] == pytest.approx(scored[0]["bicubic_psnr"], abs=0.1)
    assert rows[2]["psnr"] == pytest.approx(rows[2]["bicubic_psnr"], abs=0.1)
    assert rows[2]["loss"] == pytest.approx(rows[2]["bicubic_loss"], rel=0.02)
    assert images.read_rgb(run / "validation.png").shape == (80, 3 * 96, 3)


def test_a_long_trainings_batches_are_logged_as_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "MOST_LINES", 3)
    monkeypatch.setattr(trackers, "LINE_SECONDS", 1e9)
    log = trackers.JsonlTracker(tmp_path)
    log.begin(replace(TINY, steps=9), 0)
    for step in range(1, 8):
        log.step(step, {"loss": float(step)})
    log.line(TrainProgress(7, 9, 4.0, 0.1, 0.0))
    rows = [json.loads(line) for line in (tmp_path / "batches.jsonl").read_text().splitlines()]
    assert [(r["step"], r["steps"], r["loss"]) for r in rows] == [(3, 3, 2), (6, 3, 5), (7, 1, 7)]


def test_an_epoch_learns_from_as_many_frames_as_there_are(three: list[Clip]) -> None:
    config = for_epochs(TINY, three, 4)  # 18 frames; 4 and 3 a step, in equal shares
    assert (config.steps, config.validate_every, config.save_every) == (24, 6, 6)
    small = recipes.configure("tsrcnn-small", {"stages": "[[1.0, 3, 4]]", "accumulate": "2"})
    assert for_epochs(small, three, 1).steps == 3  # of 8 windows each
    bursts = recipes.configure("afm-denoise", {"stages": "[[1.0, 7, 2]]"})
    assert for_epochs(bursts, [None] * 5, 2).steps == 6


@pytest.mark.slow
def test_mlflow_has_one_run_of_a_training_that_went_on(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "runs" / "first"
    with pytest.raises(Stopped):
        trainer.train(TINY, three[:2], three[2:], run, tell=stop_after(1),
                    tracker=trackers.MlflowTracker(run, {"clips": 2}))  # fmt: skip
    tracker = trackers.MlflowTracker(run, {"clips": 2})
    trainer.train(TINY, three[:2], three[2:], run, tracker=tracker)
    tracker.close()
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(trackers.EXPERIMENT)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["model"] == "reel-fast"
    assert found.data.params["arguments.channels"] == "8"
    assert found.data.params["clips"] == "2"
    assert {"train_loss", "train_psnr", "train_ssim", "val_psnr"} <= set(found.data.metrics)
    points = client.get_metric_history(found.info.run_id, "val_gain_db")
    assert [p.step for p in points] == [0, 3, 6]
    pictures = client.list_artifacts(found.info.run_id, "pictures")
    assert len(pictures) == 3
    model = client.list_artifacts(found.info.run_id, "model")
    assert [a.path for a in model] == ["model/reel-fast_x2.safetensors"]
    (version,) = client.search_model_versions("name='sharpreel-reel-fast_x2'")
    assert version.run_id == found.info.run_id


def test_a_tracker_that_fails_is_a_warning(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    run = tmp_path / "run"
    with pytest.warns(RuntimeWarning, match="MLflow did not take this"):
        trainer.train(TINY, three, [], run, tracker=trackers.MlflowTracker(run))
    assert (run / "reel-fast_x2.safetensors").is_file()


# Measuring.


def test_bicubic_gains_nothing_over_bicubic(three: list[Clip]) -> None:
    scores = validation.evaluate(OpenVinoEngine(load_model("bicubic", 2)), three[:2])
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


def test_a_config_is_the_same_after_json() -> None:
    for name in recipes.RECIPES:
        config = recipes.configure(name)
        text = json.loads(config_text(config))
        assert recipes._typed(text) == config
        assert dataclasses.asdict(recipes._typed(text)) == dataclasses.asdict(config)
