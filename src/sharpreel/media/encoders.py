"""Video encoders: the table of codecs, the settings of one output, and opening an encoder.

`EncodeSettings` holds everything an encoder depends on; equal settings give equal bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av.sidedata.sidedata
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from sharpreel.errors import UsageError
from sharpreel.media.color import FULL, LIMITED, RGB, ColorInfo, Hdr10
from sharpreel.media.frame import VideoInfo
from sharpreel.system.resources import has_avx512, usable_cpus


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg, its default quality and preset, and its names for both options."""

    encoder: str
    crf: int | None
    preset: str | None
    preset_option: str = "preset"
    crf_option: str = "crf"
    extra: tuple[tuple[str, str], ...] = ()
    presets: tuple[str, ...] = ()
    max_crf: int = 51


X264_PRESETS = tuple(
    "ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split()
)
NVENC_PRESETS = tuple(f"p{n}" for n in range(1, 8))
CODECS = {
    "h264": Codec("libx264", 17, "veryfast", presets=X264_PRESETS),
    "hevc": Codec("libx265", 19, "veryfast", presets=X264_PRESETS),
    "av1": Codec("libsvtav1", 24, "8", presets=tuple(str(n) for n in range(14)), max_crf=63),
    "vp9": Codec(
        "libvpx-vp9",
        24,
        "4",
        preset_option="cpu-used",
        extra=(("b", "0"), ("row-mt", "1"), ("deadline", "good")),
        presets=tuple(str(n) for n in range(9)),
        max_crf=63,
    ),
    "ffv1": Codec("ffv1", None, None, extra=(("level", "3"), ("slicecrc", "1"))),
    "prores": Codec("prores_ks", None, None, extra=(("profile", "3"),)),
    "h264_nvenc": Codec("h264_nvenc", 19, "p5", crf_option="cq", presets=NVENC_PRESETS),
    "hevc_nvenc": Codec("hevc_nvenc", 21, "p5", crf_option="cq", presets=NVENC_PRESETS),
}
CODEC_ALIASES = {"h265": "hevc", "x264": "h264", "x265": "hevc", "avc": "h264"}
CODEC_ALIASES |= {codec.encoder: name for name, codec in CODECS.items()}


def codec_named(name: str) -> str:
    """The key of CODECS for a user's name of a codec or encoder, such as "hevc" for "x265".

    Raises:
        UsageError: No such codec, or this FFmpeg was built without its encoder.
    """
    key = CODEC_ALIASES.get(name.lower(), name.lower())
    if key not in CODECS:
        raise UsageError(f"codec={name!r} is not known; choose one of {', '.join(CODECS)}.")
    if CODECS[key].encoder not in av.codecs_available:
        raise UsageError(f"codec={name!r}: this FFmpeg has no encoder {CODECS[key].encoder}.")
    return key


def validate_quality(codec: str, crf: int | None, preset: str | None) -> None:
    """Raise UsageError for a `crf` or `preset` that this codec's encoder does not have."""
    encoder = CODECS[codec]
    for name, value, exists in (
        ("crf", crf, encoder.crf is not None),
        ("preset", preset, encoder.preset is not None),
    ):
        if value is not None and not exists:
            raise UsageError(f"{name}={value!r}: {codec} has no such setting; remove it.")
    if crf is not None and not 0 <= crf <= encoder.max_crf:
        raise UsageError(f"crf={crf}: {codec} takes 0 to {encoder.max_crf}.")
    if preset is not None and preset not in encoder.presets:
        raise UsageError(f"preset={preset!r}: {codec} takes {', '.join(encoder.presets)}.")


def validate_encoder(settings: EncodeSettings) -> None:
    """Raise UsageError when the encoder rejects these settings (checked by opening it)."""
    try:
        with av.open(io.BytesIO(), "w", format="matroska") as container:
            add_video_stream(container, settings)
            start_encoding(container)
    except (ValueError, av.FFmpegError, OSError) as e:
        s, reason = settings, getattr(e, "strerror", None) or e
        raise UsageError(
            f"{CODECS[s.codec].encoder} cannot encode {s.width}x{s.height} {s.pix_fmt} on this "
            f"machine ({reason}); choose another `codec` or a smaller `size`."
        ) from e


def pixel_formats(codec: str) -> list[str]:
    """Pixel formats that the codec's encoder accepts, except the deprecated full-range aliases."""
    formats = av.Codec(CODECS[codec].encoder, "w").video_formats or []
    return [f.name for f in formats if not f.name.startswith("yuvj")]


def output_pixel_format(info: VideoInfo, codec: str, wanted: str | None = None) -> str:
    """The pixel format that keeps the input's chroma and depth, or the nearest the codec has.

    Raises:
        UsageError: `wanted` is given and the encoder does not take it.
    """
    accepted = pixel_formats(codec)
    if wanted is not None:
        if wanted not in accepted:
            raise UsageError(
                f"pix_fmt={wanted!r}: {CODECS[codec].encoder} takes {', '.join(accepted)}."
            )
        return wanted
    chroma = _chroma_of(info)
    depth = "" if info.bits <= 8 else "10le" if info.bits <= 10 else "12le"
    for c in (chroma, "444" if chroma == "422" else chroma, "422", "420", "444"):
        for d in (depth, "10le" if depth else ""):
            if f"yuv{c}p{d}" in accepted:
                return f"yuv{c}p{d}"
    for name in ("yuv420p", "yuv422p10le"):
        if name in accepted:
            return name
    raise UsageError(f"{CODECS[codec].encoder} takes none of the formats sharpreel writes.")


def _chroma_of(info: VideoInfo) -> str:
    """Chroma subsampling of the input, "420", "422" or "444"."""
    source = VideoFormat(info.pix_fmt)
    if info.color.matrix == RGB:
        # A GIF or a palette has no chroma worth four times the data.
        return "420" if info.container == "gif" or info.pix_fmt == "pal8" else "444"
    if len(source.components) < 3:
        return "420"
    narrow = source.chroma_width(64) < 64
    short = source.chroma_height(64) < 64
    return "420" if narrow and short else "422" if narrow else "444"


def encoder_threads() -> int:
    """Number of threads an encoder gets on this machine."""
    return min(usable_cpus(), 16)


@dataclass(frozen=True)
class EncodeSettings:
    """Everything an encoder is configured with; equal settings give equal bytes.

    That includes `threads`: x264, x265 and libvpx write other bytes with another number.
    """

    codec: str
    pix_fmt: str
    width: int
    height: int
    crf: int | None
    preset: str | None
    color: ColorInfo
    sample_aspect_ratio: Fraction = Fraction(1)
    rate: Fraction = Fraction(25)
    time_base: Fraction = Fraction(1, 90000)
    hdr10: Hdr10 | None = None
    threads: int = field(default_factory=encoder_threads)

    def options(self) -> dict[str, str]:
        """FFmpeg options for the encoder."""
        codec = CODECS[self.codec]
        options = dict(codec.extra)
        if self.crf is not None:
            options[codec.crf_option] = str(self.crf)
        if self.preset is not None:
            options[codec.preset_option] = self.preset
        if codec.encoder == "libx264" and has_avx512():
            # With its AVX-512 code this x264 writes other bytes each time, even on one thread.
            options["x264-params"] = "asm=AVX2"
        if codec.encoder == "libx265":
            params = ["log-level=none"]
            if self.hdr10 is not None:
                params += ["hdr10=1", "repeat-headers=1"]
                params += self.hdr10.encoder_settings("master-display", "max-cll", integers=True)
            options["x265-params"] = ":".join(params)
        if codec.encoder == "libsvtav1" and self.hdr10 is not None:
            params = self.hdr10.encoder_settings(
                "mastering-display", "content-light", integers=False
            )
            options["svtav1-params"] = ":".join(params)
        return options


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """Restore this thread's scheduling priority after the block.

    SVT-AV1, run by root, makes the thread that opens it a real-time one of the highest priority,
    and with it every process that this one starts later: all others then starve.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before[0]:
            os.sched_setscheduler(0, *before)


def start_encoding(container: av.container.OutputContainer) -> None:
    """Open the encoders and write the header."""
    with own_priority():
        container.start_encoding()


def add_video_stream(container: av.container.OutputContainer, s: EncodeSettings) -> VideoStream:
    """Add a video stream whose encoder has these settings; `start_encoding` opens it."""
    stream = container.add_stream(CODECS[s.codec].encoder, rate=s.rate, options=s.options())
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = s.width, s.height, s.pix_fmt
    context.time_base = s.time_base
    context.sample_aspect_ratio = s.sample_aspect_ratio
    set_color(context, s)
    context.thread_count = s.threads
    return stream


def set_color(context: Any, s: EncodeSettings) -> None:
    """Describe the colours of the frames to an encoder."""
    context.color_range = FULL if s.color.full_range else LIMITED
    context.colorspace = s.color.matrix
    context.color_primaries = s.color.primaries
    context.color_trc = s.color.transfer
