"""Pixel losses: each against its equation in NumPy, or another library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.filters import gaussian
from skimage.metrics import structural_similarity

from sharpreel.errors import UsageError
from sharpreel.training.losses import pixel
from sharpreel.training.losses.pixel import (
    LOSSES,
    charbonnier,
    dssim,
    inverse_psnr,
    pixel_loss,
    ssim7,
    total_variation,
)
from tests.support.losses import Array, gradient, published_tv, rand, two


def numpy_ssim(x: Array, y: Array) -> float:
    """One channel, with skimage's Gaussian filter; only windows inside the frame."""

    def blur(image: Array) -> Array:
        blurred: Array = gaussian(image, sigma=1.0, truncate=3.0, mode="reflect")
        return blurred[3:-3, 3:-3]

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    ratio = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(ratio.mean())


def numpy_dssim(sr: Array, hr: Array) -> float:
    channels = zip(sr.reshape(-1, *sr.shape[-2:]), hr.reshape(-1, *hr.shape[-2:]), strict=True)
    return 1 - float(np.mean([numpy_ssim(x, y) for x, y in channels]))


REFERENCES: dict[str, Callable[[Array, Array], float]] = {
    "l1": lambda sr, hr: float(np.abs(sr - hr).mean()),
    "charbonnier": lambda sr, hr: float(np.hypot(sr - hr, 1e-3).mean()),
    "mse": lambda sr, hr: float(np.mean((sr - hr) ** 2)),
    "inverse_psnr": lambda sr, hr: 1 / (-10 * math.log10(np.mean((sr - hr) ** 2) + 1e-8)),
    "dssim": numpy_dssim,
}


SHAPES = [(2, 3, 12, 9), (2, 2, 3, 8, 11), (1, 1, 7, 7)]


def test_every_pixel_loss_has_a_reference() -> None:
    assert REFERENCES.keys() == LOSSES.keys()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_a_pixel_loss_is_its_equation_for_frames_and_clips(
    name: str, shape: tuple[int, ...]
) -> None:
    sr, hr = two(*shape)
    loss = pixel_loss(name)(sr, hr)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(REFERENCES[name](sr.numpy(), hr.numpy()), rel=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_pixel_loss_falls_along_its_gradient_which_is_finite_even_for_equal_frames(
    name: str,
) -> None:
    sr, hr = two(2, 3, 10, 12)
    loss = pixel_loss(name)
    slope = gradient(lambda x: loss(x, hr), sr)
    assert slope.isfinite().all()
    assert loss(sr - 1e-3 * slope / slope.norm(), hr) < loss(sr, hr)
    assert gradient(lambda x: loss(x, hr), hr).isfinite().all()


@pytest.mark.parametrize("name", REFERENCES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    sr, hr = (frame.to(torch.bfloat16) for frame in two(2, 3, 10, 12))
    loss = pixel_loss(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(sr, hr).dtype == torch.float32
        assert loss(sr, hr).item() == pytest.approx(loss(sr.double(), hr.double()).item(), rel=1e-4)


def test_equal_frames_have_no_loss_but_that_of_the_epsilons() -> None:
    frame = rand(1, 3, 9, 9)
    values = {name: loss(frame, frame).item() for name, loss in LOSSES.items()}
    assert values.pop("dssim") == pytest.approx(0, abs=1e-12)
    assert values == pytest.approx({"l1": 0, "charbonnier": 1e-3, "mse": 0, "inverse_psnr": 1 / 80})


def test_the_psnr_of_a_loss_is_that_of_the_whole_batch() -> None:
    hr = torch.zeros(2, 3, 8, 8)
    sr = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.3)])
    decibels = -10 * math.log10((0.01 + 0.09) / 2)  # not the mean of 20 and 10.5 dB
    assert inverse_psnr(sr, hr).item() == pytest.approx(1 / decibels, rel=1e-5)


def test_ssim_is_that_of_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    # It cuts a Gaussian at 3.5 sigma: 7 taps below sigma 1, 9 taps at 1.
    monkeypatch.setattr(pixel, "SSIM_SIGMA", 0.99)
    sr, hr = two(2, 3, 20, 17)
    options: dict[str, Any] = {"gaussian_weights": True, "use_sample_covariance": False}
    wanted = [
        structural_similarity(
            x.numpy(), y.numpy(), sigma=0.99, data_range=1.0, channel_axis=0, **options
        )
        for x, y in zip(sr, hr, strict=True)
    ]
    assert ssim7(sr, hr).item() == pytest.approx(np.mean(wanted), rel=1e-9)


def test_charbonnier_with_a_wide_epsilon_is_flat_and_with_a_narrow_one_is_l1() -> None:
    sr, hr = two(1, 3, 8, 8)
    assert charbonnier(sr, hr, epsilon=100.0).item() == pytest.approx(100, rel=1e-4)
    assert charbonnier(sr, hr, epsilon=1e-9).item() == pytest.approx(F.l1_loss(sr, hr).item())


def test_ssim_refuses_a_frame_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 7 x 7 pixels, got 6 x 9"):
        dssim(rand(1, 3, 6, 9), rand(1, 3, 6, 9))


def test_an_unknown_loss_suggests_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"called charbonier\. Did you mean charbonnier\? There a"):
        pixel_loss("charbonier")
    with pytest.raises(UsageError, match=r"called zzz\. There are: l1, charbonnier, mse, inverse"):
        pixel_loss("zzz")


def test_squared_total_variation_is_that_of_the_published_code() -> None:
    sr = rand(2, 3, 4, 6)
    assert total_variation(sr).item() == pytest.approx(published_tv(sr.numpy()), rel=1e-9)


def test_absolute_total_variation_is_a_sum_per_frame() -> None:
    sr = rand(2, 3, 4, 6)
    down, right = np.diff(sr.numpy(), axis=2), np.diff(sr.numpy(), axis=3)
    wanted = (np.abs(down).sum() + np.abs(right).sum()) / 2
    assert total_variation(sr, "absolute").item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("form", ["squared", "absolute"])
def test_total_variation_of_a_clip_is_that_of_its_frames(
    form: Literal["squared", "absolute"],
) -> None:
    clip = rand(2, 3, 3, 5, 4)
    assert total_variation(clip, form) == total_variation(clip.flatten(0, 1), form)
    assert total_variation(torch.full((1, 3, 5, 5), 0.4), form) == 0
    assert gradient(lambda x: total_variation(x, form), clip).isfinite().all()


def test_total_variation_refuses_a_single_row_and_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="at least 2 x 2 pixels, got 1 x 5"):
        total_variation(rand(1, 3, 1, 5))
    with pytest.raises(ValueError, match="form must be squared or absolute, got 'cubed'"):
        total_variation(rand(1, 3, 5, 5), "cubed")  # type: ignore[arg-type]
