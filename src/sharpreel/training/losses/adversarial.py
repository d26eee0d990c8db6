"""Adversarial losses: what a generator and a discriminator minimise against each other.

Each function takes the discriminator's scores, of any shape, and returns a scalar. `ADVERSARIAL`
lists the pairs by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.training.losses.arguments import find


@dataclass(frozen=True)
class Labels:
    """Labels of real and fake frames: the ranges that each score's label is drawn from.

    `generator` is the label that the generator aims for. The defaults are 1, 0 and 1; then nothing
    is drawn.
    """

    real: tuple[float, float] = (1.0, 1.0)
    fake: tuple[float, float] = (0.0, 0.0)
    generator: tuple[float, float] = (1.0, 1.0)


FAST_SRGAN_LABELS = Labels(real=(0.8, 1.1), fake=(0.0, 0.3), generator=(0.7, 1.0))


@dataclass(frozen=True)
class Adversarial:
    """The losses of a generator and of its discriminator, chosen by name.

    D is the discriminator's score of a frame, or of each of its patches; means are over all.

        iseebetter    G: -mean D(sr)              D: 1 - mean D(hr) + mean D(sr), D a probability
        srgan         G: BCE(D(sr), 1)            D: BCE(D(hr), 1) + BCE(D(sr), 0)
        relativistic  G: the mean of BCE(D(hr) - mean D(sr), 0) and BCE(D(sr) - mean D(hr), 1)
                      D: the mean of BCE(D(hr) - mean D(sr), 1) and BCE(D(sr) - mean D(hr), 0)

    "srgan" is that of Ledig et al. and of both Fast-SRGANs; the one of 2024 halves D's loss and
    weights G's by 0.05. "relativistic" (Jolicoeur-Martineau, 2019; ESRGAN) compares logits.

    For D's step give scores of `sr.detach()`. After D's step, score sr again for G's step: the
    graph of the earlier scores holds weights that the step has changed.

    Args:
        name: One of `ADVERSARIAL`.
        logits: True when the discriminator returns logits, as `FastDiscriminator` does. The others
            of `models/srgan.py` return probabilities.
        labels: For the two with BCE (`FAST_SRGAN_LABELS`).
        rng: Generator that draws labels; None is torch's global one.
    """

    name: str = "iseebetter"
    logits: bool = False
    labels: Labels = Labels()
    rng: torch.Generator | None = None

    def __post_init__(self) -> None:
        find(ADVERSARIAL, "adversarial loss", self.name)
        if self.name == "relativistic" and not self.logits:
            raise ValueError(
                "The relativistic loss compares logits: pass scores before any sigmoid, and "
                "logits=True."
            )

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar.

        Args:
            fake: Scores of sr, any shape.
            real: Scores of hr, which only "relativistic" needs; they get no gradient.
        """
        return ADVERSARIAL[self.name].generator(self, fake, real)

    def discriminator(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from the scores of sr and hr."""
        return ADVERSARIAL[self.name].discriminator(self, fake, real)


def probabilities(how: Adversarial, scores: Tensor) -> Tensor:
    """Convert scores to probabilities, in float32 or better; ValueError when they are not."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if how.logits:
        return torch.sigmoid(scores)
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        low, high = scores.detach().aminmax()
        raise ValueError(
            f"Scores must be probabilities, got {low:.3g} to {high:.3g}. "
            "A discriminator that returns logits needs logits=True."
        )
    return scores


def cross_entropy(how: Adversarial, scores: Tensor, labels: tuple[float, float]) -> Tensor:
    """Return the mean binary cross-entropy, with labels drawn uniformly from the range."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    low, high = labels
    label = torch.full_like(scores, low)
    if low != high:
        where = scores.device if how.rng is None else how.rng.device
        drawn = torch.rand(scores.shape, generator=how.rng, device=where, dtype=scores.dtype)
        label = low + (high - low) * drawn.to(scores.device)
    if how.logits:
        return F.binary_cross_entropy_with_logits(scores, label)
    # torch rejects labels above 1, which Fast-SRGAN has. The loss is linear in the label.
    scores = probabilities(how, scores)
    with torch.autocast(scores.device.type, enabled=False):  # torch rejects this in autocast
        if_real = F.binary_cross_entropy(scores, torch.ones_like(scores), reduction="none")
        if_fake = F.binary_cross_entropy(scores, torch.zeros_like(scores), reduction="none")
    return (label * if_real + (1 - label) * if_fake).mean()


def _iseebetter_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    return -probabilities(how, fake).mean()


def _iseebetter_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    return 1 - probabilities(how, real).mean() + probabilities(how, fake).mean()


def _srgan_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    return cross_entropy(how, fake, how.labels.generator)


def _srgan_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    real_loss = cross_entropy(how, real, how.labels.real)
    return real_loss + cross_entropy(how, fake, how.labels.fake)


def _relativistic_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        raise ValueError("The relativistic loss of the generator needs `real`, the scores of hr.")
    real = real.detach()
    real_loss = cross_entropy(how, real - fake.mean(), how.labels.fake)
    fake_loss = cross_entropy(how, fake - real.mean(), how.labels.generator)
    return (real_loss + fake_loss) / 2


def _relativistic_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    real_loss = cross_entropy(how, real - fake.mean(), how.labels.real)
    fake_loss = cross_entropy(how, fake - real.mean(), how.labels.fake)
    return (real_loss + fake_loss) / 2


class Sides(NamedTuple):
    """The two losses of one row of `ADVERSARIAL`."""

    generator: Callable[[Adversarial, Tensor, Tensor | None], Tensor]
    discriminator: Callable[[Adversarial, Tensor, Tensor], Tensor]


ADVERSARIAL: dict[str, Sides] = {
    "iseebetter": Sides(_iseebetter_generator, _iseebetter_discriminator),
    "srgan": Sides(_srgan_generator, _srgan_discriminator),
    "relativistic": Sides(_relativistic_generator, _relativistic_discriminator),
}
