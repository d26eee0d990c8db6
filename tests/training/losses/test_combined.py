"""The combined loss: the published sum of its four terms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.srgan import PatchDiscriminator
from sharpreel.training.losses.adversarial import Adversarial
from sharpreel.training.losses.combined import CombinedLoss, LossWeights
from sharpreel.training.losses.feature_matching import (
    feature_matching_loss,
)
from sharpreel.training.losses.perceptual import Perceptual
from sharpreel.training.losses.pixel import (
    charbonnier,
    l1,
)
from tests.support.losses import FAKE, REAL, published_tv, two
from tests.training.losses.conftest import Vgg, expected


def test_the_combined_loss_is_the_published_sum(vgg16: Vgg, perceptual: Perceptual) -> None:
    sr, hr = (frame.float() for frame in two(2, 3, 32, 32))
    scores = torch.tensor([0.2, 0.7])
    total, terms = CombinedLoss(perceptual)(sr, hr, scores)
    wanted = {
        "image": F.mse_loss(sr, hr).item(),
        "perceptual": expected(vgg16[1], sr, hr, F.mse_loss),
        "adversarial": -0.45,
        "total_variation": published_tv(sr.double().numpy()),
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, rel=1e-4)
    weights = {"image": 1, "perceptual": 6e-3, "adversarial": 1e-3, "total_variation": 2e-8}
    assert total.item() == pytest.approx(sum(weights[n] * wanted[n] for n in wanted), rel=1e-4)
    assert not any(term.requires_grad for term in terms.values())


def test_the_combined_loss_trains_a_generator_against_a_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    loss = CombinedLoss(
        feature_matching_loss(discriminator),
        Adversarial("srgan"),
        weights=LossWeights(perceptual=0.1, adversarial=0.01, total_variation=1e-6),
        image=charbonnier,
        form="absolute",
    )
    sr, hr = (clip.float() for clip in two(1, 2, 3, 16, 16))
    generator = nn.Conv2d(3, 3, 3, padding=1)
    made = generator(sr[0])[None]
    total, terms = loss(made, hr, discriminator(made[0]))
    total.backward()
    assert generator.weight.grad is not None
    assert generator.weight.grad.isfinite().all()
    assert all(term.isfinite() for term in terms.values())
    assert list(loss.parameters()) == []  # an optimiser of the loss would not train D


def test_a_term_of_weight_zero_is_not_computed() -> None:
    def never(sr: Tensor, hr: Tensor) -> Tensor:
        raise AssertionError

    weights = LossWeights(perceptual=0, adversarial=0.005, total_variation=0)
    sr, hr = two(1, 3, 8, 8)
    scores = torch.tensor([0.5], dtype=torch.float64)
    for perceptual in (None, never):
        loss = CombinedLoss(perceptual, weights=weights, image=l1)
        total, terms = loss(sr, hr, scores)
        assert total.item() == pytest.approx(F.l1_loss(sr, hr).item() - 0.005 * 0.5)
        assert terms["perceptual"] == terms["total_variation"] == 0


def test_the_combined_loss_needs_a_perceptual_term_unless_its_weight_is_zero() -> None:
    with pytest.raises(ValueError, match="a Perceptual, or feature_matching_loss"):
        CombinedLoss(None)


def test_the_combined_loss_passes_real_scores_to_the_relativistic_loss() -> None:
    game = Adversarial("relativistic", logits=True)
    loss = CombinedLoss(None, game, weights=LossWeights(perceptual=0))
    sr, hr = two(1, 3, 8, 8)
    _, terms = loss(sr, hr, FAKE, REAL)
    assert terms["adversarial"] == game.generator(FAKE, REAL)
