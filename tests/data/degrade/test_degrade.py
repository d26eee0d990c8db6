"""degrade.py: each degradation is what its source defines, stated here a second time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from sharpreel.data import degrade
from sharpreel.data import degrade as d
from sharpreel.data.degrade import DEGRADATIONS, Degradation
from sharpreel.data.degrade.compression import CODERS, CodecName, compress, jpeg
from sharpreel.data.degrade.noise import gaussian_noise, poisson_noise, streaks
from sharpreel.data.degrade.realistic import _blur_kernels, _blurred, _walk
from sharpreel.data.degrade.realworld import CONDITIONS
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
from sharpreel.errors import UsageError

Clip = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def scene(frames: int, height: int, width: int, seed: int = 0) -> Clip:
    """Coloured clouds that drift, with an edge and some texture: (T, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((height, width + frames, 3))
    clouds = 24 * ndimage.gaussian_filter(noise, (7, 7, 0))
    clouds += 0.5 * ndimage.gaussian_filter(noise, (1, 1, 0))
    clouds[height // 3 : height // 2, width // 3 : width // 2] += 1.2
    levels = np.clip(np.rint(120 + 40 * clouds), 0, 255).astype(np.uint8)
    return np.stack([levels[:, t : t + width] for t in range(frames)])


def ramp(height: int, width: int) -> Clip:
    """A frame of uint16 that grows by 100 levels a pixel to the right: its values are places."""
    line = np.arange(width, dtype=np.uint16) * 100
    return np.broadcast_to(line[:, None], (1, height, width, 3)).copy()


def psnr(a: Clip, b: Clip) -> float:
    return 10 * math.log10(255**2 / float(np.mean((a.astype(np.float64) - b) ** 2)))


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
def test_lr_pixels_lie_where_the_definition_puts_them(name: str, scale: int, place: float) -> None:
    _, lr = degrade.degrade(ramp(48, 72), scale, name)
    wanted = 100 * (scale * np.arange(72 // scale) + place)
    inner = slice(4, -4)
    assert lr.dtype == np.uint16
    np.testing.assert_array_equal(lr[0, 3, inner, 1], wanted[inner])
    turned = ramp(72, 48).transpose(0, 2, 1, 3)
    _, lr = degrade.degrade(turned, scale, name)
    wanted = 100 * (scale * np.arange(48 // scale) + place)
    np.testing.assert_array_equal(lr[0, inner, 3, 1], wanted[inner])


def test_the_blur_refuses_a_kernel_that_has_no_middle() -> None:
    hr = scene(1, 16, 16)
    with pytest.raises(ValueError, match=r"an even number of taps, got sigma 1\.6 and 13"):
        blur_downsample(hr, 4, taps=13)
    with pytest.raises(ValueError, match="an odd number of taps"):
        blur_downsample(hr, 4, phase="zero", taps=12)
    with pytest.raises(ValueError, match="positive sigma"):
        blur_downsample(hr, 4, sigma=0, taps=12)


def test_area_is_opencvs_to_the_byte_for_whole_factors() -> None:
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
    with pytest.raises(ValueError, match="only shrinks"):
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


def test_random_kernel_takes_each_kernel_and_one_for_the_whole_clip() -> None:
    hr = scene(3, 24, 24)
    kernels: tuple[Kernel, ...] = ("bilinear", "gaussian", "nearest", "area")
    for scale, different in ((3, 3), (4, 3)):  # two coincide, others at odd scales than at even
        known = {kernel_downsample(hr, scale, k).tobytes() for k in kernels}
        assert len(known) == different
        drawn = {
            degrade.degrade(hr, scale, "random-kernel", seed)[1].tobytes() for seed in range(40)
        }
        assert drawn == known


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


def test_poisson_noise_grows_with_the_light() -> None:
    clip = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 25, 100, 144)])
    noisy = poisson_noise(clip, 0.5, np.random.default_rng(0)).astype(np.float64)
    np.testing.assert_allclose(noisy.std(axis=(1, 2, 3)), [0, 2.5, 5, 6], rtol=0.05)
    np.testing.assert_allclose(noisy.mean(axis=(1, 2, 3)), [0, 25, 100, 144], atol=0.2)
    grey = poisson_noise(clip, 1, np.random.default_rng(0), grey=True)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


@pytest.mark.parametrize("codec", list(CODERS))
def test_a_codec_keeps_count_size_and_colour_at_its_best(codec: CodecName) -> None:
    # Smooth in colour, so that subsampled chroma loses next to nothing.
    y, x = np.mgrid[:45, :71]
    frames = [np.stack([40 + 2.5 * x, 200 - 2 * y + t, 230 - 2.2 * x], axis=2) for t in range(7)]
    clip: Clip = np.stack(frames).astype(np.uint8)
    coded = compress(clip, codec, crf=CODERS[codec].crf[0])
    assert coded.shape == clip.shape
    assert coded.dtype == np.uint8
    change = coded.astype(np.float64) - clip
    np.testing.assert_allclose(change.mean(axis=(0, 1, 2)), 0, atol=0.5)
    # Red grows to the right and blue falls: chroma that moves would part the two.
    red, _, blue = change[:, 8:-8, 8:-8].mean(axis=(0, 1, 2))
    assert abs(red - blue) < 0.6
    assert psnr(coded, clip) > 40


def test_large_frames_go_through_bt709_and_keep_their_colours_too() -> None:
    y, x = np.mgrid[:32, :1280]
    frame = np.stack([x / 5.02, 255 - x / 5.02, 255 - 7 * y], axis=2).astype(np.uint8)
    coded = compress(np.stack([frame, frame]), "h264", crf=1)
    np.testing.assert_allclose((coded.astype(float) - frame).mean(axis=(0, 1, 2)), 0, atol=0.4)
    assert psnr(coded, np.stack([frame, frame])) > 40


@pytest.mark.parametrize("codec", list(CODERS))
def test_a_higher_crf_or_a_lower_bitrate_is_worse(codec: CodecName) -> None:
    clip = scene(6, 48, 64)
    best, worst = CODERS[codec].crf
    by_crf = [
        psnr(compress(clip, codec, crf=best + (worst - best) * part // 10), clip)
        for part in (1, 4, 8)
    ]
    assert by_crf == sorted(by_crf, reverse=True)
    assert by_crf[0] > by_crf[-1] + 3
    usual = psnr(compress(clip, codec), clip)
    assert by_crf[-1] < usual
    few, many = (psnr(compress(clip, codec, bitrate=b, rate=10), clip) for b in (8_000, 800_000))
    assert few < many


@pytest.mark.parametrize("codec", list(CODERS))
def test_a_codec_takes_one_tiny_frame_and_gives_the_same_bytes_each_time(
    codec: CodecName,
) -> None:
    tiny = scene(1, 3, 1)
    assert compress(tiny, codec).shape == tiny.shape
    clip = scene(5, 34, 50)
    once, again = compress(clip, codec, crf=20), compress(clip, codec, crf=20)
    np.testing.assert_array_equal(once, again)


def test_compress_says_what_it_does_not_take() -> None:
    clip = scene(1, 16, 16)
    with pytest.raises(ValueError, match="codec must be one of h264, hevc"):
        compress(clip, "theora")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mpeg4 takes crf 1 to 31, got 0"):
        compress(clip, "mpeg4", crf=0)
    with pytest.raises(ValueError, match="either crf or bitrate"):
        compress(clip, crf=20, bitrate=1000)
    with pytest.raises(ValueError, match="must be positive"):
        compress(clip, bitrate=0)
    with pytest.raises(ValueError, match="take 8 bits, got uint16"):
        compress(clip.astype(np.uint16))


def test_a_missing_encoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codecs_available", {"libx264"})
    with pytest.raises(UsageError, match="no encoder libx265"):
        compress(scene(1, 16, 16), "hevc")


@pytest.mark.parametrize("quality", [10, 30, 60, 95])
def test_jpeg_is_what_libjpeg_writes_and_reads(quality: int) -> None:
    clip = scene(2, 45, 70)
    ours = jpeg(clip, quality)
    theirs = []
    for frame in clip:
        done, file = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        read = cv2.imdecode(file, cv2.IMREAD_COLOR)
        assert read is not None
        theirs.append(read[..., ::-1])
    # libjpeg computes with integers: its DCT coefficients fall on the other side now and then.
    assert np.abs(ours.astype(float) - theirs).mean() < 1
    assert abs(psnr(ours, clip) - psnr(np.stack(theirs), clip)) < 0.1


def test_jpeg_takes_a_quality_for_each_frame() -> None:
    clip = scene(1, 32, 32).repeat(2, axis=0)
    both = jpeg(clip, np.array([15, 90]))
    np.testing.assert_array_equal(both[0], jpeg(clip[:1], 15)[0])
    np.testing.assert_array_equal(both[1], jpeg(clip[:1], 90)[0])
    with pytest.raises(ValueError, match="1 to 100, got 0"):
        jpeg(clip, 0)


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


def test_some_lines_jump() -> None:
    clip = np.full((1, 400, 200, 1), 128, np.uint8)
    noise = streaks(clip, np.random.default_rng(0), 10.0)[0, ..., 0].astype(np.float64)
    jumping = (np.abs(np.diff(noise, axis=1)).max(axis=1) > 15).mean()
    assert 0.02 < jumping < 0.12


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


def test_blurs_of_a_clip_are_normalised_and_change_slowly() -> None:
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


def test_real_damages_a_clip_in_many_ways_and_never_beyond_recognition() -> None:
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


FIXED = {"area", *CONDITIONS} - {"camera"}  # its noise is left to chance
ROWS = [
    pytest.param(row, scale, id=f"{row.name}-x{scale}")
    for row in DEGRADATIONS.values()
    for scale in (row.scales or (1, 2, 3, 4, 8))
]


@pytest.mark.parametrize(("row", "scale"), ROWS)
def test_every_row_gives_its_size_on_an_odd_clip_and_the_same_bytes_for_a_seed(
    row: Degradation, scale: int
) -> None:
    hr = scene(3, 45, 63)
    before = hr.copy()
    cropped, lr = degrade.degrade(hr, scale, row.name, (3, 1))
    assert cropped.shape == (3, 45 // scale * scale, 63 // scale * scale, 3)
    assert lr.shape == (3, 45 // scale, 63 // scale, 3)
    assert lr.dtype == np.uint8
    np.testing.assert_array_equal(degrade.degrade(hr, scale, row.name, (3, 1))[1], lr)
    np.testing.assert_array_equal(hr, before)
    assert not np.shares_memory(lr, hr)
    others = [degrade.degrade(hr, scale, row.name, seed)[1] for seed in range(8)]
    fixed = all(np.array_equal(other, others[0]) for other in others)
    # At scale 1 all kernels are the identity.
    assert fixed == (row.standard or row.name in FIXED or (row.name, scale) == ("random-kernel", 1))


def test_the_table_names_its_rows_and_marks_the_standards() -> None:
    names = ["bi", "bd", "bd-duf", "bd-tecogan", "area", "random-kernel", "bi-h264", "call"]
    assert list(DEGRADATIONS) == [*names, "real", "afm", "realistic", *CONDITIONS]
    assert all(name == row.name and row.summary for name, row in DEGRADATIONS.items())
    assert [r.name for r in DEGRADATIONS.values() if r.standard] == names[:4]
    assert all(name in (d.__doc__ or "") for name in DEGRADATIONS)


def test_degrade_is_bi_by_default() -> None:
    hr = scene(2, 22, 30)
    cropped, lr = degrade.degrade(hr, 4)
    np.testing.assert_array_equal(cropped, hr[:, :20, :28])
    np.testing.assert_array_equal(lr, bicubic(cropped, 4))


@pytest.mark.parametrize(("wrong", "near"), [("bicubic", "bi"), ("bd_duf", "bd-duf")])
def test_an_unknown_name_brings_the_nearest(wrong: str, near: str) -> None:
    told = rf"No degradation is called {wrong}\. Did you mean {near}\?"
    with pytest.raises(UsageError, match=told):
        degrade.degrade(scene(1, 16, 16), 4, wrong)


def test_a_scale_that_the_definition_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="'bd-tecogan' is defined for scales 2, 4, not 3"):
        degrade.degrade(scene(1, 16, 16), 3, "bd-tecogan")


BAD: list[tuple[Callable[[], Clip], int, str]] = [
    (lambda: scene(1, 16, 16)[0], 4, r"must be \(T, H, W, 3\).*got \(16, 16, 3\)"),
    (lambda: scene(1, 16, 16)[:0], 4, "at least one frame"),
    (lambda: scene(1, 16, 16)[..., :1], 4, "got .1, 16, 16, 1."),
    (lambda: scene(1, 16, 16).astype(np.float32), 4, "must be uint8 or uint16, got float32"),
    (lambda: scene(1, 16, 3), 4, "Frames of 3x16 are smaller than one lr pixel, which is 4x4"),
    (lambda: scene(1, 16, 16), 0, "whole number of at least 1, got 0"),
]


@pytest.mark.parametrize(("make", "scale", "words"), BAD)
def test_what_is_no_clip_of_frames_is_refused(
    make: Callable[[], Clip], scale: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        degrade.degrade(make(), scale)


def test_a_size_that_does_not_divide_is_for_the_crop() -> None:
    with pytest.raises(ValueError, match="30x22 do not divide by 4; cut them"):
        bicubic(scene(1, 22, 30), 4)
