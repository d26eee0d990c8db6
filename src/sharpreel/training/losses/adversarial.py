"""Adversarial losses and feature matching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.training.losses.pixel import PixelLoss, find, frames_of, pair

# --- Generator against discriminator ------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """What real and fake pictures are called: ranges that every score's label is drawn from.

    `generator` is what the generator wants its pictures called. The default is 1, 0 and 1, and
    draws nothing.
    """

    real: tuple[float, float] = (1.0, 1.0)
    fake: tuple[float, float] = (0.0, 0.0)
    generator: tuple[float, float] = (1.0, 1.0)


FAST_SRGAN_LABELS = Labels(real=(0.8, 1.1), fake=(0.0, 0.3), generator=(0.7, 1.0))


@dataclass(frozen=True)
class Adversarial:
    """What a generator and a discriminator each minimise against the other.

    D is what the discriminator says of a picture, or of each of its patches; means are over all.

        iseebetter    G: -mean D(sr)              D: 1 - mean D(hr) + mean D(sr), D a probability
        srgan         G: BCE(D(sr), 1)            D: BCE(D(hr), 1) + BCE(D(sr), 0)
        relativistic  G: the mean of BCE(D(hr) - mean D(sr), 0) and BCE(D(sr) - mean D(hr), 1)
                      D: the mean of BCE(D(hr) - mean D(sr), 1) and BCE(D(sr) - mean D(hr), 0)

    "srgan" is the one of Ledig et al. and both Fast-SRGANs, of which the one of 2024 halves D's and
    takes 0.05 of G's. "relativistic" (Jolicoeur-Martineau, 2019; ESRGAN) compares logits.

    For D's step give scores of `sr.detach()`. Score sr anew for G's step, after D's: the graph of
    the earlier scores holds weights that the step has changed.

    Args:
        name: One of `ADVERSARIAL`.
        logits: Does the discriminator say logits, as `FastDiscriminator` does? The others of
            `models/srgan.py` say probabilities.
        labels: For the two with BCE (`FAST_SRGAN_LABELS`).
        rng: Where labels are drawn from; None is torch's own.
    """

    name: str = "iseebetter"
    logits: bool = False
    labels: Labels = Labels()
    rng: torch.Generator | None = None

    def __post_init__(self) -> None:
        find(ADVERSARIAL, "adversarial loss", self.name)
        if self.name == "relativistic" and not self.logits:
            raise ValueError(
                "The relativistic loss compares logits: give it those, before any sigmoid, and "
                "logits=True."
            )

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The generator's loss, a scalar.

        Args:
            fake: Scores of sr, any shape.
            real: Scores of hr, which only "relativistic" needs; no gradient goes there.
        """
        return ADVERSARIAL[self.name].generator(self, fake, real)

    def discriminator(self, fake: Tensor, real: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from the scores of sr and hr."""
        return ADVERSARIAL[self.name].discriminator(self, fake, real)


def probabilities(how: Adversarial, scores: Tensor) -> Tensor:
    """Scores as probabilities, whichever they are, in float32 or better."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if how.logits:
        return torch.sigmoid(scores)
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        low, high = scores.detach().aminmax()
        raise ValueError(
            f"Scores must be probabilities, got {low:.3g} to {high:.3g}. "
            "A discriminator that says logits needs logits=True."
        )
    return scores


def cross_entropy(how: Adversarial, scores: Tensor, labels: tuple[float, float]) -> Tensor:
    """Mean binary cross-entropy of the scores, with labels drawn uniformly between the two."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    low, high = labels
    label = torch.full_like(scores, low)
    if low != high:
        where = scores.device if how.rng is None else how.rng.device
        drawn = torch.rand(scores.shape, generator=how.rng, device=where, dtype=scores.dtype)
        label = low + (high - low) * drawn.to(scores.device)
    if how.logits:
        return F.binary_cross_entropy_with_logits(scores, label)
    # torch refuses labels above 1, which Fast-SRGAN has. The loss is linear in the label.
    scores = probabilities(how, scores)
    with torch.autocast(scores.device.type, enabled=False):  # torch refuses this one in autocast
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
    told_real = cross_entropy(how, real, how.labels.real)
    return told_real + cross_entropy(how, fake, how.labels.fake)


def _relativistic_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        raise ValueError("The relativistic loss of the generator needs `real`, the scores of hr.")
    real = real.detach()
    told_real = cross_entropy(how, real - fake.mean(), how.labels.fake)
    told_fake = cross_entropy(how, fake - real.mean(), how.labels.generator)
    return (told_real + told_fake) / 2


def _relativistic_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    told_real = cross_entropy(how, real - fake.mean(), how.labels.real)
    told_fake = cross_entropy(how, fake - real.mean(), how.labels.fake)
    return (told_real + told_fake) / 2


class Sides(NamedTuple):
    """The two losses of one game."""

    generator: Callable[[Adversarial, Tensor, Tensor | None], Tensor]
    discriminator: Callable[[Adversarial, Tensor, Tensor], Tensor]


ADVERSARIAL: dict[str, Sides] = {
    "iseebetter": Sides(_iseebetter_generator, _iseebetter_discriminator),
    "srgan": Sides(_srgan_generator, _srgan_discriminator),
    "relativistic": Sides(_relativistic_generator, _relativistic_discriminator),
}


# --- Features of a discriminator ----------------------------------------------------------------

ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.PReLU)


def score_and_features(discriminator: nn.Module, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a discriminator says of pictures, and what its layers hold meanwhile, in one pass.

    A feature is what an activation in one of its `nn.Sequential`s puts out, or a block there that
    is a layer with its activation. Scores and logits are none.

        Sequential(conv, LeakyReLU, conv, BatchNorm, LeakyReLU, FastDownBlock, conv)
                         ^                           ^          ^

    Args:
        discriminator: Called as it is; in training mode its batch statistics move.
        picture: Clip or pictures.

    Returns:
        The discriminator's output, and the features in the order they are made, (N*T, C', H', W')
        each.
    """
    steps = dict.fromkeys(
        step
        for sequence in discriminator.modules()
        if isinstance(sequence, nn.Sequential)
        for step in sequence
        if isinstance(step, ACTIVATIONS)
        or (not isinstance(step, nn.Sequential) and any(True for _ in step.children()))
    )
    if not steps:
        raise ValueError(
            f"{type(discriminator).__name__} has no activation or block in an nn.Sequential, "
            "so there are no features to match."
        )
    features: list[Tensor] = []

    def keep(step: nn.Module, inputs: Any, output: Tensor) -> None:
        features.append(output)

    handles = [step.register_forward_hook(keep) for step in steps]
    try:
        score = discriminator(frames_of(picture, "picture"))
    finally:
        for handle in handles:
            handle.remove()
    return score, features


def features_of(discriminator: nn.Module, picture: Tensor) -> list[Tensor]:
    """What a discriminator's layers hold when it sees pictures; see `score_and_features`."""
    return score_and_features(discriminator, picture)[1]


def feature_matching(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the L1 between a discriminator's features of sr and of hr.

    pix2pixHD (Wang et al., CVPR 2018; github.com/NVIDIA/pix2pixHD), which multiplies by 4. It
    takes the place of the perceptual term where no VGG may be used.

    Args:
        fake_features, real_features: Of sr and hr, from `features_of`; no gradient goes to the
            latter.
    """
    shapes = [[tuple(f.shape) for f in features] for features in (fake_features, real_features)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise ValueError(
            "Features must be those of one discriminator for two pictures of one size, "
            f"got {shapes[0]} and {shapes[1]}."
        )
    layers = zip(fake_features, real_features, strict=True)
    return torch.stack([F.l1_loss(fake, real.detach()) for fake, real in layers]).mean()


def matching(discriminator: nn.Module) -> PixelLoss:
    """`feature_matching` by this discriminator as a function (sr, hr) -> scalar."""

    def matched(sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = pair(sr, hr)
        with torch.no_grad():
            real = features_of(discriminator, hr)
        return feature_matching(features_of(discriminator, sr), real)

    return matched
