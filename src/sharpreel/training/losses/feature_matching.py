"""Feature matching: compare what a discriminator's layers compute for sr and for hr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.training.losses.arguments import as_frames, frame_pair
from sharpreel.training.losses.pixel import PixelLoss

ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.PReLU)


def score_and_features(discriminator: nn.Module, clip: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return a discriminator's scores and the features of its layers, from one forward pass.

    A feature is the output of an activation in one of its `nn.Sequential`s, or of a block there
    that contains a layer with its activation. Scores and logits are not features.

        Sequential(conv, LeakyReLU, conv, BatchNorm, LeakyReLU, FastDownBlock, conv)
                         ^                           ^          ^

    Args:
        discriminator: In training mode its batch statistics are updated.
        clip: Clip or frames.

    Returns:
        The discriminator's output, and the features in the order of computation,
        (N*T, C', H', W') each.
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
        score = discriminator(as_frames(clip, "clip"))
    finally:
        for handle in handles:
            handle.remove()
    return score, features


def features_of(discriminator: nn.Module, clip: Tensor) -> list[Tensor]:
    """Return the features of a discriminator's layers; see `score_and_features`."""
    return score_and_features(discriminator, clip)[1]


def feature_matching(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """Return the mean over layers of the L1 between a discriminator's features of sr and of hr.

    pix2pixHD (Wang et al., CVPR 2018; github.com/NVIDIA/pix2pixHD), which multiplies by 4. It
    replaces the perceptual term where no VGG may be used.

    Args:
        fake_features, real_features: Of sr and hr, from `features_of`; the latter get no gradient.
    """
    shapes = [[tuple(f.shape) for f in features] for features in (fake_features, real_features)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise ValueError(
            "Features must be those of one discriminator for two frames of one size, "
            f"got {shapes[0]} and {shapes[1]}."
        )
    layers = zip(fake_features, real_features, strict=True)
    return torch.stack([F.l1_loss(fake, real.detach()) for fake, real in layers]).mean()


def feature_matching_loss(discriminator: nn.Module) -> PixelLoss:
    """Return `feature_matching` by this discriminator as a function (sr, hr) -> scalar."""

    def loss(sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = frame_pair(sr, hr)
        with torch.no_grad():
            real = features_of(discriminator, hr)
        return feature_matching(features_of(discriminator, sr), real)

    return loss
