"""Adversarial losses, against their equations in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sharpreel.errors import UsageError
from sharpreel.training.losses.adversarial import FAST_SRGAN_LABELS, Adversarial, Labels
from tests.support.losses import FAKE, REAL, Array, gradient


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def bce(logits: Array, label: float) -> float:
    p = sigmoid(logits)
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)).mean())


def sides(how: Adversarial) -> tuple[float, float]:
    """(generator's loss, discriminator's loss) for the scores above, as `how` wants them."""
    fake, real = (FAKE, REAL) if how.logits else (FAKE.sigmoid(), REAL.sigmoid())
    return how.generator(fake, real).item(), how.discriminator(fake, real).item()


@pytest.mark.parametrize("logits", [False, True])
def test_iseebetter_compares_probabilities(logits: bool) -> None:
    fake, real = sigmoid(FAKE.numpy()).mean(), sigmoid(REAL.numpy()).mean()
    assert sides(Adversarial("iseebetter", logits)) == pytest.approx((-fake, 1 - real + fake))


@pytest.mark.parametrize("logits", [False, True])
def test_srgan_is_binary_cross_entropy_on_both_sides(logits: bool) -> None:
    fake, real = FAKE.numpy(), REAL.numpy()
    wanted = (bce(fake, 1), bce(real, 1) + bce(fake, 0))
    assert sides(Adversarial("srgan", logits)) == pytest.approx(wanted)


def test_the_relativistic_loss_compares_each_score_with_the_mean_of_the_others() -> None:
    fake, real = FAKE.numpy(), REAL.numpy()
    r, f = real - fake.mean(), fake - real.mean()
    wanted = ((bce(r, 0) + bce(f, 1)) / 2, (bce(r, 1) + bce(f, 0)) / 2)
    assert sides(Adversarial("relativistic", logits=True)) == pytest.approx(wanted)


def test_the_relativistic_loss_takes_labels_too() -> None:
    how = Adversarial("relativistic", True, Labels((0.9, 0.9), (0.2, 0.2), (0.8, 0.8)))
    fake, real = FAKE.numpy(), REAL.numpy()
    r, f = real - fake.mean(), fake - real.mean()
    wanted = ((bce(r, 0.2) + bce(f, 0.8)) / 2, (bce(r, 0.9) + bce(f, 0.2)) / 2)
    assert sides(how) == pytest.approx(wanted)


@pytest.mark.parametrize("logits", [False, True])
def test_labels_are_drawn_from_their_ranges_by_the_given_generator(logits: bool) -> None:
    def how() -> Adversarial:
        rng = torch.Generator().manual_seed(5)
        return Adversarial("srgan", logits, FAST_SRGAN_LABELS, rng)

    rng = torch.Generator().manual_seed(5)
    draws = [torch.rand(2, 2, generator=rng, dtype=torch.float64) for _ in range(3)]
    bce_with_logits = F.binary_cross_entropy_with_logits
    generator = bce_with_logits(FAKE, 0.7 + 0.3 * draws[0])
    discriminator = bce_with_logits(REAL, 0.8 + 0.3 * draws[1]) + bce_with_logits(
        FAKE, 0.3 * draws[2]
    )
    assert sides(how()) == pytest.approx((generator.item(), discriminator.item()))
    assert sides(how()) == sides(how())


def test_labels_that_are_not_smoothed_draw_nothing() -> None:
    rng = torch.Generator().manual_seed(5)
    before = rng.get_state()
    sides(Adversarial("srgan", logits=True, labels=Labels(real=(0.9, 0.9)), rng=rng))
    assert torch.equal(rng.get_state(), before)


def loss_id(how: Adversarial) -> str:
    labels = "hard" if how.labels == Labels() else "smooth"
    return f"{how.name}-{'logits' if how.logits else 'probabilities'}-{labels}"


ADVERSARIES = [
    Adversarial("iseebetter"),
    Adversarial("iseebetter", logits=True),
    Adversarial("srgan"),
    Adversarial("srgan", logits=True),
    Adversarial("srgan", labels=FAST_SRGAN_LABELS),
    Adversarial("relativistic", logits=True),
]


@pytest.mark.parametrize(
    "how", [game for game in ADVERSARIES if game.labels == Labels()], ids=loss_id
)
def test_each_side_moves_the_scores_in_its_direction(how: Adversarial) -> None:
    fake, real = (FAKE, REAL) if how.logits else (FAKE.sigmoid(), REAL.sigmoid())
    assert (gradient(lambda x: how.generator(x, real), fake) < 0).all()  # sr looks more real
    assert (gradient(lambda x: how.discriminator(x, real), fake) > 0).all()
    assert (gradient(lambda x: how.discriminator(fake, x), real) < 0).all()


@pytest.mark.parametrize("how", ADVERSARIES, ids=loss_id)
def test_gradients_are_finite_when_a_discriminator_is_certain(how: Adversarial) -> None:
    wrong, right = (torch.tensor([-200.0]), torch.tensor([200.0]))
    if not how.logits:
        wrong, right = torch.tensor([0.0]), torch.tensor([1.0])
    for scores in (wrong, right):
        assert gradient(lambda x: how.generator(x, right), scores).isfinite().all()
        assert gradient(lambda x: how.discriminator(x, right), scores).isfinite().all()
        assert gradient(lambda x: how.discriminator(wrong, x), scores).isfinite().all()


@pytest.mark.parametrize("how", ADVERSARIES, ids=loss_id)
def test_half_precision_scores_are_compared_in_float32(how: Adversarial) -> None:
    fake, real = (FAKE, REAL) if how.logits else (FAKE.sigmoid(), REAL.sigmoid())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = how.discriminator(fake.to(torch.bfloat16), real.to(torch.bfloat16))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_the_generator_sends_no_gradient_to_the_scores_of_hr() -> None:
    real = REAL.clone().requires_grad_()
    fake = FAKE.clone().requires_grad_()
    Adversarial("relativistic", logits=True).generator(fake, real).backward()  # type: ignore[no-untyped-call]
    assert real.grad is None
    assert fake.grad is not None


def test_scores_of_the_wrong_kind_are_refused() -> None:
    for name in ("iseebetter", "srgan"):
        with pytest.raises(ValueError, match=r"probabilities, got -1\.5 to 0\.7\. .* logits=True"):
            Adversarial(name).generator(FAKE)
    with pytest.raises(ValueError, match="before any sigmoid, and logits=True"):
        Adversarial("relativistic")
    with pytest.raises(ValueError, match="needs `real`"):
        Adversarial("relativistic", logits=True).generator(FAKE)
    with pytest.raises(UsageError, match=r"called relativist\. Did you mean relativistic\?"):
        Adversarial("relativist")
