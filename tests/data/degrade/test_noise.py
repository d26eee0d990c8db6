"""Noise: its strength, its independence between frames, its directions."""

from __future__ import annotations

import numpy as np
import pytest

from sharpreel.data.degrade.noise import gaussian_noise, poisson_noise, streaks
from tests.support.degradations import Clip


@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 1), (np.uint16, 257)])
def test_gaussian_noise_has_its_sigma_in_8_bit_levels_and_is_new_in_each_frame(
    dtype: type, unit: int
) -> None:
    clip: Clip = np.full((3, 64, 64, 3), 128 * unit, dtype)
    noisy = gaussian_noise(clip, np.array([2.0, 4.0, 8.0]), np.random.default_rng(0))
    assert noisy.dtype == dtype
    noise = (noisy.astype(np.float64) - clip) / unit
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), [2, 4, 8], rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=(1, 2, 3)), 0, atol=0.2)
    assert abs(np.corrcoef(noise[1].ravel(), noise[2].ravel())[0, 1]) < 0.05
    grey = gaussian_noise(clip, 5, np.random.default_rng(0), grey=True)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_poisson_noise_grows_with_brightness() -> None:
    clip = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 25, 100, 144)])
    noisy = poisson_noise(clip, 0.5, np.random.default_rng(0)).astype(np.float64)
    np.testing.assert_allclose(noisy.std(axis=(1, 2, 3)), [0, 2.5, 5, 6], rtol=0.05)
    np.testing.assert_allclose(noisy.mean(axis=(1, 2, 3)), [0, 25, 100, 144], atol=0.2)
    grey = poisson_noise(clip, 1, np.random.default_rng(0), grey=True)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_streaks_are_horizontal_and_grow_with_the_strength() -> None:
    clip = np.full((2, 200, 160, 3), 128, np.uint8)
    noise = streaks(clip, np.random.default_rng(0), 6.0)[..., 0].astype(np.float64) - 128
    across_lines = noise.mean(axis=2).var(axis=1)
    across_columns = noise.mean(axis=1).var(axis=1)
    along_a_line = noise.var(axis=2).mean(axis=1)
    assert (across_lines > 20 * across_columns).all()
    assert (across_lines > 2 * along_a_line).all()
    # Neighbours along a line are alike, neighbouring lines are not; nor are two scans.
    assert np.corrcoef(noise[0, :, 1:].ravel(), noise[0, :, :-1].ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(noise[0, 1:].ravel(), noise[0, :-1].ravel())[0, 1]) < 0.25
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.25
    weaker = streaks(clip, np.random.default_rng(0), np.array([1.0, 3.0]))
    assert weaker[0].std() < 0.3 * noise[0].std()
    assert weaker[1].std() < 0.6 * noise[1].std()


def test_streaks_are_the_same_on_all_channels_and_take_grey_and_16_bits() -> None:
    rgb = np.full((1, 40, 40, 3), 100, np.uint8)
    streaked = streaks(rgb, np.random.default_rng(3))
    np.testing.assert_array_equal(streaked[..., 0], streaked[..., 2])
    grey = streaks(rgb[..., :1], np.random.default_rng(3))
    np.testing.assert_array_equal(grey[..., 0], streaked[..., 0])
    deep = streaks(rgb.astype(np.uint16) * 257, np.random.default_rng(3))
    np.testing.assert_allclose(deep / 257, streaked, atol=0.51)


def test_some_scan_lines_jump() -> None:
    clip = np.full((1, 400, 200, 1), 128, np.uint8)
    noise = streaks(clip, np.random.default_rng(0), 10.0)[0, ..., 0].astype(np.float64)
    jumping = (np.abs(np.diff(noise, axis=1)).max(axis=1) > 15).mean()
    assert 0.02 < jumping < 0.12
