"""PSNR, SSIM, MS-SSIM and QM against scikit-image, torchmetrics and plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sharpreel import ops
from sharpreel.evaluation import protocols
from sharpreel.evaluation.metrics.fidelity import (
    MS_SSIM_WEIGHTS,
    is_constant,
    ms_ssim,
    psnr,
    psnr_y,
    qm,
    score,
    ssim,
)
from sharpreel.evaluation.metrics.temporal import (
    flicker,
    tof_pair,
    warping_error,
)
from sharpreel.evaluation.protocols import PROTOCOLS
from tests.support.photos import HR, PHOTO, SR, blurred, noisy
from tests.support.videos import Pixels


def deep(frame: Pixels) -> Pixels:
    """The same frame in 16 bits."""
    return frame.astype(np.uint16) * 257


@pytest.mark.parametrize("crop_border", [0, 4])
def test_psnr_of_rgb_is_scikit_images(crop_border: int) -> None:
    inner = slice(crop_border, -crop_border or None)
    wanted = peak_signal_noise_ratio(HR[inner, inner], SR[inner, inner])
    assert psnr(SR, HR, "rgb", crop_border) == pytest.approx(wanted)


def test_psnr_of_y_is_scikit_images_on_luma_rounded_or_not() -> None:
    a, b = ops.luma(SR), ops.luma(HR)
    wanted = peak_signal_noise_ratio(b, a, data_range=255)
    assert psnr(SR, HR) == psnr_y(SR, HR) == pytest.approx(wanted)
    wanted = peak_signal_noise_ratio(np.rint(b), np.rint(a), data_range=255)
    assert psnr(SR, HR, rounded=True) == pytest.approx(wanted, rel=1e-12)
    assert psnr(SR, HR, rounded=True) != psnr(SR, HR)


def test_equal_frames_have_infinite_psnr_and_ssim_1() -> None:
    large = PHOTO[:200, :180]
    assert psnr(HR, HR) == psnr(HR, HR, "rgb", 3) == math.inf
    assert ssim(HR, HR, "rgb") == pytest.approx(1, abs=1e-12)
    assert ms_ssim(large, large) == pytest.approx(1, abs=1e-12)


def test_16_bit_frames_score_like_their_8_bit_versions() -> None:
    a, b = deep(SR), deep(HR)
    assert psnr(a, b, "rgb") == pytest.approx(psnr(SR, HR, "rgb"))
    assert ssim(a, b) == pytest.approx(ssim(SR, HR))
    assert flicker(a, b, b, b) == pytest.approx(flicker(SR, HR, HR, HR))
    assert tof_pair(a, b, b, b) == tof_pair(SR, HR, HR, HR)


def test_matlab_ssim_is_scikit_images_on_full_windows() -> None:
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = [(ops.luma(SR), ops.luma(HR)), *((SR[..., c], HR[..., c]) for c in range(3))]
    wanted = []
    for a, b in pairs:
        _, full = structural_similarity(
            a.astype(float), b.astype(float), data_range=255, full=True, **settings
        )
        wanted.append(full[5:-5, 5:-5].mean())
    assert ssim(SR, HR) == pytest.approx(wanted[0], abs=1e-9)
    assert ssim(SR, HR, "rgb") == pytest.approx(np.mean(wanted[1:]), abs=1e-9)


def test_uniform_ssim_is_scikit_images_default() -> None:
    a, b = ops.luma(SR), ops.luma(HR)
    wanted = structural_similarity(b, a, data_range=255)
    assert ssim(SR, HR, window="uniform") == pytest.approx(wanted, abs=1e-9)


def test_seven_tap_ssim_is_a_plain_sum_over_windows() -> None:
    sr, hr = SR[:10, :9].astype(float), HR[:10, :9].astype(float)
    line = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    weight = np.outer(line, line) / line.sum() ** 2
    c1, c2 = 2.55**2, 7.65**2
    values = []
    for c in range(3):
        for y in range(4):
            for x in range(3):
                a, b = (f[y : y + 7, x : x + 7, c] for f in (sr, hr))
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a = (weight * (a - mean_a) ** 2).sum()
                var_b = (weight * (b - mean_b) ** 2).sum()
                both = (weight * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + c1)
                    * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
    measured = ssim(SR[:10, :9], HR[:10, :9], "rgb", window="seven")
    assert measured == pytest.approx(np.mean(values), abs=1e-9)


def test_ssim_skips_the_border() -> None:
    inner = slice(6, -6)
    assert ssim(SR, HR, crop_border=6) == ssim(SR[inner, inner], HR[inner, inner])


def test_ms_ssim_is_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    similarity = torchmetrics.structural_similarity_index_measure
    hr = PHOTO[:192, :208]
    sr = noisy(blurred(hr, 1.5), 12)
    a, b = (torch.from_numpy(ops.luma(f))[None, None] for f in (sr, hr))
    wanted = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale < 4:
            _, value = similarity(a, b, data_range=255.0, return_contrast_sensitivity=True)
        else:  # its own MS-SSIM includes padded borders; Wang's does not
            _, full = similarity(a, b, data_range=255.0, return_full_image=True)
            value = full[..., 5:-5, 5:-5].mean()
        wanted *= float(value) ** weight
        a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
    assert ms_ssim(sr, hr) == pytest.approx(wanted, abs=1e-6)
    assert 0.5 < wanted < 0.99


def test_ms_ssim_supports_odd_sizes_and_rgb() -> None:
    hr = PHOTO[:179, :201]
    values = [ms_ssim(noisy(hr, sigma), hr, "rgb") for sigma in (4, 12, 36)]
    assert sorted(values, reverse=True) == values


@pytest.mark.parametrize(
    ("sr", "hr", "message"),
    [
        (SR[:-1], HR, r"one shape, got \(119, 120, 3\) and \(120, 120, 3\)"),
        (deep(SR), HR, "one type, got uint16 and uint8"),
        (SR[..., :1], HR[..., :1], r"\(H, W, 3\)"),
        (SR / 255, HR / 255, "uint8 or uint16, got float64"),
    ],
)
def test_incomparable_frames_are_rejected(sr: Pixels, hr: Pixels, message: str) -> None:
    measures: list[Callable[[Pixels, Pixels], object]] = [
        psnr,
        ssim,
        ms_ssim,
        lambda a, b: protocols.measure(a, b, PROTOCOLS["P1"]),
        lambda a, b: warping_error(a, a, b, b),
    ]
    for one in measures:
        with pytest.raises(ValueError, match=message):
            one(sr, hr)


def test_frames_smaller_than_a_window_are_rejected() -> None:
    tiny = HR[:10, :30]
    with pytest.raises(ValueError, match="11x11 does not fit into 30x10"):
        ssim(tiny, tiny)
    assert ssim(tiny, tiny, window="seven") == pytest.approx(1)
    with pytest.raises(ValueError, match="176 pixels or more, got 120x120"):
        ms_ssim(HR, HR)
    with pytest.raises(ValueError, match="leaves nothing"):
        psnr(tiny, tiny, crop_border=5)
    with pytest.raises(ValueError, match="16 pixels or more"):
        warping_error(tiny, tiny, tiny, tiny)


def test_unknown_channels_and_windows_are_named() -> None:
    with pytest.raises(ValueError, match="channel must be y or rgb, got 'luma'"):
        psnr(SR, HR, "luma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window must be one of matlab, seven, uniform, got 'box'"):
        ssim(SR, HR, window="box")  # type: ignore[arg-type]


def test_a_frame_of_one_colour_is_constant() -> None:
    flat = np.full((8, 8, 3), (3, 200, 7), np.uint8)
    assert is_constant(flat)
    flat[5, 5, 1] += 1
    assert not is_constant(flat)


def test_qm_is_the_geometric_mean_and_score_the_share_above_zero() -> None:
    assert qm(32.0, 0.5) == 4.0
    assert math.isnan(qm(10.0, -0.1))
    # One line of published edges, of "R1 small AdamW PNSR 36v".
    edges = [-0.1344, 0.0582, 0.0921, 0.0228, 0.0090, -0.0265, -1.2760, 0.0081, 0.0776, -0.2818]
    assert score(edges) == 0.6
    assert score([0.0, 1.0]) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        score([])
