"""A discriminator's features, and the loss between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sharpreel.models.srgan import Discriminator, FastDiscriminator, PatchDiscriminator
from sharpreel.training.losses.feature_matching import (
    feature_matching,
    feature_matching_loss,
    features_of,
    score_and_features,
)
from tests.support.losses import gradient, rand, two


def walked(discriminator: nn.Module, frame: Tensor) -> list[Tensor]:
    """Features by going through the layers by hand."""
    if isinstance(discriminator, FastDiscriminator):
        x = discriminator.neck(2 * frame - 1)
        found = [x]
        for step in list(discriminator.stem)[:-1]:
            x = step(x)
            found.append(x)
        return found
    found = []
    assert isinstance(discriminator.net, nn.Sequential)
    x = frame if isinstance(discriminator, Discriminator) else 2 * frame - 1
    for step in discriminator.net:
        x = step(x)
        if isinstance(step, nn.LeakyReLU):
            found.append(x)
    return found


DISCRIMINATORS: list[tuple[Callable[[], nn.Module], int]] = [
    (Discriminator, 9),
    (lambda: FastDiscriminator(8), 8),
    (PatchDiscriminator, 8),
]


@pytest.mark.parametrize(("build", "count"), DISCRIMINATORS, ids=["iseebetter", "fast", "patch"])
def test_the_features_of_a_discriminator_are_the_outputs_of_its_activations(
    build: Callable[[], nn.Module], count: int
) -> None:
    torch.manual_seed(0)
    discriminator = build().eval()
    frame = rand(2, 3, 32, 24).float()
    with torch.no_grad():
        score, features = score_and_features(discriminator, frame)
        wanted = walked(discriminator, frame)
        assert torch.equal(score, discriminator(frame))
        assert len(features) == len(wanted) == count
        for got, one in zip(features, wanted, strict=True):
            torch.testing.assert_close(got, one)
        clip = features_of(discriminator, frame[None])
        assert all(torch.equal(a, b) for a, b in zip(clip, features, strict=True))
    assert not any(module._forward_hooks for module in discriminator.modules())


def test_an_activation_used_in_two_places_gives_a_feature_in_each() -> None:
    act = nn.ReLU()
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 5, 1), act)
    features = features_of(discriminator, rand(1, 3, 2, 2).float())
    assert [f.shape[1] for f in features] == [4, 5]


def test_hooks_are_removed_when_a_discriminator_fails() -> None:
    discriminator = FastDiscriminator(8)
    with pytest.raises(RuntimeError, match="channels"):
        features_of(discriminator, rand(1, 4, 16, 16).float())
    assert not any(module._forward_hooks for module in discriminator.modules())


def test_a_discriminator_without_activations_is_refused() -> None:
    with pytest.raises(ValueError, match="Conv2d has no activation or block"):
        features_of(nn.Conv2d(3, 1, 3), rand(1, 3, 8, 8).float())


def test_feature_matching_is_the_mean_over_layers_of_l1() -> None:
    fake = [rand(2, 4, 5, 5), rand(2, 8, 3, 3, seed=1)]
    real = [rand(2, 4, 5, 5, seed=2).requires_grad_(), rand(2, 8, 3, 3, seed=3)]
    wanted = [
        np.abs(f.numpy() - r.detach().numpy()).mean() for f, r in zip(fake, real, strict=True)
    ]
    loss = feature_matching([fake[0].requires_grad_(), fake[1]], real)
    assert loss.item() == pytest.approx(np.mean(wanted))
    loss.backward()  # type: ignore[no-untyped-call]
    assert real[0].grad is None
    assert fake[0].grad is not None


def test_features_of_frames_of_two_sizes_are_refused() -> None:
    for one, other in (
        ([rand(1, 2, 4, 4)], [rand(1, 2, 4, 5)]),
        ([rand(1, 2, 4, 4)], []),
        ([], []),
    ):
        with pytest.raises(ValueError, match="one discriminator for two frames of one size"):
            feature_matching(one, other)


def test_feature_matching_needs_no_vgg_file() -> None:
    torch.manual_seed(0)
    discriminator = FastDiscriminator(8)
    sr, hr = (clip.float() for clip in two(1, 2, 3, 32, 32))
    loss = feature_matching_loss(discriminator)
    wanted = feature_matching(features_of(discriminator, sr), features_of(discriminator, hr))
    assert loss(sr, hr) == wanted
    assert loss(hr, hr) == 0
    slope = gradient(lambda x: loss(x, hr), sr)
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0
