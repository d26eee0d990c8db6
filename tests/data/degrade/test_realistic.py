"""Chains of random degradations."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sharpreel.data import degrade
from sharpreel.data.degrade.realistic import _blur_kernels, _blurred, _walk
from sharpreel.data.degrade.resample import (
    bicubic,
)
from tests.support.degradations import psnr, scene


def test_a_walk_stays_inside_and_takes_small_steps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        walk = _walk(rng, 0.2, 3.0, 0.02, 50)
        assert walk.shape == (50,)
        assert walk.min() >= 0.2
        assert walk.max() <= 3.0
        assert 0 < np.abs(np.diff(walk)).max() <= 0.02 + 1e-12
    starts = [_walk(rng, 0.2, 3.0, 0.02, 1)[0] for _ in range(50)]
    assert min(starts) < 0.8
    assert max(starts) > 2.4


def test_blur_kernels_are_normalised_and_change_slowly() -> None:
    shapes = set()
    for seed in range(40):
        kernels = _blur_kernels(np.random.default_rng(seed), 6, sigma=3)
        shapes.add(kernels.shape[1])
        np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1)
        np.testing.assert_allclose(kernels, kernels[:, ::-1, ::-1], atol=1e-12)
        clip = _blurred(scene(1, 40, 40).repeat(6, axis=0).astype(np.float32), kernels)
        assert np.abs(np.diff(clip, axis=0)).mean() < 2
    assert shapes == set(range(7, 22, 2))


def test_the_blur_by_fourier_is_the_convolution() -> None:
    clip = scene(2, 19, 26).astype(np.float64)
    kernels = np.random.default_rng(0).random((2, 7, 7))
    ours = _blurred(clip, kernels)
    for frame, kernel, blurred in zip(clip, kernels, ours, strict=True):
        wanted = ndimage.convolve(frame, kernel[:, :, None], mode="mirror")
        np.testing.assert_allclose(blurred, wanted, atol=1e-9)


def test_real_degrades_a_clip_but_keeps_it_recognisable() -> None:
    hr = scene(3, 64, 96)
    clean = bicubic(hr, 4)
    scores = [psnr(degrade.degrade(hr, 4, "real", seed)[1], clean) for seed in range(25)]
    assert max(scores) - min(scores) > 6
    assert min(scores) > 10
    assert max(scores) < 40


def test_half_of_the_clips_of_bi_h264_are_plain_bi() -> None:
    hr = scene(2, 32, 32)
    clean = bicubic(hr, 2)
    same = [
        np.array_equal(degrade.degrade(hr, 2, "bi-h264", (5, clip))[1], clean) for clip in range(60)
    ]
    assert 18 <= sum(same) <= 42


def test_afm_at_scale_1_only_adds_streaks() -> None:
    hr = scene(2, 31, 45)
    cropped, lr = degrade.degrade(hr, 1, "afm", 7)
    assert cropped.shape == lr.shape == hr.shape
    offset = lr.astype(int) - hr
    inside = (lr > 0) & (lr < 255)
    assert np.abs(offset[inside]).max() > 1
    both = inside[..., 0] & inside[..., 1]
    np.testing.assert_array_equal(offset[..., 0][both], offset[..., 1][both])
