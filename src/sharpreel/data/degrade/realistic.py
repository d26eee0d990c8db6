"""Chains of random degradations as in real videos: blur, resize, noise, JPEG, video codecs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.data.degrade.compression import CodecName, compress, jpeg
from sharpreel.data.degrade.noise import add_gaussian, add_poisson, gaussian_noise, streaks
from sharpreel.data.degrade.resample import (
    Clip,
    Floats,
    Taps,
    bicubic,
    box_taps,
    lr_size_of,
    resample_separable,
    sampled_taps,
    to_integers,
    triangle_kernel,
    validate_bytes,
)


def _walk(
    rng: np.random.Generator, low: float, high: float, step: float, count: int
) -> npt.NDArray[np.float64]:
    """A random walk of `count` values inside [low, high], in steps of at most `step`."""
    value = rng.uniform(low, high)
    values = [value]
    for change in rng.uniform(-step, step, count - 1):
        value = min(max(value + change, low), high)
        values.append(value)
    return np.array(values)


def _bessel_j1(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    tau = (np.arange(128) + 0.5) * np.pi / 128
    values: npt.NDArray[np.float64] = np.cos(tau - z[..., None] * np.sin(tau)).mean(axis=-1)
    return values


# Real-ESRGAN's blurs (shape, isotropic) and their probabilities in RealBasicVSR.
_BLURS = {
    ("gaussian", True): 0.405,
    ("gaussian", False): 0.225,
    ("generalised", True): 0.108,
    ("generalised", False): 0.027,
    ("plateau", True): 0.108,
    ("plateau", False): 0.027,
    ("sinc", True): 0.1,
}


def _blur_kernels(
    rng: np.random.Generator, count: int, sigma: float, only_sinc: bool = False
) -> Floats:
    """Random kernels for `count` frames, of one slowly changing shape, (count, k, k), k 7 to 21.

    Args:
        sigma: The largest, in pixels; the smallest is 0.2.
    """
    size = 7 + 2 * int(rng.integers(8))
    family, isotropic = list(_BLURS)[rng.choice(len(_BLURS), p=list(_BLURS.values()))]
    y, x = np.mgrid[:size, :size] - size // 2

    def walk(low: float, high: float, step: float) -> Floats:
        return _walk(rng, low, high, step, count).reshape(-1, 1, 1)

    if only_sinc or family == "sinc":
        omega = walk(np.pi / 3 if only_sinc or size < 13 else np.pi / 5, np.pi, 0.0628)
        radius = np.maximum(np.hypot(x, y), 1e-6)
        kernels = omega * _bessel_j1(omega * radius) / radius
    else:
        wide, narrow = walk(0.2, sigma, 0.02), walk(0.2, sigma, 0.02)
        angle = walk(-np.pi, np.pi, 0.314)
        along = (x * np.cos(angle) + y * np.sin(angle)) / wide
        across = (y * np.cos(angle) - x * np.sin(angle)) / (wide if isotropic else narrow)
        distance = along**2 + across**2
        if family == "generalised":
            kernels = np.exp(-(distance ** walk(0.5, 4, 0.05)) / 2)
        elif family == "plateau":
            kernels = 1 / (1 + distance ** walk(1, 2, 0.1))
        else:
            kernels = np.exp(-distance / 2)
    normalised: Floats = kernels / kernels.sum(axis=(1, 2), keepdims=True)
    return normalised


def _blurred(clip: Floats, kernels: Floats) -> Floats:
    """(T, H, W, 3) convolved with (T, k, k), reflected at the border."""
    _, h, w, _ = clip.shape
    size = kernels.shape[1]
    half = size // 2
    full = (h + 2 * half, w + 2 * half)
    out = np.empty_like(clip)
    for frame, kernel, blurred in zip(clip, kernels.astype(clip.dtype), out, strict=True):
        planes = np.pad(frame.transpose(2, 0, 1), ((0, 0), (half, half), (half, half)), "reflect")
        spectrum = np.fft.rfft2(planes) * np.fft.rfft2(kernel, full)
        valid = np.fft.irfft2(spectrum, full)[:, size - 1 :, size - 1 :]
        blurred[:] = valid.transpose(1, 2, 0)
    return out


def _resized(clip: Floats, height: int, width: int, rng: np.random.Generator) -> Floats:
    """Resize by a random kernel: bilinear (no antialiasing), area (shrinking only) or bicubic."""
    kernel = ("bilinear", "area", "bicubic")[rng.integers(3)]

    def taps(size_in: int, size_out: int) -> Taps:
        if kernel == "bicubic":
            return ops.resize_taps(size_in, size_out)
        if kernel == "area" and size_out < size_in:
            return box_taps(size_in, size_out)
        return sampled_taps(size_in, size_out, triangle_kernel, 1, antialias=False)

    rows, columns = taps(clip.shape[1], height), taps(clip.shape[2], width)
    return np.stack([resample_separable(frame, rows, columns) for frame in clip])


def _random_scale(
    rng: np.random.Generator, up: float, down: float, lowest: float, highest: float
) -> float:
    """A random scale: above 1 with probability `up`, below 1 with `down`, else 1."""
    draw = rng.random()
    if draw < up:
        return rng.uniform(1, highest)
    return rng.uniform(lowest, 1) if draw < up + down else 1.0


def _noisy_jpeg(
    clip: Floats, rng: np.random.Generator, sigma: float, strength: float
) -> npt.NDArray[np.float32]:
    """Gaussian or Poisson noise up to these, coloured or grey, then JPEG of quality 30 to 95."""
    t = len(clip)
    grey = rng.random() < 0.4
    if rng.random() < 0.5:
        clip = add_gaussian(clip, _walk(rng, 1, sigma, 0.1, t), rng, grey)
    else:
        clip = add_poisson(clip, _walk(rng, 0.05, strength, 0.005, t), rng, grey)
    quality = np.rint(_walk(rng, 30, 95, 3, t)).astype(int)
    return jpeg(to_integers(clip, np.uint8), quality).astype(np.float32)


def second_order(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """Degrade a clip as a life on the net does: blur, resize, noise and compression, twice.

    After Real-ESRGAN (Wang et al., ICCVW 2021) for the order and RealBasicVSR (Chan et al., CVPR
    2022; its configuration in MMagic) for ranges, probabilities and the slow drift of parameters
    over the frames: blur, resize, noise, JPEG; again around the size of lr; then, in either order,
    a video codec and the resize to lr with a sinc blur. What we changed: sizes are constant over
    the clip; the first round has no video codec; codecs are given a quality (H.264 CRF 18 to 38,
    VP8 30 to 63, MPEG-4 quantiser 2 to 12) and not a bitrate; the smallest intermediate size is
    0.6 times lr in the first round at every scale, which at 4 is the published 0.15; hr is not
    sharpened.

    Args:
        hr: (T, H, W, 3) uint8, of a size that divides by the scale.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    validate_bytes(hr)
    height, width = lr_size_of(hr, scale)
    t, h, w, _ = hr.shape

    def scaled(pixels: int, by: float) -> int:
        return max(round(pixels * by), 1)

    clip = _blurred(hr.astype(np.float32), _blur_kernels(rng, t, sigma=3))
    by = _random_scale(rng, up=0.2, down=0.7, lowest=min(0.6 / scale, 1), highest=1.5)
    clip = _resized(clip, scaled(h, by), scaled(w, by), rng)
    clip = _noisy_jpeg(clip, rng, sigma=30, strength=3)

    if rng.random() < 0.8:
        clip = _blurred(clip, _blur_kernels(rng, t, sigma=1.5))
    by = _random_scale(rng, up=0.3, down=0.4, lowest=0.3, highest=1.2)
    clip = _resized(clip, scaled(height, by), scaled(width, by), rng)
    clip = _noisy_jpeg(clip, rng, sigma=25, strength=2.5)

    codec, best, worst = _REAL_CODECS[rng.integers(len(_REAL_CODECS))]
    crf = int(rng.integers(best, worst + 1))
    codec_first, ringing = rng.random() < 0.5, rng.random() < 0.8
    if codec_first:
        clip = compress(to_integers(clip, np.uint8), codec, crf).astype(np.float32)
    clip = _resized(clip, height, width, rng)
    if ringing:
        clip = _blurred(clip, _blur_kernels(rng, t, sigma=1, only_sinc=True))
    lr = to_integers(clip, np.uint8)
    return lr if codec_first else compress(lr, codec, crf)


_REAL_CODECS: tuple[tuple[CodecName, int, int], ...] = (
    ("h264", 18, 38),
    ("vp8", 30, 63),
    ("mpeg4", 2, 12),
)


def bi_h264(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """Downscale by BI; on half of the clips followed by H.264 of CRF 15 to 35.

    After FTVSR (Qiu et al., "Learning Spatiotemporal Frequency-Transformer for Compressed Video
    Super-Resolution", ECCV 2022), which uses CRF 15, 25 and 35.
    """
    lr = bicubic(hr, scale)
    crf = int(rng.integers(15, 36))
    return compress(lr, "h264", crf) if rng.random() < 0.5 else lr


def call(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """Imitate a video call: BI, noise of sigma 0 to 4 levels, H.264 CRF 18 to 35 or VP8 30 to 63.

    VP8's 30 is about as good as H.264's 18; its worst, 63, is as good as 26 or 27.
    """
    lr = gaussian_noise(bicubic(hr, scale), rng.uniform(0, 4), rng)
    crf = int(rng.integers(18, 36))
    if rng.random() < 0.5:
        return compress(lr, "h264", crf)
    return compress(lr, "vp8", 30 + (crf - 18) * 33 // 17)


def afm(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """Downscale by BI (nothing at scale 1) and add `streaks` of strength 1 to 8."""
    return streaks(bicubic(hr, scale), rng, _walk(rng, 1, 8, 0.2, len(hr)))
