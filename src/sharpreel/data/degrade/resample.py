"""Downscale clips: bicubic, area, Gaussian blur and random kernels, as published definitions do.

Resampling is separable: `Taps` hold, for each output sample of one axis, the input samples and
their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sharpreel import ops

Clip = npt.NDArray[Any]  # uint8 or uint16, (T, H, W, C), RGB, full range of its type
Floats = npt.NDArray[np.floating[Any]]
Taps = tuple[npt.NDArray[np.intp], Floats]  # of one axis: input samples and weights, (out, taps)
Phase = Literal["centred", "zero"]
Border = Literal["replicate", "reflect"]
Kernel = Literal["bilinear", "gaussian", "nearest", "area"]


def validate_clip(clip: Clip, channels: tuple[int, ...] = (3,)) -> None:
    """Raise ValueError unless the array is a clip of integer frames, (T, H, W, C)."""
    if clip.ndim != 4 or clip.shape[3] not in channels or 0 in clip.shape:
        wanted = " or ".join(str(c) for c in channels)
        raise ValueError(
            f"A clip must be (T, H, W, {wanted}) with at least one frame, got {clip.shape}. "
            "Give one frame as frame[None]."
        )
    if clip.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"A clip must be uint8 or uint16, got {clip.dtype}. "
            "Multiply floats in [0, 1] by 255, round them and cast."
        )


def validate_bytes(clip: Clip) -> None:
    """Raise ValueError for a clip that an 8-bit codec cannot encode."""
    validate_clip(clip)
    if clip.dtype != np.uint8:
        raise ValueError(
            f"The codecs used here take 8 bits, got {clip.dtype}. "
            "Divide by 257, round and cast to uint8 first."
        )


def crop_to_multiple(hr: Clip, scale: int) -> Clip:
    """Crop rows and columns at the bottom and right that do not fill an lr pixel.

    Args:
        hr: (T, H, W, 3).
        scale: An integer of at least 1.

    Returns:
        A view, (T, H - H % scale, W - W % scale, 3).
    """
    validate_clip(hr)
    if scale < 1 or scale != int(scale):
        raise ValueError(f"scale must be an integer of at least 1, got {scale}.")
    _, height, width, _ = hr.shape
    if height < scale or width < scale:
        raise ValueError(
            f"Frames of {width}x{height} are smaller than one lr pixel, which is "
            f"{scale}x{scale}; use larger frames or a smaller scale."
        )
    return hr[:, : height - height % scale, : width - width % scale]


def _along_rows(image: Floats, taps: Taps) -> Floats:
    index, weight = taps
    weight = weight.astype(image.dtype)
    out = np.zeros((len(index), *image.shape[1:]), image.dtype)
    for k in range(index.shape[1]):
        out += weight[:, k].reshape(-1, 1, 1) * image[index[:, k]]
    return out


def resample_separable(image: Floats, rows: Taps, columns: Taps) -> Floats:
    """Resample both axes of an image, (H, W, C) floats to (rows, columns, C)."""
    image = np.ascontiguousarray(_along_rows(image, rows).swapaxes(0, 1))
    return np.ascontiguousarray(_along_rows(image, columns).swapaxes(0, 1))


def to_integers(image: Floats, dtype: npt.DTypeLike) -> Clip:
    """Round to the nearest integers, halves to even, clipped to the range of the type."""
    return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)


def _resampled(clip: Clip, rows: Taps, columns: Taps) -> Clip:
    """Every frame in float64, rounded once, at the end."""
    frames = (resample_separable(frame.astype(np.float64), rows, columns) for frame in clip)
    return np.stack([to_integers(frame, clip.dtype) for frame in frames])


def sampled_taps(
    size_in: int,
    size_out: int,
    kernel: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    radius: float,
    antialias: bool,
) -> Taps:
    """Sample a kernel at the centres of the output pixels; samples outside the frame weigh 0.

    With antialias the kernel widens by the scale when the image shrinks.
    """
    ratio = size_in / size_out
    widen = max(ratio, 1.0) if antialias else 1.0
    centre = (np.arange(size_out) + 0.5) * ratio - 0.5
    left = np.floor(centre - radius * widen).astype(np.intp)
    index = left[:, None] + np.arange(math.ceil(2 * radius * widen) + 2)
    weight = kernel((centre[:, None] - index) / widen)
    weight[(index < 0) | (index >= size_in)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    used = (weight != 0).any(axis=0)
    return np.clip(index, 0, size_in - 1)[:, used], weight[:, used]


def triangle_kernel(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The kernel of bilinear interpolation."""
    weight: npt.NDArray[np.float64] = np.maximum(1 - np.abs(x), 0)
    return weight


def _small_gaussian(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 1.5, np.exp(-2 * x * x), 0.0)  # sigma 0.5


def box_taps(size_in: int, size_out: int) -> Taps:
    """Weights by area: the share of each input pixel that each output pixel covers."""
    ratio = size_in / size_out
    start = np.arange(size_out) * ratio
    index = np.floor(start).astype(np.intp)[:, None] + np.arange(math.ceil(ratio) + 1)
    right = np.minimum(index + 1, (start + ratio)[:, None])
    covered = np.maximum(right - np.maximum(index, start[:, None]), 0)
    covered[index >= size_in] = 0
    covered /= covered.sum(axis=1, keepdims=True)
    return np.minimum(index, size_in - 1), covered


def bicubic(hr: Clip, scale: int) -> Clip:
    """BI: MATLAB's imresize, bicubic with antialiasing and mirrored border, rounded once.

    The BI columns of the literature (protocols P1 and P5) use it, rounding included.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    height, width = lr_size_of(hr, scale)
    return np.stack([ops.resize(frame, height, width) for frame in hr])


def lr_size_of(hr: Clip, scale: int) -> tuple[int, int]:
    """(height, width) of lr for a cropped clip; ValueError if it is not cropped."""
    height, width = crop_to_multiple(hr, scale).shape[1:3]
    if (height, width) != hr.shape[1:3]:
        raise ValueError(
            f"Frames of {hr.shape[2]}x{hr.shape[1]} do not divide by {scale}; "
            "crop them with crop_to_multiple first."
        )
    return height // scale, width // scale


def pil_bicubic(hr: Clip, scale: int) -> Clip:
    """Pillow's BICUBIC on bytes: rounds between its two passes, no samples outside the border.

    The lr of RBPN and iSeeBetter (protocol P4). It differs from `bicubic` by a level in some
    pixels, and by more in the two lr pixels next to the border.

    Args:
        hr: (T, H, W, 3) uint8, of a size that divides by the scale.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    validate_bytes(hr)
    height, width = lr_size_of(hr, scale)
    rows = sampled_taps(hr.shape[1], height, ops.cubic, 2, antialias=True)
    columns = sampled_taps(hr.shape[2], width, ops.cubic, 2, antialias=True)
    for _, weight in (rows, columns):  # Pillow uses units of 1 / 2**22, halves away from zero
        weight[:] = np.trunc(weight * 2**22 + np.copysign(0.5, weight)) / 2**22
    lr = []
    for frame in hr:
        image = _half_up(_along_rows(frame.astype(np.float64).swapaxes(0, 1), columns))
        lr.append(_half_up(_along_rows(image.swapaxes(0, 1), rows)))
    return np.stack(lr).astype(np.uint8)


def _half_up(image: Floats) -> Floats:
    levels: Floats = np.clip(np.floor(image + 0.5), 0, 255)
    return levels


def _gaussian_taps(
    size_in: int, scale: int, sigma: float, phase: Phase, taps: int, border: Border
) -> Taps:
    first = (scale - 1) / 2 if phase == "centred" else 0.0
    centre = np.arange(size_in // scale) * scale + first
    index = np.floor(centre).astype(np.intp)[:, None] + np.arange(taps) - (taps - 1) // 2
    weight = np.exp(-0.5 * ((index - centre[:, None]) / sigma) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    if border == "replicate":
        return np.clip(index, 0, size_in - 1), weight
    last = max(size_in - 1, 1)  # reflect: c b | a b c | b a
    index = np.abs((index + last) % (2 * last) - last)
    return np.minimum(index, size_in - 1), weight


def blur_downsample(
    hr: Clip,
    scale: int,
    sigma: float = 1.6,
    phase: Phase = "centred",
    taps: int | None = None,
    border: Border | None = None,
) -> Clip:
    """BD: a Gaussian blur, then every scale-th sample; float64, rounded once.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
        sigma: Of the Gaussian, in hr pixels.
        phase: "centred": lr pixels are in the middle of scale * scale hr pixels. "zero": they are
            at the first of them.
        taps: Side of the square kernel, normalised to sum 1. It must be even where the lr pixels
            are between hr pixels (centred, even scale) and odd elsewhere. By default
            2 * ceil(3 sigma) + 2 or, where odd, + 1.
        border: "replicate": a a | a b c; "reflect": c b | a b c. By default replicate when centred
            and reflect when not, as in the published definitions.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    lr_size_of(hr, scale)
    between = phase == "centred" and scale % 2 == 0
    if taps is None:
        taps = 2 * math.ceil(3 * sigma) + (2 if between else 1)
    if taps < 1 or sigma <= 0 or (taps % 2 == 0) != between:
        raise ValueError(
            f"With phase={phase!r} and scale={scale} the kernel needs a positive sigma and an "
            f"{'even' if between else 'odd'} number of taps, got sigma {sigma} and {taps} taps."
        )
    if border is None:
        border = "replicate" if phase == "centred" else "reflect"
    _, height, width, _ = hr.shape
    rows = _gaussian_taps(height, scale, sigma, phase, taps, border)
    columns = _gaussian_taps(width, scale, sigma, phase, taps, border)
    return _resampled(hr, rows, columns)


def bd(hr: Clip, scale: int) -> Clip:
    """BD of the BasicVSR line (protocol P1): centred, replicated border.

    github.com/ckkelvinchan/BasicVSR-IconVSR, BD_degradation.m, defines scale 4: fspecial's
    Gaussian of sigma 1.6 with 12 x 12 taps, samples 2:4:end counted from one. Other scales are our
    extension: sigma 0.4 * scale as in DUF, and the same centred phase; at scale 2 that is sigma
    0.8, 8 x 8 taps and samples 1:2:end, the result of the script for scale = 2.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
    """
    return blur_downsample(hr, scale, 0.4 * scale, "centred")


def bd_duf(hr: Clip, scale: int) -> Clip:
    """BD of DUF, RRN, RSDN, ETDM and PFNL (protocol P2): phase 0, reflected border.

    Jo et al., "Deep Video Super-Resolution Network Using Dynamic Upsampling Filters Without
    Explicit Motion Compensation", CVPR 2018; BasicSR's duf_downsample. 13 x 13 taps, sigma
    1.6 / 1.2 / 0.8 for scale 4 / 3 / 2, from SciPy's gaussian_filter, which truncates at 4 sigma:
    the outermost of the 13 are zero for scales 3 and 2.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
        scale: 2, 3 or 4.
    """
    sigma = 0.4 * scale
    return blur_downsample(hr, scale, sigma, "zero", taps=2 * int(4 * sigma + 0.5) + 1)


def bd_tecogan(hr: Clip, scale: int) -> Clip:
    """BD of FRVSR, TecoGAN and RLSP (protocol P3): sigma 1.5, 9 x 9 taps, phase 0, reflected.

    Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation",
    SIGGRAPH 2020. TecoGAN-PyTorch uses the same kernel for its models of scale 2.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
        scale: 4, or 2.
    """
    return blur_downsample(hr, scale, 1.5, "zero", taps=9)


def area(hr: Clip, scale: float) -> Clip:
    """Average over areas of pixels, as OpenCV's INTER_AREA does (the lr of protocol E).

    Args:
        hr: (T, H, W, 3), of any size.
        scale: At least 1, integer or not (protocol E also uses 1.5); lr is H / scale x W / scale
            rounded down, and covers the full frame.

    Returns:
        (T, int(H / scale), int(W / scale), 3).
    """
    validate_clip(hr)
    height, width = int(hr.shape[1] / scale), int(hr.shape[2] / scale)
    return area_resize(hr, height, width)


def area_resize(hr: Clip, height: int, width: int) -> Clip:
    """Downscale by `area` to a given size, which must not be larger than the clip's.

    Where both ratios are integers this is the mean of blocks, rounded as in OpenCV: halves up for
    blocks of 2 x 2, for which it has integer code, and to even for all others.
    """
    validate_clip(hr)
    t, h, w, c = hr.shape
    if not (0 < height <= h and 0 < width <= w):
        raise ValueError(f"The area filter cannot enlarge {w}x{h} to {width}x{height}.")
    if h % height or w % width:
        return _resampled(hr, box_taps(h, height), box_taps(w, width))
    blocks = hr.reshape(t, height, h // height, width, w // width, c)
    total = blocks.sum(axis=(2, 4), dtype=np.uint64)
    if (h // height, w // width) == (2, 2):
        halves_up: Clip = ((total + 2) // 4).astype(hr.dtype)
        return halves_up
    return to_integers(total / (h // height * (w // width)), hr.dtype)


def kernel_downsample(hr: Clip, scale: int, kernel: Kernel, antialias: bool = False) -> Clip:
    """Downscale as TensorFlow's `tf.image.resize` does with this method.

    Without antialias, its default and the setting that system D was trained with, "bilinear" and
    "gaussian" use only the hr pixels next to the middle of each lr pixel. They alias, and some
    methods coincide: at even scales bilinear and gaussian, at scale 2 also area, at odd scales
    bilinear and nearest. "nearest" takes the pixel at scale // 2 of each block.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
        antialias: Widen "bilinear" and "gaussian" with the scale.

    Returns:
        (T, H / scale, W / scale, 3), rounded (TensorFlow returns floats).
    """
    height, width = lr_size_of(hr, scale)
    _, h, w, _ = hr.shape
    if scale == 1:
        return hr.copy()
    match kernel:
        case "nearest":
            return hr[:, scale // 2 :: scale, scale // 2 :: scale].copy()
        case "area":
            return area_resize(hr, height, width)
        case "bilinear" | "gaussian":
            shape, radius = (
                (triangle_kernel, 1.0) if kernel == "bilinear" else (_small_gaussian, 1.5)
            )
            rows = sampled_taps(h, height, shape, radius, antialias)
            return _resampled(hr, rows, sampled_taps(w, width, shape, radius, antialias))
    raise ValueError(f"kernel must be bilinear, gaussian, nearest or area, got {kernel!r}.")


def random_kernel(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """Downscale the clip by one of four kernels at random, as system D was trained.

    github.com/duongtruongtrong/super_resolution_video_srvgan, data_loader.py.
    """
    kernels: tuple[Kernel, ...] = ("bilinear", "gaussian", "nearest", "area")
    return kernel_downsample(hr, scale, kernels[rng.integers(4)])
