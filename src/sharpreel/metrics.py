"""How far a picture, or a video, is from the truth: pure functions of (sr, hr).

Frames are integer RGB, (H, W, 3), uint8 or uint16, full range of their type. All values are in
8-bit levels, whatever the type: a frame of 16 bits and its 8-bit twin score alike.

    one picture     psnr, ssim, ms_ssim, qm        against the truth
                    Niqe                           without it
    two in a row    tof_pair, warping_error, flicker; Motion, for several results
    a whole video   tof, vmaf
    joins           seam_in_space, seam_in_time, Seams
    as published    PROTOCOLS, measure             what a line of papers crops, rounds and skips

A number says little without its protocol: most differences between published tables are of colour
channel, border and frames left out. `measure` takes care of them.

Results may be infinite (equal pictures) or NaN (nothing to measure, as each function says); a black
picture can score well on a dark scene. `is_constant` finds those.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import subprocess
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.errors import InputError, MissingExtra, SharpreelError, UsageError
from sharpreel.ops import Frame

Channel = Literal["y", "rgb"]
Window = Literal["matlab", "seven", "uniform"]
Plane = npt.NDArray[np.float64]  # (H, W), or several: (C, H, W)
Region = tuple[slice, slice]  # rows, columns
Flow = npt.NDArray[np.float32]  # (H, W, 2)
Grey = npt.NDArray[np.uint8]  # (H, W)
GreyPair = tuple[Grey, Grey]  # two frames in a row
T = TypeVar("T")

PEAK = 255.0
K1, K2 = 0.01, 0.03  # of SSIM
STRIP = 64  # lines of a picture that SSIM works on at a time: they stay in the cache
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first
FLOW_SMALLEST = 16  # pixels; OpenCV's inverse search takes no smaller frames


def is_constant(frame: Frame) -> bool:
    """Whether the frame is of one colour all over, as a network that broke down paints it."""
    return bool((frame == frame[:1, :1]).all())


def _check(*frames: Frame) -> None:
    """Refuse what is no frame, and frames that cannot be compared with each other."""
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


def _levels(frame: Frame) -> Plane:
    """The frame in 8-bit levels, (H, W, 3), float64."""
    return frame.astype(np.float64) * (PEAK / np.iinfo(frame.dtype).max)


def _planes(frame: Frame, channel: Channel, rounded: bool = False) -> Plane:
    """What is compared, (1, H, W) or (3, H, W), in 8-bit levels."""
    match channel:
        case "y":
            planes = ops.luma(frame)[None]
        case "rgb":
            planes = np.ascontiguousarray(_levels(frame).transpose(2, 0, 1))
        case _:
            raise ValueError(f"Unknown channel {channel!r}; there are y and rgb.")
    return np.rint(planes) if rounded else planes


def _inner(height: int, width: int, crop_border: int) -> Region:
    if not 0 <= 2 * crop_border < min(height, width):
        raise ValueError(
            f"A border of {crop_border} pixels leaves nothing of a frame of {width}x{height}."
        )
    return slice(crop_border, height - crop_border), slice(crop_border, width - crop_border)


# One picture against the truth ---------------------------------------------------------------


def psnr(
    sr: Frame, hr: Frame, channel: Channel = "y", crop_border: int = 0, rounded: bool = False
) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite for equal pictures.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type.
        channel: "y" is BT.601 luma of studio range, 16 to 235, as in MATLAB's rgb2ycbcr; "rgb" is
            one mean squared error over the three colours.
        crop_border: Pixels left out at each side.
        rounded: Round to whole levels before comparing. Papers of the BasicVSR and DUF lines do
            not round Y; the calculator in TecoGAN-PyTorch does.
    """
    _check(sr, hr)
    region = _inner(hr.shape[0], hr.shape[1], crop_border)
    a, b = (_planes(frame[region], channel, rounded) for frame in (sr, hr))
    return _decibels(a, b)


def psnr_y(sr: Frame, hr: Frame, crop_border: int = 0) -> float:
    """PSNR on Y in dB, by protocol P1 (the BasicVSR line): BT.601 luma, not rounded, peak 255.

    Args:
        sr, hr: RGB, (H, W, 3), uint8 or uint16, of one size.
        crop_border: Pixels left out at each side; P1 leaves out none.

    Returns:
        Decibels; infinite for equal pictures.
    """
    return psnr(sr, hr, "y", crop_border)


def _decibels(a: Plane, b: Plane, floor: float = 0.0) -> float:
    """PSNR; `floor` is added to the mean squared error of values in [0, 1]."""
    error = float(np.mean((a - b) ** 2)) / PEAK**2 + floor
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(
    sr: Frame,
    hr: Frame,
    channel: Channel = "y",
    crop_border: int = 0,
    window: Window = "matlab",
) -> float:
    """Structural similarity (Wang et al., "Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE TIP 2004): 1 for equal pictures, rarely below 0.

    K = (.01, .03), L = 255, windows that lie wholly inside the picture; for "rgb" the mean of the
    three colours.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type.
        channel: See `psnr`.
        crop_border: Pixels left out at each side.
        window: Over what means, variances and covariance are taken.
            "matlab": Gaussian, 11 taps, sigma 1.5: Wang's ssim.m, BasicSR, most papers.
            "seven": Gaussian, 7 taps, sigma 1: piqa as "Temporal Super Resolution"
            (github.com/Dawid64/super-enhanced-resolution) calls it.
            "uniform": 7x7, all of one weight, sample covariance: the defaults of scikit-image.
    """
    _check(sr, hr)
    region = _inner(hr.shape[0], hr.shape[1], crop_border)
    a, b = (_planes(frame[region], channel) for frame in (sr, hr))
    return _mean_ssim(a, b, window, PEAK)


def ms_ssim(sr: Frame, hr: Frame, channel: Channel = "y") -> float:
    """SSIM at five scales (Wang, Simoncelli and Bovik, "Multiscale Structural Similarity for Image
    Quality Assessment", Asilomar 2003).

    The product of contrast and structure at each scale, and of luminance at the coarsest, to the
    powers .0448 .2856 .3001 .2363 .1333. Pictures are halved by the mean of 2x2 pixels, odd sides
    by repeating the last. A scale whose mean is negative counts as 0, as in torchmetrics.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type; sides of 176 pixels or more.
        channel: See `psnr`; for "rgb" the mean of the three colours.
    """
    _check(sr, hr)
    smallest = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
    if min(hr.shape[:2]) < smallest:
        raise ValueError(
            f"MS-SSIM needs sides of {smallest} pixels or more, got {hr.shape[1]}x{hr.shape[0]}."
        )
    products = []
    for a, b in zip(_planes(sr, channel), _planes(hr, channel), strict=True):
        x, y, product = a, b, 1.0
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            whole, contrast = _ssim_of_plane(x, y, "matlab", PEAK)
            coarsest = scale == len(MS_SSIM_WEIGHTS) - 1
            product *= max(whole if coarsest else contrast, 0.0) ** weight
            x, y = _halved(x), _halved(y)
        products.append(product)
    return float(np.mean(products))


def _halved(plane: Plane) -> Plane:
    plane = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    total: Plane = plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]
    return total / 4


def _gaussian(taps: int, sigma: float) -> tuple[float, ...]:
    x = np.arange(taps) - taps // 2
    weight = np.exp(-(x**2) / (2 * sigma**2))
    return tuple((weight / weight.sum()).tolist())


WINDOWS: dict[Window, tuple[float, ...]] = {
    "matlab": _gaussian(11, 1.5),
    "seven": _gaussian(7, 1.0),
    "uniform": (1 / 7,) * 7,
}


def _correlated(image: Plane, taps: tuple[float, ...]) -> Plane:
    """Every full window's weighted sum, of a window that is symmetric and the same both ways.

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


def _mean_ssim(a: Plane, b: Plane, window: Window, data_range: float) -> float:
    if data_range == 0:
        return math.nan
    planes = [_ssim_of_plane(x, y, window, data_range)[0] for x, y in zip(a, b, strict=True)]
    return float(np.mean(planes))


def _ssim_of_plane(a: Plane, b: Plane, window: Window, data_range: float) -> tuple[float, float]:
    """Mean SSIM, and the mean of its factor of contrast and structure, of two (H, W)."""
    if window not in WINDOWS:
        raise ValueError(f"Unknown window {window!r}; there are {', '.join(WINDOWS)}.")
    taps = WINDOWS[window]
    height, width = a.shape
    if min(height, width) < len(taps):
        raise ValueError(
            f"SSIM's window of {len(taps)}x{len(taps)} does not fit into {width}x{height} pixels."
        )
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    points = len(taps) ** 2
    sample = points / (points - 1) if window == "uniform" else 1.0
    wholes, contrasts = 0.0, 0.0
    for top in range(0, height - len(taps) + 1, STRIP):
        x, y = (plane[top : top + STRIP + len(taps) - 1] for plane in (a, b))
        mean_x, mean_y = _correlated(x, taps), _correlated(y, taps)
        product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
        covariance = sample * (_correlated(x * y, taps) - product)
        variances = sample * (_correlated(x * x + y * y, taps) - squares)
        contrast = (2 * covariance + c2) / (variances + c2)
        whole = (2 * product + c1) / (squares + c1) * contrast
        wholes += float(whole.sum())
        contrasts += float(contrast.sum())
    count = (height - len(taps) + 1) * (width - len(taps) + 1)
    return wholes / count, contrasts / count


def qm(psnr: float, ssim: float) -> float:
    """The quality measure of "Temporal Super Resolution" (Dawid64/super-enhanced-resolution): the
    geometric mean of a clip's mean PSNR in dB and its mean SSIM.

    The report writes it with DSSIM; the code that made its tables takes SSIM, as here. NaN for a
    negative SSIM.
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


# One picture without the truth: NIQE ---------------------------------------------------------

BLOCK = 96  # pixels
FEATURES = 36  # 18 at each of two scales
NIQE_WINDOW = _gaussian(7, 7 / 6)


@dataclass(frozen=True, eq=False)
class Niqe:
    """The natural image quality evaluator: how far a picture's statistics are from those of good
    pictures. Lower is better.

    Paper: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer",
    IEEE SPL 2013. The features follow the authors' MATLAB release: locally normalised luma in
    blocks of 96x96 pixels, and of 48x48 of the picture halved by bicubic; in each block an
    asymmetric generalised Gaussian is fitted to the values and to the products of neighbours in
    four directions. What we changed: luma is BT.601 Y of studio range, as in BasicSR, where the
    release takes rgb2gray.

    Values depend on the pictures that the model was fitted on. The published model is not part of
    sharpreel: numbers of a model that you fitted (`fit`) can be compared with each other, but NOT
    with published NIQE, nor with those of another set of pictures.

        model = Niqe.fit(sharp_photographs)
        model.save("niqe.npz")
        Niqe.load("niqe.npz")(frame)

    Args:
        mean: Of the features of good pictures, (36,).
        covariance: Likewise, (36, 36).
    """

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = (self.mean.shape, self.covariance.shape)
        if shapes != ((FEATURES,), (FEATURES, FEATURES)):
            raise ValueError(
                f"NIQE has {FEATURES} features: mean and covariance must be of shape "
                f"({FEATURES},) and ({FEATURES}, {FEATURES}), got {shapes[0]} and {shapes[1]}."
            )

    @classmethod
    def fit(cls, frames: Iterable[Frame], sharpness: float = 0.75) -> Niqe:
        """The model of these pictures, which should be many, sharp, and free of noise and coding.

        Args:
            frames: RGB, (H, W, 3), sides of 96 pixels or more; they are taken one by one.
            sharpness: Only blocks count whose mean local deviation is above this share of the
                sharpest block's in their picture; blurred background is no example. The paper's
                .75 leaves few: with less than some dozens of pictures give less.
        """
        chosen = []
        for frame in frames:
            features, deviation = _niqe_features(frame)
            chosen.append(features[deviation > sharpness * deviation.max()])
        blocks = _complete(np.concatenate(chosen)) if chosen else np.empty((0, FEATURES))
        if len(blocks) < 2:
            raise ValueError(
                f"Only {len(blocks)} blocks of {BLOCK}x{BLOCK} pixels are sharp enough to fit "
                "NIQE on; give more pictures, some hundred blocks are a good number."
            )
        return cls(blocks.mean(axis=0), np.cov(blocks, rowvar=False))

    def save(self, path: str | Path) -> None:
        """Write the model as an .npz file."""
        with open(path, "wb") as file:
            np.savez(file, mean=self.mean, covariance=self.covariance)

    @classmethod
    def load(cls, path: str | Path) -> Niqe:
        """The model that `save` wrote.

        Raises:
            InputError: No such file, or not a NIQE model.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(*(arrays[name].astype(np.float64) for name in ("mean", "covariance")))
        except OSError as e:
            raise InputError(f"{path}: cannot be read ({e.strerror or e}).") from e
        except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as e:
            raise InputError(
                f"{path}: is not a NIQE model ({e}). Make one with Niqe.fit and save."
            ) from e

    def __call__(self, frame: Frame) -> float:
        """The distance of a picture from the model; NaN when fewer than two blocks of it hold
        anything but flat colour.

        Args:
            frame: RGB, (H, W, 3), of at least two blocks of 96x96 pixels. What is left at the
                bottom and the right of whole blocks is not looked at.
        """
        features = _niqe_features(frame)[0]
        if len(features) < 2:
            raise ValueError(
                f"NIQE needs two blocks of {BLOCK}x{BLOCK} pixels, got "
                f"{frame.shape[1]}x{frame.shape[0]}."
            )
        whole = _complete(features)
        if len(whole) < 2:
            return math.nan
        offset = self.mean - np.nanmean(features, axis=0)
        spread = (self.covariance + np.cov(whole, rowvar=False)) / 2
        return math.sqrt(max(float(offset @ np.linalg.pinv(spread) @ offset), 0.0))


def _complete(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The blocks of which every feature is a number; a flat block has none."""
    return features[np.isfinite(features).all(axis=1)]


def _niqe_features(frame: Frame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of N blocks the 36 features, (N, 36), and the mean local deviation, (N,)."""
    _check(frame)
    height, width = (side // BLOCK * BLOCK for side in frame.shape[:2])
    if not (height and width):
        raise ValueError(
            f"NIQE needs sides of {BLOCK} pixels or more, got {frame.shape[1]}x{frame.shape[0]}."
        )
    luma = ops.luma(frame[:height, :width])
    half = ops.resize_matrix(height, height // 2) @ luma @ ops.resize_matrix(width, width // 2).T
    scales, deviations = [], []
    for image, block in ((luma, BLOCK), (half, BLOCK // 2)):
        wide = np.pad(image, len(NIQE_WINDOW) // 2, mode="edge")
        local = _correlated(wide, NIQE_WINDOW)
        deviation = np.sqrt(np.abs(_correlated(wide * wide, NIQE_WINDOW) - local * local))
        scales.append(_block_features(_blocks((image - local) / (deviation + 1), block)))
        deviations.append(_blocks(deviation, block).mean(axis=(1, 2)))
    return np.concatenate(scales, axis=1), deviations[0]


def _blocks(image: Plane, size: int) -> Plane:
    """(H, W) -> (N, size, size), line by line."""
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).swapaxes(1, 2).reshape(-1, size, size)


def _block_features(blocks: Plane) -> npt.NDArray[np.float64]:
    """(N, size, size) of locally normalised luma -> (N, 18)."""
    shape, left, right, _ = _asymmetric_fit(blocks)
    columns = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right, ratio = _asymmetric_fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        columns += [shape, (right - left) * ratio, left, right]
    return np.stack(columns, axis=1)


@lru_cache(maxsize=1)
def _gamma_table() -> tuple[npt.NDArray[np.float64], ...]:
    """Shapes a from .2 to 10, G(2/a)^2 / (G(1/a) G(3/a)), which grows with a, sqrt(G(1/a)/G(3/a))
    and G(2/a)/G(1/a), where G is the gamma function."""
    shapes = 0.2 + 0.001 * np.arange(9801, dtype=np.float64)
    one, two, three = (np.array([math.lgamma(n / a) for a in shapes]) for n in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)


def _asymmetric_fit(blocks: Plane) -> tuple[npt.NDArray[np.float64], ...]:
    """Asymmetric generalised Gaussians by their moments (Lasmar et al., ICIP 2009).

    Args:
        blocks: (N, h, w).

    Returns:
        Shape, left and right scale, and G(2/shape)/G(1/shape), each (N,); NaN for a block without
        values on both sides of zero.
    """
    values = blocks.reshape(len(blocks), -1)
    squares = values**2
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (
            np.sqrt((squares * side).sum(axis=1) / side.sum(axis=1))
            for side in (values < 0, values > 0)
        )
        skew = left / right
        peaked = np.abs(values).mean(axis=1) ** 2 / squares.mean(axis=1)
        wanted = peaked * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, moments, scale, ratio = _gamma_table()
    above = np.searchsorted(moments, wanted).clip(1, len(moments) - 1)
    nearest = above - (wanted - moments[above - 1] <= moments[above] - wanted)
    known = np.where(np.isfinite(wanted), 1.0, np.nan)
    factor = scale[nearest] * known
    return shapes[nearest] * known, left * factor, right * factor, ratio[nearest] * known


# Frames in a row -----------------------------------------------------------------------------


def _opencv() -> ModuleType:
    try:
        return importlib.import_module("cv2")
    except ImportError as e:
        raise MissingExtra("Measuring motion (OpenCV)", "torch") from e


def _grey(frame: Frame) -> Grey:
    """OpenCV's grey of a frame, as every measure of motion takes it."""
    cv2 = _opencv()
    bytes_ = frame if frame.dtype == np.uint8 else np.rint(_levels(frame)).astype(np.uint8)
    grey: Grey = cv2.cvtColor(np.ascontiguousarray(bytes_), cv2.COLOR_RGB2GRAY)
    return grey


class Motion:
    """What moves from one frame of the truth to the next, and how results follow it.

    The truth's flows take most of the time and are found once, when first needed, for any number
    of results: `tof`, `warping_error` and `flicker` are those of the functions of these names.

    Args:
        hr_prev, hr_next: RGB, (H, W, 3), of one shape and type.
    """

    def __init__(self, hr_prev: Frame, hr_next: Frame) -> None:
        _check(hr_prev, hr_next)
        self.hr_prev, self.hr_next = hr_prev, hr_next

    @cached_property
    def _greys(self) -> GreyPair:
        return _grey(self.hr_prev), _grey(self.hr_next)

    @cached_property
    def _flow(self) -> Flow:
        return _farneback(*self._greys)

    @cached_property
    def _still(self) -> Plane:
        """By how many levels each pixel changes in the colour that changes most, (H, W)."""
        change: Plane = np.abs(_levels(self.hr_next) - _levels(self.hr_prev)).max(axis=2)
        return change

    @cached_property
    def _samples(self) -> tuple[npt.NDArray[np.bool_], _Samples]:
        """The pixels that are seen in both frames, (H, W), and where they are in the next one."""
        cv2 = _opencv()
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)
        forward, backward = (
            search.calc(*pair, None).astype(np.float64) for pair in (self._greys, self._greys[::-1])
        )
        seen = _seen_in_both(forward, backward)
        x, y = _targets(forward)
        return seen, _Samples(x[seen], y[seen], seen.shape)

    def tof(self, sr_prev: Frame, sr_next: Frame, protocol: Protocol | None = None) -> float:
        _check(sr_prev, sr_next, self.hr_next)
        difference = (_farneback(_grey(sr_prev), _grey(sr_next)) - self._flow).astype(np.float64)
        if protocol is not None:
            difference = difference[protocol.region(difference.shape[0], difference.shape[1])]
        return float(np.mean(np.hypot(difference[..., 0], difference[..., 1])))

    def warping_error(self, sr_prev: Frame, sr_next: Frame) -> float:
        _check(sr_prev, sr_next, self.hr_next)
        if min(sr_next.shape[:2]) < FLOW_SMALLEST:
            raise ValueError(
                f"Warping needs sides of {FLOW_SMALLEST} pixels or more, got "
                f"{sr_next.shape[1]}x{sr_next.shape[0]}."
            )
        seen, samples = self._samples
        if not seen.any():
            return math.nan
        difference = (samples.of(_levels(sr_next)) - _levels(sr_prev)[seen]) / PEAK
        return float(np.mean(difference**2))

    def flicker(self, sr_prev: Frame, sr_next: Frame, still: float = 1.0) -> float:
        _check(sr_prev, sr_next, self.hr_next)
        static = self._still <= still
        if not static.any():
            return math.nan
        return float(np.mean(np.abs(_levels(sr_next) - _levels(sr_prev))[static]))


def tof_pair(
    sr_prev: Frame,
    sr_next: Frame,
    hr_prev: Frame,
    hr_next: Frame,
    protocol: Protocol | None = None,
) -> float:
    """How much the motion from one frame to the next differs from the truth's, in pixels.

    tOF of TecoGAN (Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based
    Video Generation", SIGGRAPH 2020; github.com/thunil/TecoGAN, metrics.py): the mean distance
    between the two optical flows, which are Farneback's on grey with levels .5 and 3, window 15, 3
    iterations, polynomials 5 and 1.2. Lower is better.

    Args:
        sr_prev, sr_next, hr_prev, hr_next: RGB, (H, W, 3), of one shape and type.
        protocol: Whose border is left out of the mean: "P3" is TecoGAN's. None: all pixels count.
    """
    return Motion(hr_prev, hr_next).tof(sr_prev, sr_next, protocol)


def _farneback(before: Grey, after: Grey) -> Flow:
    flow: Flow = _opencv().calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    return flow


def tof(
    sr_frames: Iterable[Frame], hr_frames: Iterable[Frame], protocol: Protocol | None = None
) -> float:
    """The mean of `tof_pair` over a video, in pixels; the frames are taken one by one.

    Args:
        sr_frames, hr_frames: Equally many RGB frames, (H, W, 3), two or more.
        protocol: Whose border and whose first and last frames are left out: "P3" is TecoGAN's.
    """
    pairs = _paired(sr_frames, hr_frames)
    if protocol is not None:
        pairs = protocol.select(pairs)
    total, count = 0.0, 0
    before: tuple[Frame, Frame] | None = None
    for sr, hr in pairs:
        _check(sr, hr)
        if before is not None:
            total += tof_pair(before[0], sr, before[1], hr, protocol)
            count += 1
        before = sr, hr
    if not count:
        raise ValueError("tOF needs two frames or more that are not left out by the protocol.")
    return total / count


def _paired(
    sr_frames: Iterable[Frame], hr_frames: Iterable[Frame]
) -> Iterator[tuple[Frame, Frame]]:
    for index, (sr, hr) in enumerate(zip_longest(sr_frames, hr_frames)):
        if sr is None or hr is None:
            shorter = "sr" if sr is None else "hr"
            raise ValueError(
                f"sr and hr must have equally many frames, but {shorter} ends after {index}."
            )
        yield sr, hr


def warping_error(sr_prev: Frame, sr_next: Frame, hr_prev: Frame, hr_next: Frame) -> float:
    """How much a point changes its colour from one frame to the next, along the truth's motion.

    Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018
    (github.com/phoenix104104/fast_blind_video_consistency, evaluate_WarpError.py): the next frame
    is brought onto the previous one, and the mean squared difference is taken over the pixels
    that are seen in both. With f the flow from previous to next, and b the flow back, sampled
    where f points, a pixel is hidden in the next frame when

        |f + b|^2 > .01 (|f|^2 + |b|^2) + .5     the way back leads elsewhere, or
        |grad f|^2 > .01 |f|^2 + .002            it lies on a border between motions.

    What we changed: the flow is OpenCV's inverse search (preset medium, down to the finest scale)
    between the true frames, which spares the weights of FlowNet2; and pixels that leave the frame
    count as hidden, too.

    Args:
        sr_prev, sr_next, hr_prev, hr_next: RGB, (H, W, 3), of one shape and type, sides of 16
            pixels or more. A soft video changes less than a sharp one and so has less error than
            the truth itself, whose error is that of hr in the place of sr: quote both.

    Returns:
        Mean over pixels and colours, of values in [0, 1]; 1e-3 is a common unit. NaN when no pixel
        is seen in both frames, as after a cut.
    """
    return Motion(hr_prev, hr_next).warping_error(sr_prev, sr_next)


def _seen_in_both(forward: Plane, backward: Plane) -> npt.NDArray[np.bool_]:
    """Which pixels of the first frame the second one shows, (H, W); flows are (H, W, 2)."""
    h, w = forward.shape[:2]
    x, y = _targets(forward)
    returned = _Samples(x, y, (h, w)).of(backward)
    length = (forward**2).sum(axis=2)
    astray = ((forward + returned) ** 2).sum(axis=2)
    elsewhere = astray > 0.01 * (length + (returned**2).sum(axis=2)) + 0.5
    slope = np.zeros((h, w))
    slope[:, :-1] += (np.diff(forward, axis=1) ** 2).sum(axis=2)
    slope[:-1] += (np.diff(forward, axis=0) ** 2).sum(axis=2)
    border = slope > 0.01 * length + 0.002
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    seen: npt.NDArray[np.bool_] = inside & ~elsewhere & ~border
    return seen


def _targets(flow: Plane) -> tuple[Plane, Plane]:
    """Where each pixel goes: x and y, (H, W), of a flow (H, W, 2)."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    return x + flow[..., 0], y + flow[..., 1]


class _Samples:
    """Places in a picture between its pixels; the edge goes on outside.

    Args:
        x, y: Of one shape.
        size: Height and width of the picture.
    """

    def __init__(self, x: Plane, y: Plane, size: tuple[int, ...]) -> None:
        h, w = size
        x, y = x.clip(0, w - 1), y.clip(0, h - 1)
        self._left, self._top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
        self._right = np.minimum(self._left + 1, w - 1)
        self._bottom = np.minimum(self._top + 1, h - 1)
        self._across, self._down = (x - self._left)[..., None], (y - self._top)[..., None]

    def of(self, image: Plane) -> Plane:
        """Bilinear samples of (H, W, C), (..., C)."""
        upper, lower = (
            image[line, self._left] * (1 - self._across) + image[line, self._right] * self._across
            for line in (self._top, self._bottom)
        )
        samples: Plane = upper * (1 - self._down) + lower * self._down
        return samples


def flicker(
    sr_prev: Frame, sr_next: Frame, hr_prev: Frame, hr_next: Frame, still: float = 1.0
) -> float:
    """How much sr changes where the truth stands still: mean absolute change, in 8-bit levels.

    Args:
        sr_prev, sr_next, hr_prev, hr_next: RGB, (H, W, 3), of one shape and type.
        still: The truth stands still where none of its colours changes by more than this many
            levels. Flat parts of moving things stand still, too.

    Returns:
        Mean over pixels and colours; NaN when nothing stands still.
    """
    return Motion(hr_prev, hr_next).flicker(sr_prev, sr_next, still)


# Joins ---------------------------------------------------------------------------------------


def seam_in_time(
    sr_frames: Sequence[Frame],
    position: int,
    hr_frames: Sequence[Frame] | None = None,
    reach: int = 4,
) -> float:
    """How much the step over the border of two segments stands out from the steps around it.

    step(t) is the mean absolute difference of frames t - 1 and t. Returned is step(position)
    divided by the median of the steps up to `reach` frames away: 1.0 does not stand out, 2.0 is a
    jump twice the usual, and below 1.0 is smoother than usual. With the truth, steps are those of
    the error sr - hr, so that what really happens there does not count; without it, a scene cut at
    the border looks like a seam.

    Args:
        sr_frames: RGB, (H, W, 3), in order; only those near the border are looked at.
        position: Index of the first frame of the later segment.
        hr_frames: The truth of each frame.
        reach: Steps looked at on each side.

    Returns:
        1.0 also when nothing moves at all; infinite when only the border does.
    """
    count = len(sr_frames)
    if hr_frames is not None and len(hr_frames) != count:
        raise ValueError(
            f"sr and hr must have equally many frames, got {count} and {len(hr_frames)}."
        )
    around = [t for t in range(position - reach, position + reach + 1) if 1 <= t < count]
    if position not in around or len(around) < 2:
        raise ValueError(
            f"A border at {position} has no steps on it and around it in {count} frames."
        )

    steps = {}
    for t in around:
        truth = None if hr_frames is None else (hr_frames[t - 1], hr_frames[t])
        steps[t] = step(sr_frames[t - 1], sr_frames[t], truth)
    return standing_out(steps, position, reach)


def step(sr_prev: Frame, sr_next: Frame, hr: tuple[Frame, Frame] | None = None) -> float:
    """Mean absolute difference of two frames, or of their errors where the truth is known."""
    before, after = hr or (None, None)
    return float(np.mean(np.abs(_picture(sr_next, after) - _picture(sr_prev, before))))


def standing_out(steps: Mapping[int, float], position: int, reach: int = 4) -> float:
    """The step to frame `position` by the median of those up to `reach` frames away.

    Args:
        steps: By the later frame of each; see `seam_in_time`.

    Returns:
        NaN when there is no such step, or none beside it.
    """
    around = [steps[t] for t in range(position - reach, position + reach + 1)
              if t != position and t in steps]  # fmt: skip
    if position not in steps or not around:
        return math.nan
    return _ratio(steps[position], around)


def seam_in_space(
    sr: Frame,
    position: int,
    axis: Literal[0, 1],
    hr: Frame | None = None,
    reach: int = 8,
) -> float:
    """How much the line where two tiles meet stands out from the lines beside it.

    bend(p) is the mean absolute second difference |x[p-1] - 2 x[p] + x[p+1]| of all pixels of line
    p, across the line. The border lies between lines position - 1 and position; its bend is the
    mean of those two, and is divided by the median of the same for the borders next to it, from 2
    to reach + 1 lines away: 1.0 does not stand out, 2.0 is an edge twice as sharp as usual there.
    With the truth it is the error sr - hr that is looked at, so that a real edge does not count.

        position = 4:  0   1   2   3 | 4   5   6   7
        bends                      *   *

    Args:
        sr: RGB, (H, W, 3).
        position: Index of the first row (column) of the second tile; 2 to size - 2.
        axis: 0 when the tiles lie one below the other, 1 when side by side.
        hr: The truth.
        reach: Borders looked at on each side.

    Returns:
        1.0 also when nothing bends at all; infinite when only the border does.
    """
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 (tiles one below the other) or 1, got {axis}.")
    lines = sr.shape[axis]
    if not 2 <= position <= lines - 2:
        raise ValueError(f"A border at {position} is not inside {lines} lines: 2 to {lines - 2}.")
    first, last = max(position - reach - 1, 2), min(position + reach + 1, lines - 2)
    near = (slice(None),) * axis + (slice(first - 2, last + 2),)
    picture = np.moveaxis(_picture(sr[near], None if hr is None else hr[near]), axis, 0)
    bends = np.abs(np.diff(picture, n=2, axis=0)).mean(axis=(1, 2))  # of lines first - 1 to last
    borders = {p: (bends[p - first] + bends[p - first + 1]) / 2 for p in range(first, last + 1)}
    usual = [float(bend) for p, bend in borders.items() if abs(p - position) >= 2]
    if not usual:
        raise ValueError(f"There is no line beside {position} to compare with in {lines} lines.")
    return _ratio(float(borders[position]), usual)


def _picture(sr: Frame, hr: Frame | None) -> Plane:
    """The frame, or its error when the truth is known, (H, W, 3), in levels."""
    if hr is None:
        _check(sr)
        return _levels(sr)
    _check(sr, hr)
    return _levels(sr) - _levels(hr)


def _ratio(value: float, others: list[float]) -> float:
    usual = float(np.median(others))
    if usual == 0:
        return 1.0 if value == 0 else math.inf
    return value / usual


SEAM = re.compile(r"([txy])(\d+)(\+?)")


@dataclass(frozen=True)
class Seams:
    """Where joins may show: t, the first frame of a later segment; x and y, the first column and
    row of a later tile, in pixels of the result.

    Args:
        text: As `--seams` takes it: "t48+,x640" is every 48th frame and column 640.
        places: "t", "x" or "y", the number, and whether its multiples are meant.
    """

    text: str
    places: tuple[tuple[str, int, bool], ...]

    @classmethod
    def parse(cls, text: str) -> Seams:
        """What the words, between commas, mean.

        Raises:
            UsageError: One of them means nothing.
        """
        places = []
        for word in text.split(","):
            match = SEAM.fullmatch(word.strip())
            if match is None or int(match[2]) == 0:
                raise UsageError(
                    f"Seams {text!r}: {word.strip()!r} is no place. Write t48 for the join before "
                    "frame 48, x640 or y360 for that before a column or row, t48+ for every 48."
                )
            places.append((match[1], int(match[2]), bool(match[3])))
        return cls(text, tuple(places))

    def has(self, axis: Literal["t", "x", "y"]) -> bool:
        return any(kind == axis for kind, *_ in self.places)

    def on(self, axis: Literal["t", "x", "y"], length: int) -> list[int]:
        """The places on an axis; of multiples, those that leave two lines or frames at each end."""
        found: set[int] = set()
        for kind, number, often in self.places:
            if kind == axis:
                found.update(range(number, length - 1, number) if often else [number])
        return sorted(found)


# Files ---------------------------------------------------------------------------------------


def vmaf(sr_path: str | Path, hr_path: str | Path, threads: int | None = None) -> dict[str, float]:
    """VMAF of a video file against its truth, 0 to 100: means over its frames.

    Netflix's models vmaf_v0.6.1 ("vmaf") and vmaf_v0.6.1neg ("vmaf_neg"), by the static FFmpeg of
    imageio-ffmpeg. Quote NEG for super-resolution: plain VMAF rewards sharpening, whether or not
    the detail is true. Both models were made for 1080p watched from three heights away, and equal
    files score a little under 100. Another release of FFmpeg may give slightly other numbers.

    Frames are compared in order, whatever their timestamps, as they are stored: rotation is not
    applied.

    Args:
        sr_path, hr_path: Videos of one size and equally many frames.
        threads: Of the comparison; None: one for each processor.

    Raises:
        MissingExtra: imageio-ffmpeg is not installed.
        UsageError: Sizes or numbers of frames differ.
        InputError: A file that is missing or no video.
    """
    from sharpreel import video

    try:
        command: str = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError) as e:
        raise MissingExtra("VMAF (imageio-ffmpeg)", "train") from e
    sr, hr = video.probe(sr_path), video.probe(hr_path)
    if (sr.width, sr.height) != (hr.width, hr.height):
        raise UsageError(
            f"VMAF compares videos of one size, but {sr_path} is {sr.width}x{sr.height} and "
            f"{hr_path} is {hr.width}x{hr.height}."
        )
    counts = [_count_frames(path) for path in (sr_path, hr_path)]
    if counts[0] != counts[1]:
        raise UsageError(
            f"VMAF compares frame by frame, but {sr_path} has {counts[0]} frames and {hr_path} "
            f"has {counts[1]}."
        )
    # settb and setpts number the frames, so that the two files cannot slip against each other.
    pix_fmt = "yuv420p10le" if max(sr.bits, hr.bits) > 8 else "yuv420p"
    streams = "".join(
        f"[{k}:{info.stream_index}]settb=1/25,setpts=N,format={pix_fmt}[{name}];"
        for k, (name, info) in enumerate((("sr", sr), ("hr", hr)))
    )
    models = r"version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=vmaf_neg"
    settings = f"n_threads={threads or video.usable_cpus()}:log_fmt=json:log_path=vmaf.json"
    graph = f"{streams}[sr][hr]libvmaf=model='{models}':{settings}"
    inputs = [
        word
        for path in (sr_path, hr_path)
        for word in ("-noautorotate", "-i", f"file:{Path(path).resolve()}")
    ]
    options = ["-hide_banner", "-nostdin", "-v", "error"]
    with tempfile.TemporaryDirectory() as folder:  # the log's name needs no quoting there
        done = subprocess.run(
            [command, *options, *inputs, "-filter_complex", graph, "-f", "null", "-"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        log = Path(folder) / "vmaf.json"
        if done.returncode or not log.exists():
            words = done.stderr.decode(errors="replace").strip().splitlines()
            if any("libvmaf" in line and "No such filter" in line for line in words):
                raise UsageError(
                    f"{command} was built without libvmaf; pip install --upgrade imageio-ffmpeg."
                )
            reason = words[-1] if words else f"exit code {done.returncode}"
            raise SharpreelError(f"VMAF of {sr_path} failed: {reason}")
        pooled = json.loads(log.read_text())["pooled_metrics"]
    return {name: float(pooled[name]["mean"]) for name in ("vmaf", "vmaf_neg")}


def _count_frames(path: str | Path) -> int:
    """Frames of the video that `probe` describes, by the packets that are to be shown."""
    from sharpreel import video

    with video.open_input(path) as container:
        stream = video.video_stream(container, path)
        return sum(1 for p in container.demux(stream) if p.size and not p.is_discard)


# Protocols -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    """What a line of papers compares: colours, borders, frames, and how numbers are rounded.

    A variant is `dataclasses.replace(PROTOCOLS["P4"], crop_border=2)`.
    """

    name: str
    summary: str
    channel: Channel = "y"
    rounded_luma: bool = False  # Y to whole levels, before PSNR and SSIM
    crop_border: int = 0  # pixels; what `border` does with it:
    # "even": left out at each side. "uneven": one more at the top and the left. "blocks": sides
    # are cut about the middle to the largest multiple of 32 that leaves out 16 or more.
    border: Literal["even", "uneven", "blocks"] = "even"
    ssim_window: Window = "matlab"
    ssim_range: Literal["full", "prediction"] = "full"  # L = 255, or max - min of sr
    skip_first: int = 0  # frames of each clip
    skip_last: int = 0
    only_centre: bool = False
    mse_floor: float = 0.0  # added to the mean squared error of values in [0, 1]
    psnr_equal: float = math.inf  # dB of equal pictures

    def region(self, height: int, width: int) -> Region:
        """The rows and columns of a frame that count."""
        match self.border:
            case "even":
                return _inner(height, width, self.crop_border)
            case "uneven":
                rows, columns = _inner(height, width, self.crop_border)
                region = slice(rows.start + 1, rows.stop), slice(columns.start + 1, columns.stop)
            case "blocks":
                starts, sizes = [], []
                for side in (height, width):
                    sizes.append((side - 16) // 32 * 32)
                    starts.append((side - sizes[-1]) // 2)
                region = (
                    slice(starts[0], starts[0] + sizes[0]),
                    slice(starts[1], starts[1] + sizes[1]),
                )
        if any(s.stop <= s.start for s in region):
            raise ValueError(f"Protocol {self.name} leaves nothing of a frame of {width}x{height}.")
        return region

    def select(self, frames: Iterable[T]) -> Iterator[T]:
        """Those of a clip's frames that count, as they come; at most `skip_last` are held back.

        The one in the middle of a clip is known at its end: with `only_centre` all are held.
        """
        if self.only_centre:
            clip = list(frames)
            yield from clip[len(clip) // 2 : len(clip) // 2 + 1]
            return
        held: deque[T] = deque()
        for index, frame in enumerate(frames):
            if index >= self.skip_first:
                held.append(frame)
            if len(held) > self.skip_last:
                yield held.popleft()


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "P1",
            "BasicVSR, BasicSR, VRT, RVRT, IART on Vid4 and UDM10: Y, whole frames, all of them.",
        ),
        Protocol(
            "P1-RGB", "The same papers on REDS4: RGB, whole frames, all of them.", channel="rgb"
        ),
        Protocol(
            "P1-Vimeo",
            "The same papers on Vimeo-90K-T: Y, only the middle one of seven frames.",
            only_centre=True,
        ),
        Protocol(
            "P2",
            "DUF, RRN, RSDN, ETDM, PFNL (blurred input): Y, 8 pixels off each side, all frames.",
            crop_border=8,
        ),
        # The script rounds colours to whole levels, which ours are, and Y not. Its SSIM is
        # scikit-image's with the defaults of 2020 and the range of the prediction.
        Protocol(
            "P3",
            "TecoGAN, EGVSR (official_metrics/metrics.py): Y, sides cut to a multiple of 32, "
            "without the first two and the last two frames.",
            border="blocks",
            ssim_window="uniform",
            ssim_range="prediction",
            skip_first=2,
            skip_last=2,
        ),
        # The script compares the network's floats, neither clamped nor rounded; ours are the
        # integers that are written to the file. It has no SSIM; ours is over the same pixels.
        Protocol(
            "P4",
            "RBPN and iSeeBetter's test script, x4: RGB, 5 pixels off the top and the left, 4 off "
            "the bottom and the right, frames with all six neighbours.",
            channel="rgb",
            crop_border=4,
            border="uneven",
            skip_first=3,
            skip_last=3,
            psnr_equal=100.0,
        ),
        # Their tables measure the network where its convolutions without padding leave pixels (6
        # or 9 fewer at each side) and bicubic everywhere; here both are measured everywhere. 80 dB
        # is the most that the floor allows.
        Protocol(
            "E",
            "Temporal Super Resolution (super-enhanced-resolution): RGB, whole frames, all of "
            "them, PSNR of an error with 1e-8 added, SSIM with 7 taps; see qm and score.",
            channel="rgb",
            ssim_window="seven",
            mse_floor=1e-8,
        ),
    )
}


@dataclass(frozen=True)
class Measured:
    """One frame by one protocol."""

    psnr: float  # dB
    ssim: float


def measure(sr: Frame, hr: Frame, protocol: Protocol) -> Measured:
    """PSNR and SSIM of one frame, as a line of papers takes them.

    Which frames of a clip count is `protocol.select`'s to say; a clip's number is the mean over
    them.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type.
        protocol: One of PROTOCOLS, or a variant.

    Returns:
        By "P3", SSIM is NaN when sr is flat where it counts: its range is 0.
    """
    _check(sr, hr)
    region = protocol.region(hr.shape[0], hr.shape[1])
    rounded = protocol.rounded_luma and protocol.channel == "y"
    a, b = (_planes(frame[region], protocol.channel, rounded) for frame in (sr, hr))
    decibels = _decibels(a, b, protocol.mse_floor)
    data_range = PEAK if protocol.ssim_range == "full" else float(np.ptp(a))
    return Measured(
        psnr=protocol.psnr_equal if decibels == math.inf else decibels,
        ssim=_mean_ssim(a, b, protocol.ssim_window, data_range),
    )
