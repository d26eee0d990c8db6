"""Fidelity of a frame to a reference: PSNR, SSIM, MS-SSIM and QM, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.ops import Pixels

Region = tuple[slice, slice]  # rows, columns
STRIP = 64  # lines of a frame that SSIM processes at a time: they stay in the cache

Channel = Literal["y", "rgb"]
Window = Literal["matlab", "seven", "uniform"]
Plane = npt.NDArray[np.float64]  # (H, W), or several: (C, H, W)
PEAK = 255.0
K1, K2 = 0.01, 0.03  # of SSIM
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first


def is_constant(frame: Pixels) -> bool:
    """Whether the frame has one colour everywhere, as from a network that failed."""
    return bool((frame == frame[:1, :1]).all())


def validate_frames(*frames: Pixels) -> None:
    """Raise ValueError unless these are frames of one shape and type."""
    for frame in frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"A frame must be RGB, (H, W, 3), of uint8 or uint16, got {frame.dtype} of shape "
                f"{frame.shape}."
            )
    if len({frame.shape for frame in frames}) > 1:
        shapes = " and ".join(dict.fromkeys(str(frame.shape) for frame in frames))
        raise ValueError(f"sr and hr must have one shape, got {shapes}.")
    if len({frame.dtype for frame in frames}) > 1:
        types = " and ".join(dict.fromkeys(str(frame.dtype) for frame in frames))
        raise ValueError(f"sr and hr must have one type, got {types}.")


def grey_levels(frame: Pixels) -> Plane:
    """The frame in 8-bit levels, (H, W, 3), float64."""
    return frame.astype(np.float64) * (PEAK / np.iinfo(frame.dtype).max)


def channel_planes(frame: Pixels, channel: Channel, rounded: bool = False) -> Plane:
    """The planes that are compared, (1, H, W) or (3, H, W), in 8-bit levels."""
    match channel:
        case "y":
            planes = ops.luma(frame)[None]
        case "rgb":
            planes = np.ascontiguousarray(grey_levels(frame).transpose(2, 0, 1))
        case _:
            raise ValueError(f"channel must be y or rgb, got {channel!r}.")
    return np.rint(planes) if rounded else planes


def inner_region(height: int, width: int, crop_border: int) -> Region:
    """The rows and columns of a frame without `crop_border` pixels at each side."""
    if not 0 <= 2 * crop_border < min(height, width):
        raise ValueError(
            f"crop_border={crop_border} leaves nothing of a frame of {width}x{height}."
        )
    return slice(crop_border, height - crop_border), slice(crop_border, width - crop_border)


def psnr(
    sr: Pixels, hr: Pixels, channel: Channel = "y", crop_border: int = 0, rounded: bool = False
) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite for equal frames.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type.
        channel: "y" is BT.601 luma of studio range, 16 to 235, as in MATLAB's rgb2ycbcr; "rgb" is
            one mean squared error over the three colours.
        crop_border: Pixels skipped at each side.
        rounded: Round to integer levels before comparing. Papers of the BasicVSR and DUF lines do
            not round Y; the calculator in TecoGAN-PyTorch does.
    """
    validate_frames(sr, hr)
    region = inner_region(hr.shape[0], hr.shape[1], crop_border)
    a, b = (channel_planes(frame[region], channel, rounded) for frame in (sr, hr))
    return to_decibels(a, b)


def psnr_y(sr: Pixels, hr: Pixels, crop_border: int = 0) -> float:
    """PSNR on Y in dB, by protocol P1 (the BasicVSR line): BT.601 luma, not rounded, peak 255.

    Args:
        sr, hr: RGB, (H, W, 3), uint8 or uint16, of one size.
        crop_border: Pixels skipped at each side; P1 skips none.

    Returns:
        Decibels; infinite for equal frames.
    """
    return psnr(sr, hr, "y", crop_border)


def to_decibels(a: Plane, b: Plane, floor: float = 0.0) -> float:
    """PSNR; `floor` is added to the mean squared error of values in [0, 1]."""
    error = float(np.mean((a - b) ** 2)) / PEAK**2 + floor
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(
    sr: Pixels,
    hr: Pixels,
    channel: Channel = "y",
    crop_border: int = 0,
    window: Window = "matlab",
) -> float:
    """Structural similarity: 1 for equal frames, rarely below 0.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    TIP 2004. K = (.01, .03), L = 255, windows that are completely inside the frame; for "rgb" the
    mean of the three colours.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type.
        channel: See `psnr`.
        crop_border: Pixels skipped at each side.
        window: For means, variances and covariance.
            "matlab": Gaussian, 11 taps, sigma 1.5: Wang's ssim.m, BasicSR, most papers.
            "seven": Gaussian, 7 taps, sigma 1: piqa as "Temporal Super Resolution"
            (github.com/Dawid64/super-enhanced-resolution) calls it.
            "uniform": 7x7, equal weights, sample covariance: the defaults of scikit-image.
    """
    validate_frames(sr, hr)
    region = inner_region(hr.shape[0], hr.shape[1], crop_border)
    a, b = (channel_planes(frame[region], channel) for frame in (sr, hr))
    return mean_ssim(a, b, window, PEAK)


def ms_ssim(sr: Pixels, hr: Pixels, channel: Channel = "y") -> float:
    """SSIM at five scales.

    Wang, Simoncelli and Bovik, "Multiscale Structural Similarity for Image Quality Assessment",
    Asilomar 2003. The product of contrast and structure at each scale, and of luminance at the
    coarsest, to the powers .0448 .2856 .3001 .2363 .1333. Frames are halved by the mean of 2x2
    pixels, odd sides by repeating the last. A scale whose mean is negative counts as 0, as in
    torchmetrics.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type; sides of 176 pixels or more.
        channel: See `psnr`; for "rgb" the mean of the three colours.
    """
    validate_frames(sr, hr)
    smallest = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
    if min(hr.shape[:2]) < smallest:
        raise ValueError(
            f"MS-SSIM needs sides of {smallest} pixels or more, got {hr.shape[1]}x{hr.shape[0]}."
        )
    products = []
    for a, b in zip(channel_planes(sr, channel), channel_planes(hr, channel), strict=True):
        x, y, product = a, b, 1.0
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            full, contrast = _ssim_of_plane(x, y, "matlab", PEAK)
            coarsest = scale == len(MS_SSIM_WEIGHTS) - 1
            product *= max(full if coarsest else contrast, 0.0) ** weight
            x, y = _halved(x), _halved(y)
        products.append(product)
    return float(np.mean(products))


def _halved(plane: Plane) -> Plane:
    plane = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    total: Plane = plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]
    return total / 4


def gaussian_window(taps: int, sigma: float) -> tuple[float, ...]:
    """The weights of a Gaussian, normalised to sum 1."""
    x = np.arange(taps) - taps // 2
    weight = np.exp(-(x**2) / (2 * sigma**2))
    return tuple((weight / weight.sum()).tolist())


WINDOWS: dict[Window, tuple[float, ...]] = {
    "matlab": gaussian_window(11, 1.5),
    "seven": gaussian_window(7, 1.0),
    "uniform": (1 / 7,) * 7,
}


def correlate(image: Plane, taps: tuple[float, ...]) -> Plane:
    """The weighted sum of every full window, separable and symmetric, the same in both directions.

    Args:
        image: (H, W).
        taps: Odd in number.

    Returns:
        (H - len(taps) + 1, W - len(taps) + 1).
    """
    last = len(taps) - 1
    for _ in range(2):
        size = image.shape[0] - last
        out = taps[last // 2] * image[last // 2 : last // 2 + size]
        for k in range(last // 2):
            pair = image[k : k + size] + image[last - k : last - k + size]
            pair *= taps[k]
            out += pair
        image = out.T
    return image


def mean_ssim(a: Plane, b: Plane, window: Window, data_range: float) -> float:
    """The mean SSIM of planes, (C, H, W); NaN when `data_range` is 0."""
    if data_range == 0:
        return math.nan
    planes = [_ssim_of_plane(x, y, window, data_range)[0] for x, y in zip(a, b, strict=True)]
    return float(np.mean(planes))


def _ssim_of_plane(a: Plane, b: Plane, window: Window, data_range: float) -> tuple[float, float]:
    """Mean SSIM, and the mean of its contrast and structure term, of two (H, W)."""
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {', '.join(WINDOWS)}, got {window!r}.")
    taps = WINDOWS[window]
    height, width = a.shape
    if min(height, width) < len(taps):
        raise ValueError(
            f"SSIM's window of {len(taps)}x{len(taps)} does not fit into {width}x{height} pixels."
        )
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    points = len(taps) ** 2
    sample = points / (points - 1) if window == "uniform" else 1.0
    total, total_contrast = 0.0, 0.0
    for top in range(0, height - len(taps) + 1, STRIP):
        x, y = (plane[top : top + STRIP + len(taps) - 1] for plane in (a, b))
        mean_x, mean_y = correlate(x, taps), correlate(y, taps)
        product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
        covariance = sample * (correlate(x * y, taps) - product)
        variances = sample * (correlate(x * x + y * y, taps) - squares)
        contrast = (2 * covariance + c2) / (variances + c2)
        total += float(((2 * product + c1) / (squares + c1) * contrast).sum())
        total_contrast += float(contrast.sum())
    count = (height - len(taps) + 1) * (width - len(taps) + 1)
    return total / count, total_contrast / count


def qm(psnr: float, ssim: float) -> float:
    """The geometric mean of a clip's mean PSNR in dB and its mean SSIM.

    The quality measure of "Temporal Super Resolution" (Dawid64/super-enhanced-resolution). Its
    report defines it with DSSIM; the code behind its tables uses SSIM, as here. NaN for a negative
    SSIM.
    """
    return math.sqrt(psnr * ssim) if psnr * ssim >= 0 else math.nan


def score(edges: Sequence[float]) -> float:
    """The share of videos, 0 to 1, whose edge over bicubic is above zero; see `qm`.

    Args:
        edges: One for each video: QM of the network minus QM of bicubic.
    """
    if len(edges) == 0:
        raise ValueError("A score needs the edge of at least one video, got none.")
    return float(np.mean(np.asarray(edges) > 0))
