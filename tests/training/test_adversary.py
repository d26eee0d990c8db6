"""The discriminator, and both losses of a GAN run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.errors import (
    UsageError,
)
from sharpreel.models.weights import load_model
from sharpreel.training import (
    trainer,
)
from sharpreel.training.adversary import Adversary, DiscriminatorModule
from sharpreel.training.config import GanConfig
from sharpreel.training.trainer import Trainer
from tests.support.training import (
    SMALL_GAN,
    TINY,
    script_scores,
)

TERMS = {"image", "perceptual", "adversarial", "total_variation"}


def adversarial_trainer(clips: list[Clip], run: Path) -> tuple[Trainer, Adversary]:
    """A run whose adversarial part begins at the first step."""
    training = Trainer(replace(TINY, gan=replace(SMALL_GAN, start=0)), clips, [], run)
    assert training.adversary is not None
    return training, training.adversary


def test_the_four_terms_are_reported_and_the_discriminator_is_trained(
    three: list[Clip], tmp_path: Path
) -> None:
    training, adversary = adversarial_trainer(three, tmp_path)
    before = [p.detach().clone() for p in adversary.discriminator.parameters()]
    terms = training.training_step(training.loader.batch(0))
    assert TERMS | {"discriminator", "loss"} <= set(terms)
    assert all(math.isfinite(value) for value in terms.values())
    after = adversary.discriminator.parameters()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_the_generator_is_trained_before_the_discriminator_changes(
    three: list[Clip], tmp_path: Path
) -> None:
    training, adversary = adversarial_trainer(three, tmp_path)
    order: list[str] = []
    for name, optimizer in (
        ("generator", training.optimizer),
        ("discriminator", adversary.optimizer),
    ):
        real = optimizer.step

        def step(*a: Any, name: str = name, real: Any = real, **k: Any) -> Any:
            order.append(name)
            return real(*a, **k)

        optimizer.step = step
    no_gradient: list[bool] = []
    real_step = adversary.training_step

    def training_step(outputs: Any) -> float:
        no_gradient.extend(p.grad is None for p in adversary.discriminator.parameters())
        return real_step(outputs)

    adversary.training_step = training_step  # type: ignore[method-assign]
    training.training_step(training.loader.batch(0))
    assert order == ["generator", "discriminator"]
    assert all(no_gradient)  # the generator's loss leaves none in the discriminator


def test_the_adversarial_part_begins_at_its_first_step(three: list[Clip], tmp_path: Path) -> None:
    training = Trainer(replace(TINY, gan=SMALL_GAN), three, [], tmp_path)
    assert set(training.training_step(training.loader.batch(0))) == {"loss", "psnr", "ssim"}
    training.training_step(training.loader.batch(1))
    assert "discriminator" in training.training_step(training.loader.batch(2))


def test_a_perceptual_loss_without_its_file_names_the_download(
    three: list[Clip], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"vgg16-397923af\.pth.*set gan\.vgg_file=FILE"):
        Trainer(replace(TINY, gan=GanConfig()), three, [], tmp_path)


@pytest.mark.parametrize("start", [0, 3])
def test_only_weights_of_the_adversarial_part_may_be_the_best_of_a_gan(
    start: int, three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "first")
    script_scores(monkeypatch, 30.0, 29.0, 25.0, 24.0)
    config = replace(TINY, steps=9, gan=replace(SMALL_GAN, start=start))
    path = trainer.train(config, three[:2], three[2:], tmp_path / "run", start_from=str(first))
    assert load_model(path).card["steps"] == (3 if start == 0 else 6)


@pytest.mark.parametrize(("kind", "logits"), [("iseebetter", False), ("fast", True)])
def test_a_discriminator_scores_each_frame_on_its_own(kind: str, logits: bool) -> None:
    torch.manual_seed(0)
    module = DiscriminatorModule(kind).eval()
    clip = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        together = module(clip)
        alone = torch.cat([module(clip[:, :1]), module(clip[:, 1:])])
    assert module.logits == logits
    torch.testing.assert_close(together, alone)


def test_the_adversary_is_saved_under_the_keys_of_a_checkpoint(
    three: list[Clip], tmp_path: Path
) -> None:
    training, adversary = adversarial_trainer(three, tmp_path)
    state = training.state()
    assert {"judge", "judge_optimizer"} <= state.keys()
    training.training_step(training.loader.batch(0))
    changed = {k: v.clone() for k, v in adversary.state()["judge"].items()}
    adversary.load_state(adversary.state())
    for name, value in adversary.state()["judge"].items():
        torch.testing.assert_close(value, changed[name], rtol=0, atol=0)
