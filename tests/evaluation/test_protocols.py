"""Protocols against plain programs: regions, frames, rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sharpreel import ops
from sharpreel.evaluation.metrics.fidelity import (
    psnr,
    ssim,
)
from sharpreel.evaluation.protocols import PROTOCOLS, Measured, measure
from tests.support.photos import HR, PHOTO, SR
from tests.support.videos import Pixels


def frame_with(outside: int, region: tuple[slice, slice], shape: tuple[int, int]) -> Pixels:
    """The photograph, spoilt everywhere but in this region."""
    frame = PHOTO[: shape[0], : shape[1]].copy()
    inside = np.zeros(shape, bool)
    inside[region] = True
    frame[~inside] ^= outside
    return frame


@pytest.mark.parametrize(
    ("name", "shape", "region"),
    [
        ("P1", (60, 70), (slice(0, 60), slice(0, 70))),
        ("P1-RGB", (60, 70), (slice(0, 60), slice(0, 70))),
        ("P2", (60, 70), (slice(8, 52), slice(8, 62))),
        ("P3", (60, 144), (slice(14, 46), slice(8, 136))),  # 144 - 128 leaves 16: enough
        ("P3", (96, 143), (slice(16, 80), slice(23, 119))),  # 143 - 128 leaves 15: not enough
        ("P4", (60, 70), (slice(5, 56), slice(5, 66))),
        ("E", (60, 70), (slice(0, 60), slice(0, 70))),
    ],
)
def test_a_protocol_uses_its_region_only(
    name: str, shape: tuple[int, int], region: tuple[slice, slice]
) -> None:
    protocol = PROTOCOLS[name]
    hr = PHOTO[: shape[0], : shape[1]]
    assert protocol.region(*shape) == region
    same = measure(frame_with(255, region, shape), hr, protocol)
    assert same.psnr == pytest.approx(measure(hr, hr, protocol).psnr)
    assert same.ssim == pytest.approx(1)
    smaller = slice(region[0].start + 1, region[0].stop), region[1]
    assert measure(frame_with(255, smaller, shape), hr, protocol).psnr < 40


def test_the_asymmetric_border_follows_the_scale() -> None:
    twice = replace(PROTOCOLS["P4"], crop_border=2)
    assert twice.region(20, 30) == (slice(3, 18), slice(3, 28))


def test_protocol_one_is_psnr_and_ssim_on_luma() -> None:
    measured = measure(SR, HR, PROTOCOLS["P1"])
    assert measured == Measured(psnr(SR, HR), ssim(SR, HR))
    measured = measure(SR, HR, PROTOCOLS["P1-RGB"])
    assert measured == Measured(psnr(SR, HR, "rgb"), ssim(SR, HR, "rgb"))
    rounded = replace(PROTOCOLS["P1"], rounded_luma=True)
    assert measure(SR, HR, rounded).psnr == psnr(SR, HR, rounded=True)


def test_protocol_three_uses_the_range_of_the_prediction_for_ssim() -> None:
    rows = slice(12, 108)  # 120 -> 96
    a, b = (ops.luma(f[rows, rows]) for f in (SR, HR))
    measured = measure(SR, HR, PROTOCOLS["P3"])
    wanted = structural_similarity(b, a, data_range=a.max() - a.min())
    assert measured.ssim == pytest.approx(wanted, abs=1e-9)
    assert measured.psnr == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255))
    black = np.zeros_like(HR)
    assert math.isnan(measure(black, black, PROTOCOLS["P3"]).ssim)


def test_protocol_four_is_rbpns_script() -> None:
    scale = 4
    a, b = (f[1 + scale : -scale, 1 + scale : -scale].astype(float) for f in (SR, HR))
    wanted = 20 * math.log10(255 / math.sqrt(np.mean((a - b) ** 2)))
    assert measure(SR, HR, PROTOCOLS["P4"]).psnr == pytest.approx(wanted)
    assert measure(HR, HR, PROTOCOLS["P4"]).psnr == 100


def test_protocol_e_adds_its_floor_and_uses_seven_taps() -> None:
    error = np.mean((SR / 255 - HR / 255) ** 2)
    measured = measure(SR, HR, PROTOCOLS["E"])
    assert measured.psnr == pytest.approx(10 * math.log10(1 / (error + 1e-8)))
    assert measured.ssim == ssim(SR, HR, "rgb", window="seven")
    assert measure(HR, HR, PROTOCOLS["E"]).psnr == pytest.approx(80)


def test_frames_too_small_for_a_protocol_are_rejected() -> None:
    for name, side in (("P2", 16), ("P3", 47), ("P4", 8), ("P4", 9)):
        with pytest.raises(ValueError, match=f"leaves nothing of a frame of {side}x{side}"):
            PROTOCOLS[name].region(side, side)
    assert PROTOCOLS["P3"].region(48, 48) == (slice(8, 40), slice(8, 40))


@pytest.mark.parametrize(
    ("name", "frames", "chosen"),
    [
        ("P1", 5, [0, 1, 2, 3, 4]),
        ("P1-Vimeo", 7, [3]),
        ("P1-Vimeo", 0, []),
        ("P3", 7, [2, 3, 4]),
        ("P3", 4, []),
        ("P4", 8, [3, 4]),
    ],
)
def test_a_protocol_selects_its_frames(name: str, frames: int, chosen: list[int]) -> None:
    assert list(PROTOCOLS[name].select(range(frames))) == chosen


def test_selecting_holds_back_at_most_the_skipped_frames() -> None:
    taken = []

    def source() -> Iterator[int]:
        for index in range(100):
            taken.append(index)
            yield index

    frames = PROTOCOLS["P3"].select(source())
    assert [next(frames), next(frames)] == [2, 3]
    assert len(taken) == 6


def test_every_protocol_is_named_as_its_key_and_measures() -> None:
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name
        measured = measure(SR, HR, protocol)
        assert 20 < measured.psnr < 40
        assert 0.4 < measured.ssim < 1
