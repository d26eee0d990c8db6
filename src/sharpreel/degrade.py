"""hr -> lr: the degradations that we train on and are measured by.

    name           blur and downscale                   then
    bi             MATLAB bicubic                       -
    bd             Gaussian, centred phase (BasicVSR)   -
    bd-duf         Gaussian, phase 0 (DUF)              -
    bd-tecogan     Gaussian, phase 0 (TecoGAN)          -
    area           block mean (OpenCV's INTER_AREA)     -
    random-kernel  bilinear, gaussian, nearest or area  -
    bi-h264        MATLAB bicubic                       H.264, on half of the clips
    call           MATLAB bicubic                       light noise, H.264 or VP8
    real           random blurs and resizes, twice      noise, JPEG and a video codec
    afm            MATLAB bicubic, or none at scale 1   streaks along the scan lines
    realistic      area, bicubic or lanczos             noise, one or two codecs; 15 % clean
    h264-20, h264-25, h264-30, h264-35, vp9-44, mpeg2-5, mpeg4-6, twice, camera
                   lanczos or area                      the codec; see degrade_realworld.py

`degrade` runs one of them by its name in DEGRADATIONS. A clip is (T, H, W, 3), RGB, integers of
full range. Chance comes from a NumPy generator, drawn anew for each clip: the same seed gives the
same bytes. What is drawn holds for all frames of the clip or drifts slowly, as in a real video;
only noise is new in each frame. Sizes are cropped to a multiple of the scale, from the top left.

BD is not one thing. With scale 4, `x` where the lr pixels' centres lie among the hr pixels:

    hr pixel          0   1   2   3   4   5   6   7
    bi, bd, area            x               x         (1.5, 5.5: both pictures cover one area)
    bd-duf, -tecogan  x               x               (0, 4: lr is shifted by 1.5 hr pixels)

A network trained with one phase and tested with the other loses decibels by the shift alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from sharpreel import degrade_realworld, ops, video
from sharpreel.errors import SharpreelError, UsageError, did_you_mean

Clip = npt.NDArray[Any]  # uint8 or uint16, (T, H, W, C), RGB, full range of its type
Floats = npt.NDArray[np.floating[Any]]
Taps = tuple[npt.NDArray[np.intp], Floats]  # of one axis: input samples and weights, (out, taps)
Phase = Literal["centred", "zero"]
Border = Literal["replicate", "reflect"]
Kernel = Literal["bilinear", "gaussian", "nearest", "area"]
CodecName = Literal["h264", "hevc", "mpeg4", "vp8", "vp9", "mpeg2video"]


def check_clip(clip: Clip, channels: tuple[int, ...] = (3,)) -> None:
    """Raise ValueError for what is not a clip of integer frames."""
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


def check_bytes(clip: Clip) -> None:
    """Raise ValueError for a clip that an 8-bit codec cannot take."""
    check_clip(clip)
    if clip.dtype != np.uint8:
        raise ValueError(
            f"The codecs used here take 8 bits, got {clip.dtype}. "
            "Divide by 257, round and cast to uint8 first."
        )


def crop_to_multiple(hr: Clip, scale: int) -> Clip:
    """The clip without the rows and columns at its bottom and right that fill no lr pixel.

    Args:
        hr: (T, H, W, 3).
        scale: Integer factor, at least 1.

    Returns:
        A view, (T, H - H % scale, W - W % scale, 3).
    """
    check_clip(hr)
    if scale < 1 or scale != int(scale):
        raise ValueError(f"scale must be a whole number of at least 1, got {scale}.")
    _, height, width, _ = hr.shape
    if height < scale or width < scale:
        raise ValueError(
            f"Frames of {width}x{height} are smaller than one lr pixel, which is "
            f"{scale}x{scale}; use larger frames or a smaller scale."
        )
    return hr[:, : height - height % scale, : width - width % scale]


# Resampling along one axis at a time.


def _along_rows(image: Floats, taps: Taps) -> Floats:
    index, weight = taps
    weight = weight.astype(image.dtype)
    out = np.zeros((len(index), *image.shape[1:]), image.dtype)
    for k in range(index.shape[1]):
        out += weight[:, k].reshape(-1, 1, 1) * image[index[:, k]]
    return out


def _separable(image: Floats, rows: Taps, columns: Taps) -> Floats:
    """(H, W, C) floats to (rows, columns, C)."""
    image = np.ascontiguousarray(_along_rows(image, rows).swapaxes(0, 1))
    return np.ascontiguousarray(_along_rows(image, columns).swapaxes(0, 1))


def _rounded(image: Floats, dtype: npt.DTypeLike) -> Clip:
    """The nearest integers, halves to even, clipped to the range of the type."""
    return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)


def _resampled(clip: Clip, rows: Taps, columns: Taps) -> Clip:
    """Every frame in float64, rounded once, at the end."""
    frames = (_separable(frame.astype(np.float64), rows, columns) for frame in clip)
    return np.stack([_rounded(frame, clip.dtype) for frame in frames])


def _sampled(
    size_in: int,
    size_out: int,
    kernel: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    radius: float,
    antialias: bool,
) -> Taps:
    """A kernel at the centres of the output pixels; what lies outside the frame counts nothing.

    With antialias the kernel widens when the picture shrinks.
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


def _triangle(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weight: npt.NDArray[np.float64] = np.maximum(1 - np.abs(x), 0)
    return weight


def _small_gaussian(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 1.5, np.exp(-2 * x * x), 0.0)  # sigma 0.5


def _box(size_in: int, size_out: int) -> Taps:
    """How much of each input pixel lies under each output pixel."""
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

    What the BI columns of the literature are made with (protocols P1 and P5), rounding included.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    height, width = _lr_size(hr, scale)
    return np.stack([ops.resize(frame, height, width) for frame in hr])


def _lr_size(hr: Clip, scale: int) -> tuple[int, int]:
    """(height, width) of lr, for a clip that has been cropped."""
    height, width = crop_to_multiple(hr, scale).shape[1:3]
    if (height, width) != hr.shape[1:3]:
        raise ValueError(
            f"Frames of {hr.shape[2]}x{hr.shape[1]} do not divide by {scale}; "
            "cut them with crop_to_multiple first."
        )
    return height // scale, width // scale


def pil_bicubic(hr: Clip, scale: int) -> Clip:
    """Pillow's BICUBIC on bytes: rounds between its two passes, no samples beyond the border.

    The lr of RBPN and iSeeBetter (protocol P4). It differs from `bicubic` by a level here and
    there, and by more in the two lr pixels next to the border.

    Args:
        hr: (T, H, W, 3) uint8, of a size that divides by the scale.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    check_bytes(hr)
    height, width = _lr_size(hr, scale)
    rows = _sampled(hr.shape[1], height, ops.cubic, 2, antialias=True)
    columns = _sampled(hr.shape[2], width, ops.cubic, 2, antialias=True)
    for _, weight in (rows, columns):  # Pillow counts in 1 / 2**22; halves go away from zero
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
    """BD: a Gaussian blur of which every scale-th sample is kept; float64, rounded once.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
        sigma: Of the Gaussian, in hr pixels.
        phase: "centred": lr pixels lie in the middle of scale * scale hr pixels. "zero": they lie
            on the first of them.
        taps: Side of the square kernel, normalised to sum 1. It must be even where the lr pixels
            lie between hr pixels (centred, even scale) and odd elsewhere. By default
            2 * ceil(3 sigma) + 2 or, where odd, + 1.
        border: "replicate": a a | a b c; "reflect": c b | a b c. By default replicate when centred
            and reflect when not, as in the published definitions.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    _lr_size(hr, scale)
    between = phase == "centred" and scale % 2 == 0
    if taps is None:
        taps = 2 * math.ceil(3 * sigma) + (2 if between else 1)
    if taps < 1 or sigma <= 0 or (taps % 2 == 0) != between:
        raise ValueError(
            f"With phase {phase!r} and scale {scale} the kernel needs a positive sigma and an "
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
    Gaussian of sigma 1.6 with 12 x 12 taps, samples 2:4:end counted from one. Other scales are
    ours: sigma 0.4 * scale as DUF has it, and the same centred phase; at scale 2 that is sigma 0.8,
    8 x 8 taps and samples 1:2:end, what the script gives for scale = 2.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
    """
    return blur_downsample(hr, scale, 0.4 * scale, "centred")


def bd_duf(hr: Clip, scale: int) -> Clip:
    """BD of DUF, RRN, RSDN, ETDM and PFNL (protocol P2): phase 0, reflected border.

    Jo et al., "Deep Video Super-Resolution Network Using Dynamic Upsampling Filters Without
    Explicit Motion Compensation", CVPR 2018; BasicSR's duf_downsample. 13 x 13 taps, sigma
    1.6 / 1.2 / 0.8 for scale 4 / 3 / 2, made by SciPy's gaussian_filter, which cuts at 4 sigma: the
    outermost of the 13 are zero for scales 3 and 2.

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
    """Means over the pixels' areas, as OpenCV's INTER_AREA takes them (system E's lr).

    Args:
        hr: (T, H, W, 3), of any size.
        scale: At least 1, whole or not (system E trains 1.5, too); lr is H / scale x W / scale
            rounded down, and covers the whole frame.

    Returns:
        (T, int(H / scale), int(W / scale), 3).
    """
    check_clip(hr)
    height, width = int(hr.shape[1] / scale), int(hr.shape[2] / scale)
    return area_resize(hr, height, width)


def area_resize(hr: Clip, height: int, width: int) -> Clip:
    """`area` to a given size, which must not be larger than the clip's.

    Where both factors are whole this is the mean of blocks, rounded as OpenCV rounds it: halves up
    for blocks of 2 x 2, for which it has integer code, and to even for all others.
    """
    check_clip(hr)
    t, h, w, c = hr.shape
    if not (0 < height <= h and 0 < width <= w):
        raise ValueError(f"The area filter only shrinks: {w}x{h} cannot become {width}x{height}.")
    if h % height or w % width:
        return _resampled(hr, _box(h, height), _box(w, width))
    blocks = hr.reshape(t, height, h // height, width, w // width, c)
    total = blocks.sum(axis=(2, 4), dtype=np.uint64)
    if (h // height, w // width) == (2, 2):
        halves_up: Clip = ((total + 2) // 4).astype(hr.dtype)
        return halves_up
    return _rounded(total / (h // height * (w // width)), hr.dtype)


def kernel_downsample(hr: Clip, scale: int, kernel: Kernel, antialias: bool = False) -> Clip:
    """What TensorFlow's `tf.image.resize` makes of the clip with this method.

    Without antialias, its default and what system D was trained with, "bilinear" and "gaussian"
    look at the hr pixels next to the middle of each lr pixel only. They alias, and some methods
    coincide: at even scales bilinear and gaussian, at scale 2 area too, at odd scales bilinear and
    nearest. "nearest" takes the pixel at scale // 2 of each block.

    Args:
        hr: (T, H, W, 3), of a size that divides by the scale.
        antialias: Widen "bilinear" and "gaussian" with the scale.

    Returns:
        (T, H / scale, W / scale, 3), rounded (TensorFlow returns floats).
    """
    height, width = _lr_size(hr, scale)
    _, h, w, _ = hr.shape
    if scale == 1:
        return hr.copy()
    match kernel:
        case "nearest":
            return hr[:, scale // 2 :: scale, scale // 2 :: scale].copy()
        case "area":
            return area_resize(hr, height, width)
        case "bilinear" | "gaussian":
            shape, radius = (_triangle, 1.0) if kernel == "bilinear" else (_small_gaussian, 1.5)
            rows = _sampled(h, height, shape, radius, antialias)
            return _resampled(hr, rows, _sampled(w, width, shape, radius, antialias))
    raise ValueError(f"kernel must be bilinear, gaussian, nearest or area, got {kernel!r}.")


def random_kernel(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """One of four `kernel_downsample`s for the whole clip, as system D was trained.

    github.com/duongtruongtrong/super_resolution_video_srvgan, data_loader.py.
    """
    kernels: tuple[Kernel, ...] = ("bilinear", "gaussian", "nearest", "area")
    return kernel_downsample(hr, scale, kernels[rng.integers(4)])


# Noise.


def gaussian_noise(
    clip: Clip, sigma: float | Floats, rng: np.random.Generator, grey: bool = False
) -> Clip:
    """The clip with white noise, new in every frame.

    Args:
        clip: (T, H, W, C).
        sigma: Standard deviation in 8-bit levels, one for all frames or (T,).
        grey: The same noise on all channels.
    """
    check_clip(clip, (1, 3))
    unit = np.iinfo(clip.dtype).max / 255
    noisy = _with_gaussian(clip.astype(np.float32), np.asarray(sigma) * unit, rng, grey)
    return _rounded(noisy, clip.dtype)


def _with_gaussian(
    clip: Floats, sigma: Floats, rng: np.random.Generator, grey: bool = False
) -> Floats:
    t, h, w, c = clip.shape
    noise = rng.standard_normal((t, h, w, 1 if grey else c), np.float32)
    return clip + noise * np.broadcast_to(sigma, t).astype(np.float32).reshape(-1, 1, 1, 1)


def poisson_noise(
    clip: Clip, strength: float | Floats, rng: np.random.Generator, grey: bool = False
) -> Clip:
    """The clip with shot noise: its variance grows with the light.

    A pixel of 8-bit level v is taken for v photons and the deviation of their count is multiplied
    by the strength: standard deviation strength * sqrt(v) levels (Real-ESRGAN's, for pictures that
    use all levels).

    Args:
        clip: (T, H, W, C).
        strength: At least 0, one for all frames or (T,).
        grey: The same noise on all channels, that of the luma.
    """
    check_clip(clip, (1, 3))
    unit = np.iinfo(clip.dtype).max / 255
    levels = clip.astype(np.float32) / np.float32(unit)
    return _rounded(_with_poisson(levels, np.asarray(strength), rng, grey) * unit, clip.dtype)


def _with_poisson(
    clip: Floats, strength: Floats, rng: np.random.Generator, grey: bool = False
) -> Floats:
    light = np.clip(clip, 0, 255)
    if grey and clip.shape[3] == 3:
        light = (light @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    noise = rng.poisson(light).astype(np.float32) - light
    t = len(clip)
    return clip + noise * np.broadcast_to(strength, t).astype(np.float32).reshape(-1, 1, 1, 1)


def streaks(clip: Clip, rng: np.random.Generator, strength: float | Floats = 3.0) -> Clip:
    """The clip with scan-line noise, as atomic force microscopes have it: horizontal streaks.

    The tip draws one line after the other, and its height reference drifts: each line gets an
    offset of its own (standard deviation 0.8 * strength), a part that changes slowly along the line
    (0.4 * strength, correlation length 32 pixels), and in one of 20 lines a jump where the tip
    catches, of 2 to 4 * strength for a stretch of the line. Every frame is a new scan. On a flat
    picture, strength 2.4 has the noise score, mean(|Sobel_y| - |Sobel_x|), of 0.035 that the real
    frames of github.com/yasue32/afm-denoise have on average.

    Args:
        clip: (T, H, W, 1) or (T, H, W, 3); all channels get the same offset.
        strength: In 8-bit levels, one for all frames or (T,).
    """
    check_clip(clip, (1, 3))
    t, h, w, _ = clip.shape
    keep = math.exp(-1 / 32)
    fresh = rng.standard_normal((w, t, h), np.float32)
    drift = fresh.copy()  # an autoregressive process along x
    for x in range(1, w):
        drift[x] = keep * drift[x - 1] + math.sqrt(1 - keep * keep) * fresh[x]
    offset = 0.8 * rng.standard_normal((t, h, 1), np.float32) + 0.4 * drift.transpose(1, 2, 0)
    start = rng.integers(0, w, (t, h, 1))
    end = start + rng.integers(1, w + 1, (t, h, 1))
    height = rng.uniform(2, 4, (t, h, 1)) * rng.choice((-1, 1), (t, h, 1))
    caught = (rng.random((t, h, 1)) < 0.05) & (np.arange(w) >= start) & (np.arange(w) < end)
    offset = offset + np.where(caught, height, 0)
    unit = np.iinfo(clip.dtype).max / 255
    levels = np.broadcast_to(np.asarray(strength) * unit, t).reshape(-1, 1, 1)
    return _rounded(clip + (offset * levels)[..., None], clip.dtype)


# Compression.


@dataclass(frozen=True)
class Coder:
    """An encoder of FFmpeg: how its quality is asked for and what else it is told.

    `crf` is its range, best first, and `usual` what is taken by default. All encode on one thread,
    and with settings under which equal frames give equal bytes.
    """

    encoder: str
    crf: tuple[int, int]
    usual: int
    crf_options: tuple[str, ...] = ("crf",)
    options: Mapping[str, str] = field(default_factory=dict)


# In "good" libvpx works at the speed it is told; in "realtime" the clock decides, and the bytes.
_VPX = {"deadline": "good", "cpu-used": "5", "qmin": "0"}
_X265 = {"preset": "veryfast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
_QUANTISER = ("qmin", "qmax")
CODERS: dict[str, Coder] = {
    "h264": Coder("libx264", (0, 51), 23, options={"preset": "veryfast"}),
    "hevc": Coder("libx265", (0, 51), 28, options=_X265),
    "mpeg4": Coder("mpeg4", (1, 31), 4, _QUANTISER),
    "vp8": Coder("libvpx", (0, 63), 20, options=_VPX),
    "vp9": Coder("libvpx-vp9", (0, 63), 32, options=_VPX),
    "mpeg2video": Coder("mpeg2video", (1, 31), 4, _QUANTISER),
}
_NO_LIMIT = 1_000_000_000  # bits a second: VP8 keeps to a rate even when it is given a quality
_SMALLEST = 16  # pixels that a side must have; libx265 takes no less
# swscale's bicubic, full chroma on both sides, accurate rounding: what video.SCALE_FLAGS names.
_SWS_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000


def compress(
    clip: Clip,
    codec: CodecName = "h264",
    crf: int | None = None,
    bitrate: int | None = None,
    rate: int | Fraction = 25,
) -> Clip:
    """The clip as a decoder shows it after a lossy video codec; nothing is written to disk.

    4:2:0, BT.601 or BT.709 by size as the rest of sharpreel assumes, limited range; chroma is
    placed in the middle of its four pixels both ways, so that colours move nowhere.

    Args:
        clip: (T, H, W, 3) uint8; sides are padded to even ones, at least 16, and cut again.
        codec: A key of CODERS.
        crf: Quality in the encoder's own measure, 0 to 51 for h264 and hevc, 0 to 63 for vp8 and
            vp9; for mpeg4 and mpeg2video their constant quantiser, 1 to 31. Higher is worse.
        bitrate: Instead of crf, bits a second.
        rate: Frames a second, which only a bitrate depends on.

    Returns:
        As many frames of the same size, uint8.

    Raises:
        UsageError: This FFmpeg was built without the encoder.
    """
    check_bytes(clip)
    if codec not in CODERS:
        raise ValueError(f"codec must be one of {', '.join(CODERS)}, got {codec!r}.")
    coder = CODERS[codec]
    if crf is not None and bitrate is not None:
        raise ValueError("Give either crf or bitrate: one of them rules.")
    if crf is not None and not coder.crf[0] <= crf <= coder.crf[1]:
        raise ValueError(f"{codec} takes crf {coder.crf[0]} to {coder.crf[1]}, got {crf}.")
    if bitrate is not None and bitrate < 1:
        raise ValueError(f"bitrate is in bits a second and must be positive, got {bitrate}.")
    if coder.encoder not in av.codecs_available:
        raise UsageError(f"This FFmpeg has no encoder {coder.encoder}; choose another codec.")
    t, h, w, _ = clip.shape
    bottom, right = (max(_SMALLEST, side + side % 2) - side for side in (h, w))
    padded = np.pad(clip, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")

    encoder: Any = av.CodecContext.create(coder.encoder, "w")
    encoder.width, encoder.height, encoder.pix_fmt = w + right, h + bottom, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(rate), 1 / Fraction(rate)
    encoder.thread_count = 1
    encoder.options = _options(codec, crf, bitrate, Fraction(rate))
    if bitrate is not None or codec == "vp8":
        encoder.bit_rate = bitrate or _NO_LIMIT
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1

    matrix = video.default_matrix(w, h)
    space = Colorspace.ITU709 if matrix == video.BT709 else Colorspace.ITU601
    packets = []
    for number, pixels in enumerate(padded):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
        frame = _converted(frame, "yuv420p", space, ColorRange.JPEG, ColorRange.MPEG)
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)

    lr = []
    for frame in (frame for packet in [*packets, None] for frame in decoder.decode(packet)):
        # H.264 frames say that chroma lies at the left; without that word it is where we put it.
        plain = VideoFrame.from_ndarray(frame.to_ndarray(), "yuv420p")
        shown = _converted(plain, "rgb24", space, ColorRange.MPEG, ColorRange.JPEG)
        lr.append(shown.to_ndarray()[:h, :w])
    if len(lr) != t:
        raise SharpreelError(f"{coder.encoder} made {len(lr)} frames of {t}.")
    return np.stack(lr)


def _options(codec: str, crf: int | None, bitrate: int | None, rate: Fraction) -> dict[str, str]:
    coder = CODERS[codec]
    options = dict(coder.options)
    if bitrate is None:
        quality = str(coder.usual if crf is None else crf)
        options |= dict.fromkeys(coder.crf_options, quality)
        if codec == "vp9":
            options["b"] = "0"  # no limit
    elif coder.crf_options == _QUANTISER:
        # FFmpeg's own encoders keep to a rate over minutes, a clip is shorter than a second.
        options |= {"bt": str(int(2 * bitrate / rate) + 1), "maxrate": str(bitrate)}
        options["bufsize"] = str(max(bitrate // 4, 1))
    if codec == "h264" and video.has_avx512():
        options["x264-params"] = "asm=AVX2"  # see video.EncodeSettings
    if codec == "mpeg2video":
        options["strict"] = "experimental"  # frame rates beside those of the standard
    return options


def _converted(
    frame: VideoFrame, pix_fmt: str, space: Colorspace, source: ColorRange, target: ColorRange
) -> VideoFrame:
    return VideoReformatter().reformat(
        frame,
        format=pix_fmt,
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=source,
        dst_color_range=target,
        interpolation=_SWS_FLAGS,
        threads=1,
    )


# ITU-T T.81, tables K.1 and K.2.
_JPEG_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_JPEG_CHROMA = np.full((8, 8), 99)
_JPEG_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_DCT = np.cos(np.pi / 16 * np.arange(8)[:, None] * (2 * np.arange(8) + 1)) / 2
_DCT[0] /= math.sqrt(2)
_DCT = _DCT.astype(np.float32)
_KR, _KB = 0.299, 0.114
_YCC = np.array(
    [
        [_KR, 1 - _KR - _KB, _KB],
        [-_KR / (2 - 2 * _KB), -(1 - _KR - _KB) / (2 - 2 * _KB), 0.5],
        [0.5, -(1 - _KR - _KB) / (2 - 2 * _KR), -_KB / (2 - 2 * _KR)],
    ]
)


def jpeg(clip: Clip, quality: int | npt.NDArray[np.integer[Any]]) -> Clip:
    """The clip after each frame was a JPEG picture, as libjpeg makes and shows them with 4:2:0.

    Computed, not written: JPEG's entropy coding loses nothing, so colour conversion, subsampling
    and the rounding of DCT coefficients are all there is.

    Args:
        clip: (T, H, W, 3) uint8.
        quality: libjpeg's, 1 (worst) to 100, one for all frames or (T,).

    Returns:
        As many frames of the same size, uint8.
    """
    check_bytes(clip)
    qualities = np.broadcast_to(np.asarray(quality), len(clip))
    if qualities.min() < 1 or qualities.max() > 100:
        raise ValueError(f"JPEG's quality is 1 to 100, got {quality}.")
    return np.stack([_jpeg_frame(f, int(q)) for f, q in zip(clip, qualities, strict=True)])


def _jpeg_frame(frame: Clip, quality: int) -> Clip:
    h, w, _ = frame.shape
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    padded = ops.pad_to_multiple(frame, 16)
    ycc = np.rint(padded.astype(np.float32) @ _YCC.T.astype(np.float32))
    ycc[..., 0] = _through_dct(ycc[..., 0] - 128, _JPEG_LUMA, percent)
    rows, columns = (_sampled(n // 2, n, _triangle, 1, antialias=False) for n in ycc.shape[:2])
    small = ycc[..., 1:].reshape(len(ycc) // 2, 2, -1, 2, 2).mean(axis=(1, 3))
    for c in range(2):
        small[..., c] = _through_dct(np.rint(small[..., c]), _JPEG_CHROMA, percent)
    ycc[..., 1:] = _separable(small, rows, columns)
    ycc[..., 0] += 128
    return _rounded(ycc[:h, :w] @ np.linalg.inv(_YCC).T.astype(np.float32), np.uint8)


def _through_dct(plane: Floats, table: npt.NDArray[Any], percent: int) -> Floats:
    """(H, W) of levels around 0, divisible by 8, after its DCT coefficients were quantised."""
    h, w = plane.shape
    steps = np.clip((table * percent + 50) // 100, 1, 255).astype(np.float32)[:, None]
    rows = (plane.reshape(h, -1, 8) @ _DCT.T).reshape(-1, 8, w)
    coefficients = (_DCT @ rows).reshape(-1, 8, w // 8, 8)
    coefficients = np.rint(coefficients / steps) * steps
    rows = (_DCT.T @ coefficients.reshape(-1, 8, w)).reshape(h, -1, 8)
    levels: Floats = np.clip(np.rint(rows @ _DCT), -128, 127).reshape(h, w)
    return levels


# A long chain of random steps.


def _walk(
    rng: np.random.Generator, low: float, high: float, step: float, count: int
) -> npt.NDArray[np.float64]:
    """(count,) values that begin anywhere in [low, high] and move by at most a step, inside it."""
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


# Real-ESRGAN's blurs and how often RealBasicVSR draws each.
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
    """Kernels for `count` frames, of one shape that changes slowly, (count, k, k), k 7 to 21.

    Args:
        sigma: The largest, in pixels; the smallest is 0.2.
    """
    size = 7 + 2 * int(rng.integers(8))
    family, round_one = list(_BLURS)[rng.choice(len(_BLURS), p=list(_BLURS.values()))]
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
        across = (y * np.cos(angle) - x * np.sin(angle)) / (wide if round_one else narrow)
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
    """By bilinear without antialiasing, area (bilinear where it grows) or bicubic, drawn."""
    kernel = ("bilinear", "area", "bicubic")[rng.integers(3)]

    def taps(size_in: int, size_out: int) -> Taps:
        if kernel == "bicubic":
            return ops.resize_taps(size_in, size_out)
        if kernel == "area" and size_out < size_in:
            return _box(size_in, size_out)
        return _sampled(size_in, size_out, _triangle, 1, antialias=False)

    rows, columns = taps(clip.shape[1], height), taps(clip.shape[2], width)
    return np.stack([_separable(frame, rows, columns) for frame in clip])


def _factor(
    rng: np.random.Generator, up: float, down: float, lowest: float, highest: float
) -> float:
    """A factor of size: above 1 with probability `up`, below with `down`, else 1."""
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
        clip = _with_gaussian(clip, _walk(rng, 1, sigma, 0.1, t), rng, grey)
    else:
        clip = _with_poisson(clip, _walk(rng, 0.05, strength, 0.005, t), rng, grey)
    quality = np.rint(_walk(rng, 30, 95, 3, t)).astype(int)
    return jpeg(_rounded(clip, np.uint8), quality).astype(np.float32)


def second_order(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """lr of a life on the net: blurred, resized, noisy and compressed, twice over.

    After Real-ESRGAN (Wang et al., ICCVW 2021) for the order and RealBasicVSR (Chan et al., CVPR
    2022; its configuration in MMagic) for ranges, probabilities and the slow drift of parameters
    over the frames: blur, resize, noise, JPEG; again around the size of lr; then, in either order,
    a video codec and the resize to lr with a sinc blur. What we changed: sizes stay constant over
    the clip; the first round has no video codec; codecs are asked for qualities (H.264 CRF 18 to
    38, VP8 30 to 63, MPEG-4 quantiser 2 to 12) and not for bits; the smallest size on the way is
    0.6 times lr in the first round at every scale, which at 4 is the published 0.15; hr is not
    sharpened.

    Args:
        hr: (T, H, W, 3) uint8, of a size that divides by the scale.

    Returns:
        (T, H / scale, W / scale, 3).
    """
    check_bytes(hr)
    height, width = _lr_size(hr, scale)
    t, h, w, _ = hr.shape

    def sized(pixels: int, factor: float) -> int:
        return max(round(pixels * factor), 1)

    clip = _blurred(hr.astype(np.float32), _blur_kernels(rng, t, sigma=3))
    factor = _factor(rng, up=0.2, down=0.7, lowest=min(0.6 / scale, 1), highest=1.5)
    clip = _resized(clip, sized(h, factor), sized(w, factor), rng)
    clip = _noisy_jpeg(clip, rng, sigma=30, strength=3)

    if rng.random() < 0.8:
        clip = _blurred(clip, _blur_kernels(rng, t, sigma=1.5))
    factor = _factor(rng, up=0.3, down=0.4, lowest=0.3, highest=1.2)
    clip = _resized(clip, sized(height, factor), sized(width, factor), rng)
    clip = _noisy_jpeg(clip, rng, sigma=25, strength=2.5)

    codec, best, worst = _REAL_CODECS[rng.integers(len(_REAL_CODECS))]
    crf = int(rng.integers(best, worst + 1))
    codec_first, ringing = rng.random() < 0.5, rng.random() < 0.8
    if codec_first:
        clip = compress(_rounded(clip, np.uint8), codec, crf).astype(np.float32)
    clip = _resized(clip, height, width, rng)
    if ringing:
        clip = _blurred(clip, _blur_kernels(rng, t, sigma=1, only_sinc=True))
    lr = _rounded(clip, np.uint8)
    return lr if codec_first else compress(lr, codec, crf)


_REAL_CODECS: tuple[tuple[CodecName, int, int], ...] = (
    ("h264", 18, 38),
    ("vp8", 30, 63),
    ("mpeg4", 2, 12),
)


def bi_h264(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """BI, on half of the clips followed by H.264 of CRF 15 to 35.

    After FTVSR (Qiu et al., "Learning Spatiotemporal Frequency-Transformer for Compressed Video
    Super-Resolution", ECCV 2022), which takes CRF 15, 25 and 35.
    """
    lr = bicubic(hr, scale)
    crf = int(rng.integers(15, 36))
    return compress(lr, "h264", crf) if rng.random() < 0.5 else lr


def call(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """BI, a webcam's noise (sigma 0 to 4 levels), and H.264 of CRF 18 to 35 or VP8 of 30 to 63.

    VP8's 30 is about as good as H.264's 18; its worst, 63, is as good as 26 or 27.
    """
    lr = gaussian_noise(bicubic(hr, scale), rng.uniform(0, 4), rng)
    crf = int(rng.integers(18, 36))
    if rng.random() < 0.5:
        return compress(lr, "h264", crf)
    return compress(lr, "vp8", 30 + (crf - 18) * 33 // 17)


def afm(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """BI (nothing at scale 1) and `streaks` of strength 1 to 8."""
    return streaks(bicubic(hr, scale), rng, _walk(rng, 1, 8, 0.2, len(hr)))


def _plain(function: Callable[[Clip, int], Clip]) -> Callable[..., Clip]:
    """A degradation without chance, in the form that the table wants."""
    return lambda hr, scale, _rng: function(hr, scale)


def _condition(condition: degrade_realworld.Condition) -> Callable[..., Clip]:
    """A fixed condition, whose noise alone is left to chance, in the form that the table wants."""

    def function(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
        return degrade_realworld.apply(hr, scale, condition, int(rng.integers(1 << 30)))

    return function


@dataclass(frozen=True)
class Degradation:
    """A row of DEGRADATIONS.

    Attributes:
        summary: One line for a list of choices.
        function: hr clip (T, H, W, 3) of a size that divides by the scale, scale, generator -> lr
            clip (T, H / scale, W / scale, 3).
        standard: A published definition that benchmarks are made with, free of chance.
        scales: Those it is defined for; empty: every whole number from 1.
    """

    name: str
    summary: str
    function: Callable[[Clip, int, np.random.Generator], Clip]
    standard: bool = False
    scales: tuple[int, ...] = ()


DEGRADATIONS: dict[str, Degradation] = {
    row.name: row
    for row in (
        Degradation("bi", "MATLAB's bicubic, the usual one", _plain(bicubic), True),
        Degradation(
            "bd", "Gaussian blur, centred (BasicVSR's BD)", _plain(bd), True, scales=(2, 3, 4)
        ),
        Degradation(
            "bd-duf", "Gaussian blur, phase 0 (DUF's BD)", _plain(bd_duf), True, scales=(2, 3, 4)
        ),
        Degradation(
            "bd-tecogan",
            "Gaussian blur of sigma 1.5, phase 0 (TecoGAN's BD)",
            _plain(bd_tecogan),
            True,
            scales=(2, 4),
        ),
        Degradation("area", "means of blocks", _plain(area)),
        Degradation(
            "random-kernel", "bilinear, gaussian, nearest or area by chance", random_kernel
        ),
        Degradation("bi-h264", "bicubic, then H.264 (CRF 15 to 35) on half of the clips", bi_h264),
        Degradation("call", "bicubic, light noise and H.264 or VP8, as in a video call", call),
        Degradation("real", "blur, resize, noise, JPEG, twice, and a video codec", second_order),
        Degradation("afm", "scan-line streaks of a microscope, after bicubic", afm),
        Degradation(
            "realistic",
            "a scaler, noise and codecs by chance, as in the video that people have",
            degrade_realworld.realistic,
        ),
        *(
            Degradation(name, summary, _condition(condition))
            for name, (summary, condition) in degrade_realworld.CONDITIONS.items()
        ),
    )
}


def degrade(
    hr: Clip, scale: int, name: str = "bi", seed: int | tuple[int, ...] = 0
) -> tuple[Clip, Clip]:
    """hr cropped to a multiple of the scale from the top left, and its degraded twin.

    Args:
        hr: (T, H, W, 3) uint8; uint16 where no codec is involved.
        scale: Integer factor.
        name: A key of DEGRADATIONS.
        seed: Of the clip, such as (seed of the run, number of the clip); the same one gives the
            same bytes.

    Returns:
        The cropped hr (a view), and lr, (T, H // scale, W // scale, 3), of its type.

    Raises:
        UsageError: No such degradation, or not for this scale.
    """
    if name not in DEGRADATIONS:
        raise UsageError(
            f"No degradation is called {name}.{did_you_mean(name, DEGRADATIONS)} "
            f"There are {', '.join(DEGRADATIONS)}."
        )
    row = DEGRADATIONS[name]
    if row.scales and scale not in row.scales:
        allowed = ", ".join(str(s) for s in row.scales)
        raise UsageError(f"{name!r} is defined for scales {allowed}, not {scale}.")
    hr = crop_to_multiple(hr, scale)
    lr = row.function(hr, scale, np.random.default_rng(seed))
    t, h, w, c = hr.shape
    assert lr.shape == (t, h // scale, w // scale, c)
    return hr, lr
