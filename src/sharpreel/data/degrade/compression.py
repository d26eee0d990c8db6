"""Compress clips and decompress them again: video codecs (by FFmpeg) and JPEG (computed)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True)
class Coder:
    """An encoder of FFmpeg and its options.

    All encode on one thread, with settings under which equal frames give equal bytes.

    Attributes:
        crf: Range of the quality, best first.
        usual: Default quality.
        crf_options: Names of the options that set the quality.
    """

    encoder: str
    crf: tuple[int, int]
    usual: int
    crf_options: tuple[str, ...] = ("crf",)
    options: Mapping[str, str] = field(default_factory=dict)


# With "good" libvpx uses the requested speed; with "realtime" the clock would change the bytes.
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
_NO_LIMIT = 1_000_000_000  # bits per second: VP8 obeys a rate even when it is given a quality
_SMALLEST = 16  # pixels per side; libx265 accepts no less
# swscale's bicubic, full chroma on both sides, accurate rounding: as convert.SCALE_FLAGS.
_SWS_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000


def compress(
    clip: Clip,
    codec: CodecName = "h264",
    crf: int | None = None,
    bitrate: int | None = None,
    rate: int | Fraction = 25,
) -> Clip:
    """Encode and decode a clip with a lossy video codec; nothing is written to disk.

    4:2:0, BT.601 or BT.709 by size as the rest of sharpreel assumes, limited range; chroma is
    sampled in the middle of its four pixels in both directions, so that colours do not shift.

    Args:
        clip: (T, H, W, 3) uint8; sides are padded to even ones, at least 16, and cropped again.
        codec: A key of CODERS.
        crf: Quality in the encoder's own units, 0 to 51 for h264 and hevc, 0 to 63 for vp8 and
            vp9; for mpeg4 and mpeg2video their constant quantiser, 1 to 31. Higher is worse.
        bitrate: Instead of crf, bits per second.
        rate: Frames per second, which only a bitrate depends on.

    Returns:
        The same number of frames of the same size, uint8.

    Raises:
        UsageError: This FFmpeg was built without the encoder.
    """
    validate_bytes(clip)
    _validate_quality(codec, crf, bitrate)
    t, h, w, _ = clip.shape
    bottom, right = (max(_SMALLEST, side + side % 2) - side for side in (h, w))
    padded = np.pad(clip, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
    space = Colorspace.ITU709 if default_matrix(w, h) == BT709 else Colorspace.ITU601
    packets = _encode(padded, _open_encoder(codec, padded, crf, bitrate, Fraction(rate)), space)
    frames = [frame[:h, :w] for frame in _decode(packets, codec, space)]
    if len(frames) != t:
        raise SharpreelError(f"{CODERS[codec].encoder} returned {len(frames)} of {t} frames.")
    return np.stack(frames)


def _validate_quality(codec: str, crf: int | None, bitrate: int | None) -> None:
    if codec not in CODERS:
        raise ValueError(f"codec must be one of {', '.join(CODERS)}, got {codec!r}.")
    coder = CODERS[codec]
    if crf is not None and bitrate is not None:
        raise ValueError("Give either crf or bitrate, not both.")
    if crf is not None and not coder.crf[0] <= crf <= coder.crf[1]:
        raise ValueError(f"{codec} takes crf {coder.crf[0]} to {coder.crf[1]}, got {crf}.")
    if bitrate is not None and bitrate < 1:
        raise ValueError(f"bitrate is in bits per second and must be positive, got {bitrate}.")
    if coder.encoder not in av.codecs_available:
        raise UsageError(
            f"codec={codec!r}: this FFmpeg has no encoder {coder.encoder}; choose another codec."
        )


def _open_encoder(
    codec: str, clip: Clip, crf: int | None, bitrate: int | None, rate: Fraction
) -> Any:
    encoder: Any = av.CodecContext.create(CODERS[codec].encoder, "w")
    _, encoder.height, encoder.width, _ = clip.shape
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = rate, 1 / rate
    encoder.thread_count = 1
    encoder.options = _options(codec, crf, bitrate, rate)
    if bitrate is not None or codec == "vp8":
        encoder.bit_rate = bitrate or _NO_LIMIT
    return encoder


def _encode(clip: Clip, encoder: Any, space: Colorspace) -> list[Any]:
    """The packets of a clip."""
    packets = []
    for number, pixels in enumerate(clip):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
        frame = _converted(frame, "yuv420p", space, ColorRange.JPEG, ColorRange.MPEG)
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return packets


def _decode(packets: list[Any], codec: str, space: Colorspace) -> Iterator[Clip]:
    """The frames of packets, each (H, W, 3), uint8."""
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    for packet in [*packets, None]:
        for frame in decoder.decode(packet):
            # H.264 frames claim that chroma is sampled at the left; without that property swscale
            # assumes the middle, where we sampled it.
            plain = VideoFrame.from_ndarray(frame.to_ndarray(), "yuv420p")
            rgb = _converted(plain, "rgb24", space, ColorRange.MPEG, ColorRange.JPEG)
            yield rgb.to_ndarray()


def _options(codec: str, crf: int | None, bitrate: int | None, rate: Fraction) -> dict[str, str]:
    coder = CODERS[codec]
    options = dict(coder.options)
    if bitrate is None:
        quality = str(coder.usual if crf is None else crf)
        options |= dict.fromkeys(coder.crf_options, quality)
        if codec == "vp9":
            options["b"] = "0"  # no limit
    elif coder.crf_options == _QUANTISER:
        # FFmpeg's own encoders obey a rate over minutes, and a clip is shorter than a second.
        options |= {"bt": str(int(2 * bitrate / rate) + 1), "maxrate": str(bitrate)}
        options["bufsize"] = str(max(bitrate // 4, 1))
    if codec == "h264" and has_avx512():
        options["x264-params"] = "asm=AVX2"  # see encoders.EncodeSettings
    if codec == "mpeg2video":
        options["strict"] = "experimental"  # frame rates that the standard does not list
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
_KR, _KB = 0.299, 0.114
_YCC = np.array(
    [
        [_KR, 1 - _KR - _KB, _KB],
        [-_KR / (2 - 2 * _KB), -(1 - _KR - _KB) / (2 - 2 * _KB), 0.5],
        [0.5, -(1 - _KR - _KB) / (2 - 2 * _KR), -_KB / (2 - 2 * _KR)],
    ]
)


def _dct_matrix() -> npt.NDArray[np.float32]:
    """The orthonormal DCT of 8 samples, (8, 8)."""
    waves = np.cos(np.pi / 16 * np.arange(8)[:, None] * (2 * np.arange(8) + 1)) / 2
    waves[0] /= math.sqrt(2)
    matrix: npt.NDArray[np.float32] = waves.astype(np.float32)
    return matrix


_DCT = _dct_matrix()


def jpeg(clip: Clip, quality: int | npt.NDArray[np.integer[Any]]) -> Clip:
    """Compress each frame as JPEG and decompress it, as libjpeg does with 4:2:0.

    Computed without a file: JPEG's entropy coding is lossless, so colour conversion, subsampling
    and the rounding of DCT coefficients are the whole loss.

    Args:
        clip: (T, H, W, 3) uint8.
        quality: libjpeg's, 1 (worst) to 100, one for all frames or (T,).

    Returns:
        The same number of frames of the same size, uint8.
    """
    validate_bytes(clip)
    qualities = np.broadcast_to(np.asarray(quality), len(clip))
    if qualities.min() < 1 or qualities.max() > 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}.")
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
    """Quantise the DCT coefficients of a plane, (H, W), sides divisible by 8, levels around 0."""
    h, w = plane.shape
    steps = np.clip((table * percent + 50) // 100, 1, 255).astype(np.float32)[:, None]
    rows = (plane.reshape(h, -1, 8) @ _DCT.T).reshape(-1, 8, w)
    coefficients = (_DCT @ rows).reshape(-1, 8, w // 8, 8)
    coefficients = np.rint(coefficients / steps) * steps
    rows = (_DCT.T @ coefficients.reshape(-1, 8, w)).reshape(h, -1, 8)
    levels: Floats = np.clip(np.rint(rows @ _DCT), -128, 127).reshape(h, w)
    return levels
