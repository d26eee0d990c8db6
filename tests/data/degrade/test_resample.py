"""Downscaling: each definition against an independent implementation."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from sharpreel.data import degrade
from sharpreel.data.degrade.resample import (
    Kernel,
    area,
    area_resize,
    bd,
    bd_duf,
    bd_tecogan,
    bicubic,
    blur_downsample,
    crop_to_multiple,
    kernel_downsample,
    pil_bicubic,
)
from tests.support.degradations import Clip, scene

Floats = npt.NDArray[np.float64]


def ramp(height: int, width: int) -> Clip:
    """A frame of uint16 that grows by 100 levels a pixel to the right: its values are places."""
    line = np.arange(width, dtype=np.uint16) * 100
    return np.broadcast_to(line[:, None], (1, height, width, 3)).copy()


def imresize(image: Floats, scale: int) -> Floats:
    """MATLAB's imresize(image, 1 / scale) on doubles, sample by sample."""

    def along(image: Floats) -> Floats:
        n = len(image)
        out = np.zeros((n // scale, *image.shape[1:]))
        for i in range(n // scale):
            u = (i + 1) * scale + 0.5 * (1 - scale)  # counted from one
            left = math.floor(u - 2 * scale)
            total = 0.0
            for p in range(4 * scale + 2):
                x = abs((u - left - p) / scale)
                if x <= 1:
                    h = 1.5 * x**3 - 2.5 * x**2 + 1
                elif x <= 2:
                    h = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
                else:
                    continue
                j = (left + p - 1) % (2 * n)
                out[i] += h * image[j if j < n else 2 * n - 1 - j]
                total += h
            out[i] /= total
        return out

    return along(along(image).swapaxes(0, 1)).swapaxes(0, 1)


def test_the_crop_keeps_the_top_left_and_divides() -> None:
    hr = scene(2, 23, 38)
    cropped = crop_to_multiple(hr, 4)
    np.testing.assert_array_equal(cropped, hr[:, :20, :36])
    assert np.shares_memory(cropped, hr)
    assert crop_to_multiple(hr, 1).shape == hr.shape


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bi_is_imresize_rounded_once(scale: int) -> None:
    hr = scene(1, 24, 36)
    exact = np.clip(imresize(hr[0].astype(np.float64), scale), 0, 255)
    lr = bicubic(hr, scale)
    assert lr.dtype == np.uint8
    # float32 may turn a tie, and nothing more.
    np.testing.assert_allclose(lr[0], exact, atol=0.5 + 1e-4, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bi_is_torchs_antialiased_bicubic_away_from_the_border(scale: int) -> None:
    hr = scene(2, 48, 60)
    image = torch.from_numpy(hr.transpose(0, 3, 1, 2).astype(np.float64))
    theirs = F.interpolate(image, scale_factor=1 / scale, mode="bicubic", antialias=True)
    inner = np.s_[:, 2:-2, 2:-2]
    wanted = theirs.numpy().transpose(0, 2, 3, 1).clip(0, 255)
    np.testing.assert_allclose(bicubic(hr, scale)[inner], wanted[inner], atol=0.5 + 1e-4, rtol=0)


def test_pil_bicubic_is_pillows_to_the_byte() -> None:
    for scale in (2, 3, 4):
        hr = scene(2, 24, 36, seed=scale)
        lr = pil_bicubic(hr, scale)
        for frame, ours in zip(hr, lr, strict=True):
            size = (36 // scale, 24 // scale)
            theirs = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(ours, np.asarray(theirs))


def fspecial(size: int, sigma: float) -> Floats:
    """MATLAB's fspecial('gaussian', size, sigma)."""
    x = np.arange(size) - (size - 1) / 2
    h = np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2))
    h[h < np.finfo(float).eps * h.max()] = 0
    normalised: Floats = h / h.sum()
    return normalised


@pytest.mark.parametrize(("scale", "sigma", "size"), [(4, 1.6, 12), (2, 0.8, 8)])
def test_bd_is_the_matlab_script_of_basicvsr(scale: int, sigma: float, size: int) -> None:
    hr = scene(1, 24, 32)
    kernel = fspecial(size, sigma)
    # imfilter takes the pixel at floor((size + 1) / 2), from one, for the middle.
    before, after = size // 2 - 1, size // 2
    padded = np.pad(hr[0].astype(np.float64), ((before, after), (before, after), (0, 0)), "edge")
    blurred = np.zeros(hr[0].shape)
    for y in range(size):
        for x in range(size):
            blurred += kernel[y, x] * padded[y : y + 24, x : x + 32]
    first = scale // 2 - 1  # scale/2 : scale : end-scale/2, from one
    wanted = blurred[first::scale, first::scale]
    np.testing.assert_allclose(bd(hr, scale)[0], wanted, atol=0.5 + 1e-9, rtol=0)


@pytest.mark.parametrize(("scale", "sigma"), [(2, 0.8), (3, 1.2), (4, 1.6)])
def test_bd_duf_is_scipys_gaussian_of_13_taps_from_phase_zero(scale: int, sigma: float) -> None:
    hr = scene(1, 24, 36)
    delta = np.zeros((13, 13))
    delta[6, 6] = 1
    kernel = ndimage.gaussian_filter(delta, sigma)[:, :, None]
    blurred = ndimage.correlate(hr[0].astype(np.float64), kernel, mode="mirror")
    wanted = blurred[::scale, ::scale]
    np.testing.assert_allclose(bd_duf(hr, scale)[0], wanted, atol=0.5 + 1e-6, rtol=0)


@pytest.mark.parametrize("scale", [2, 4])
def test_bd_tecogan_is_the_strided_convolution_of_its_code(scale: int) -> None:
    hr = scene(1, 24, 36)
    kernel = torch.from_numpy(fspecial(9, 1.5))[None, None]
    planes = torch.from_numpy(hr[0].transpose(2, 0, 1)[:, None].astype(np.float64))
    padded = F.pad(planes, (4, 4, 4, 4), "reflect")
    wanted = F.conv2d(padded, kernel, stride=scale)[:, 0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(bd_tecogan(hr, scale)[0], wanted, atol=0.5 + 1e-9, rtol=0)


@pytest.mark.parametrize(
    ("name", "scale", "place"),
    [
        *[("bi", s, (s - 1) / 2) for s in (2, 3, 4)],
        *[("bd", s, (s - 1) / 2) for s in (2, 3, 4)],
        *[("area", s, (s - 1) / 2) for s in (2, 3, 4)],
        *[("bd-duf", s, 0) for s in (2, 3, 4)],
        *[("bd-tecogan", s, 0) for s in (2, 4)],
    ],
)
def test_lr_pixels_are_where_the_definition_puts_them(name: str, scale: int, place: float) -> None:
    _, lr = degrade.degrade(ramp(48, 72), scale, name)
    wanted = 100 * (scale * np.arange(72 // scale) + place)
    inner = slice(4, -4)
    assert lr.dtype == np.uint16
    np.testing.assert_array_equal(lr[0, 3, inner, 1], wanted[inner])
    turned = ramp(72, 48).transpose(0, 2, 1, 3)
    _, lr = degrade.degrade(turned, scale, name)
    wanted = 100 * (scale * np.arange(48 // scale) + place)
    np.testing.assert_array_equal(lr[0, inner, 3, 1], wanted[inner])


def test_the_blur_rejects_a_kernel_without_a_middle() -> None:
    hr = scene(1, 16, 16)
    with pytest.raises(ValueError, match=r"an even number of taps, got sigma 1\.6 and 13"):
        blur_downsample(hr, 4, taps=13)
    with pytest.raises(ValueError, match="an odd number of taps"):
        blur_downsample(hr, 4, phase="zero", taps=12)
    with pytest.raises(ValueError, match="positive sigma"):
        blur_downsample(hr, 4, sigma=0, taps=12)


def test_area_is_opencvs_to_the_byte_for_integer_scales() -> None:
    for scale in (2, 3, 4, 5):
        hr = scene(2, 60, 120, seed=scale)
        for frame, ours in zip(hr, area(hr, scale), strict=True):
            size = (120 // scale, 60 // scale)
            theirs = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("scale", [1.5, 2.3, 3])
def test_area_is_opencvs_box_filter_for_any_size(scale: float) -> None:
    hr = scene(1, 47, 62)
    lr = area(hr, scale)
    assert lr.shape == (1, int(47 / scale), int(62 / scale), 3)
    theirs = cv2.resize(hr[0], lr.shape[2:0:-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(lr[0], theirs, atol=1)
    with pytest.raises(ValueError, match="area filter cannot enlarge"):
        area_resize(hr, 48, 62)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("antialias", [False, True])
def test_bilinear_is_torchs_with_and_without_antialiasing(scale: int, antialias: bool) -> None:
    hr = scene(1, 24, 36)
    image = torch.from_numpy(hr.transpose(0, 3, 1, 2).astype(np.float64))
    theirs = F.interpolate(image, (24 // scale, 36 // scale), mode="bilinear", antialias=antialias)
    ours = kernel_downsample(hr, scale, "bilinear", antialias)
    wanted = theirs.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, wanted, atol=0.5 + 1e-5, rtol=0)


def test_the_kernels_of_tensorflow_at_a_single_bright_pixel() -> None:
    hr = np.zeros((1, 6, 12, 3), np.uint16)
    hr[0, :, 4] = 60000  # column 4 is the middle of the second block of three
    edge = math.exp(-2)
    wanted: dict[Kernel, list[float]] = {
        "nearest": [0, 60000, 0, 0],
        "area": [0, 20000, 0, 0],
        "bilinear": [0, 60000, 0, 0],
        "gaussian": [0, round(60000 / (1 + 2 * edge)), 0, 0],
    }
    for kernel, line in wanted.items():
        lr = kernel_downsample(hr, 3, kernel)
        np.testing.assert_array_equal(lr[0, 1, :, 0], line, err_msg=kernel)
    hr = scene(1, 16, 24)
    np.testing.assert_array_equal(kernel_downsample(hr, 2, "nearest"), hr[:, 1::2, 1::2])
    np.testing.assert_array_equal(kernel_downsample(hr, 4, "nearest"), hr[:, 2::4, 2::4])
    for kernel in wanted:
        np.testing.assert_array_equal(kernel_downsample(hr, 1, kernel), hr)


def test_random_kernel_uses_one_kernel_for_the_complete_clip() -> None:
    hr = scene(3, 24, 24)
    kernels: tuple[Kernel, ...] = ("bilinear", "gaussian", "nearest", "area")
    for scale, different in ((3, 3), (4, 3)):  # two coincide, others at odd scales than at even
        known = {kernel_downsample(hr, scale, k).tobytes() for k in kernels}
        assert len(known) == different
        drawn = {
            degrade.degrade(hr, scale, "random-kernel", seed)[1].tobytes() for seed in range(40)
        }
        assert drawn == known


def test_an_uncropped_size_is_rejected() -> None:
    with pytest.raises(ValueError, match="30x22 do not divide by 4; crop them"):
        bicubic(scene(1, 22, 30), 4)
