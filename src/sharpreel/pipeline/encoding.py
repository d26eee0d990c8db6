"""Chooses the encoder's settings for an input and what the user wants of the output."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from av.video.format import VideoFormat

from sharpreel.errors import UsageError
from sharpreel.media.color import RGB, ColorInfo, default_matrix
from sharpreel.media.encoders import (
    CODECS,
    EncodeSettings,
    codec_named,
    output_pixel_format,
    validate_quality,
)
from sharpreel.media.frame import VideoInfo
from sharpreel.pipeline.options import UpscaleOptions


def default_codec(info: VideoInfo, suffix: str) -> str:
    """H.264 where it can hold the frames, HEVC above 8 bits, VP9 or AV1 in WebM."""
    if suffix == ".webm":
        return "av1" if info.codec == "av1" or info.bits > 8 else "vp9"
    return "hevc" if info.bits > 8 else "h264"


def encode_settings(
    options: UpscaleOptions, info: VideoInfo, size: tuple[int, int], suffix: str
) -> EncodeSettings:
    """The encoder's settings for an output of this size (width, height) and suffix.

    Raises:
        UsageError: The codec, pixel format and size do not go together.
    """
    key = codec_named(options.codec or default_codec(info, suffix))
    codec = CODECS[key]
    validate_quality(key, options.crf, options.preset)
    pix_fmt = output_pixel_format(info, key, options.pix_fmt)
    _validate_even(pix_fmt, size)
    width, height = size
    return EncodeSettings(
        codec=key,
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        crf=options.crf if options.crf is not None else codec.crf,
        preset=options.preset or codec.preset,
        color=_color(info.color, pix_fmt, size),
        sample_aspect_ratio=_aspect(options, info, size),
        rate=info.rate.limit_denominator(1_000_000),
        time_base=info.time_base,
        hdr10=info.hdr10,
    )


def _color(color: ColorInfo, pix_fmt: str, size: tuple[int, int]) -> ColorInfo:
    """The input's colour description, in a matrix that the output's pixel format has."""
    if VideoFormat(pix_fmt).is_rgb:
        return replace(color, matrix=RGB, full_range=True)
    if color.matrix == RGB:
        return replace(color, matrix=default_matrix(*size), full_range=False)
    return color


def _aspect(options: UpscaleOptions, info: VideoInfo, size: tuple[int, int]) -> Fraction:
    """The pixels' shape: the input's, or for an exact size the one that keeps its proportions."""
    aspect = info.sample_aspect_ratio
    if options.size is None:
        return aspect
    width, height = size
    aspect *= Fraction(info.width * height, info.height * width)
    return aspect.limit_denominator(4095)


def _validate_even(pix_fmt: str, size: tuple[int, int]) -> None:
    """Raise UsageError for an odd side where the pixel format halves chroma along it."""
    stored, (width, height) = VideoFormat(pix_fmt), size
    halves_width, halves_height = stored.chroma_width(2) == 1, stored.chroma_height(2) == 1
    if (width % 2 and halves_width) or (height % 2 and halves_height):
        raise UsageError(
            f"{width}x{height} is odd, which {pix_fmt} cannot store. "
            "Choose an even size, or pix_fmt='yuv444p'."
        )
