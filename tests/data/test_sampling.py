"""Batches and bursts."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from sharpreel import ops
from sharpreel.data import degrade
from sharpreel.data.sampling import (
    blur_score,
    check_clips,
    choose_target,
    noise_score,
    sample_batch,
    sample_bursts,
)
from sharpreel.data.store import (
    Clip,
    Frames,
)
from sharpreel.errors import UsageError
from tests.support.videos import moving


def clips_of(size: tuple[int, int], frames: int = 6, scale: int = 2) -> list[Clip]:
    hr = np.stack(list(moving(size, frames)))
    return [Clip("a", *degrade.degrade(hr, scale))]


def test_a_batch_depends_on_seed_and_step_and_its_crops_match() -> None:
    clips = clips_of((96, 80))
    lr, hr = sample_batch(clips, 2, 4, 3, 16, seed=7, step=11)
    assert lr.shape == (4, 3, 3, 16, 16)
    assert hr.shape == (4, 3, 3, 32, 32)
    again = sample_batch(clips, 2, 4, 3, 16, seed=7, step=11)
    np.testing.assert_array_equal(lr, again[0])
    assert (lr != sample_batch(clips, 2, 4, 3, 16, seed=7, step=12)[0]).any()
    for n in range(4):  # away from the crop's border, reducing the hr crop gives the lr crop
        reduced = ops.resize(hr[n, 0].transpose(1, 2, 0), 16, 16).transpose(2, 0, 1)
        inside = np.abs(reduced.astype(int) - lr[n, 0])[:, 3:-3, 3:-3]
        assert inside.max() <= 1


def test_several_processes_share_one_batch() -> None:
    clips = clips_of((96, 80))
    whole = sample_batch(clips, 2, 5, 2, 16, 1, 2)
    parts = [sample_batch(clips, 2, 5, 2, 16, 1, 2, (k, 2)) for k in range(2)]
    for together, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(together[0::2], first)
        np.testing.assert_array_equal(together[1::2], second)


def test_all_eight_symmetries_and_both_directions_of_time_occur() -> None:
    hr = np.zeros((2, 32, 32, 3), np.uint8)
    hr[0, :16, :8] = 200  # one corner, longer than wide: no symmetry keeps it
    hr[1] = hr[0] // 2
    clips = [Clip("a", hr, hr[:, ::2, ::2])]
    seen = {sample_batch(clips, 2, 1, 2, 16, 0, step)[0].tobytes() for step in range(200)}
    assert len(seen) == 16


def test_a_clip_that_is_too_short_continues_backwards() -> None:
    hr = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    lr, _ = sample_batch([Clip("a", hr, hr[:, ::2, ::2])], 2, 1, 7, 16, 0, 0)
    assert list(lr[0, :, 0, 0, 0]) in ([0, 1, 2, 1, 0, 1, 2], [2, 1, 0, 1, 2, 1, 0])


def test_videos_smaller_than_the_patch_are_rejected() -> None:
    with pytest.raises(
        UsageError, match="patch=64 is larger than every clip: in low resolution they are 48x40"
    ):
        check_clips(clips_of((96, 80)), 64)


def burst(noisy: list[float], seed: int = 0) -> Frames:
    """Scans of one area, each with scan-line noise of these levels."""
    rng = np.random.default_rng(seed)
    clean = skimage.data.camera()[::4, ::4].astype(float)
    scans = [clean + rng.normal(0, level, (128, 1)) for level in noisy]
    levels: Frames = np.clip(np.stack(scans), 0, 255).astype(np.uint8)
    return levels[..., None].repeat(3, axis=3)


def test_scan_lines_raise_the_noise_score_and_blur_lowers_the_other() -> None:
    clean, noisy = burst([0, 20])
    assert noise_score(noisy) > noise_score(clean) + 0.05
    soft = ops.resize(ops.resize(clean, 32, 32), 128, 128)
    assert blur_score(soft) < blur_score(clean) / 4


def test_the_least_noisy_scan_is_the_target_and_the_next_the_reference() -> None:
    order = choose_target(burst([12, 0.5, 6, 1.5, 9]))
    assert order[:2] == [1, 3]
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_a_burst_becomes_grey_windows_with_the_reference_in_the_middle() -> None:
    scans = burst([12, 0.5, 6, 1.5, 9, 10, 11])
    lr, hr = sample_bursts([scans], 4, 5, 32, seed=0, step=3)
    assert lr.shape == (4, 5, 1, 32, 32)
    assert hr.shape == (4, 1, 1, 32, 32)
    for n in range(4):
        distances = [np.abs(lr[n, k, 0].astype(float) - hr[n, 0, 0]).mean() for k in range(5)]
        assert int(np.argmin(distances)) == 2
    again = sample_bursts([scans], 4, 5, 32, seed=0, step=3)
    np.testing.assert_array_equal(lr, again[0])
