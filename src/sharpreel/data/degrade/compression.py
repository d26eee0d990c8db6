"""Compression: video codecs and JPEG, there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from sharpreel import ops
from sharpreel.data.degrade.resample import (
    Clip,
    Floats,
    resample_separable,
    sampled_taps,
    to_integers,
    triangle_kernel,
    validate_bytes,
)
from sharpreel.errors import SharpreelError, UsageError
from sharpreel.media.color import BT709, default_matrix
from sharpreel.system.resources import has_avx512

CodecName = Literal["h264", "hevc", "mpeg4", "vp8", "vp9", "mpeg2video"]


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
# swscale's bicubic, full chroma on both sides, accurate rounding: what convert.SCALE_FLAGS names.
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
    validate_bytes(clip)
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

    matrix = default_matrix(w, h)
    space = Colorspace.ITU709 if matrix == BT709 else Colorspace.ITU601
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
    if codec == "h264" and has_avx512():
        options["x264-params"] = "asm=AVX2"  # see encoders.EncodeSettings
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
    validate_bytes(clip)
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
    rows, columns = (
        sampled_taps(n // 2, n, triangle_kernel, 1, antialias=False) for n in ycc.shape[:2]
    )
    small = ycc[..., 1:].reshape(len(ycc) // 2, 2, -1, 2, 2).mean(axis=(1, 3))
    for c in range(2):
        small[..., c] = _through_dct(np.rint(small[..., c]), _JPEG_CHROMA, percent)
    ycc[..., 1:] = resample_separable(small, rows, columns)
    ycc[..., 0] += 128
    return to_integers(ycc[:h, :w] @ np.linalg.inv(_YCC).T.astype(np.float32), np.uint8)


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
