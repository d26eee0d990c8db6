"""The table of video encoders, and the settings of one encoding."""

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
    """An encoder, what it is asked for by default, and how quality is named in its options."""

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
    """The key of CODECS that a user's word means.

    Raises:
        UsageError: No such codec, or this FFmpeg was built without its encoder.
    """
    key = CODEC_ALIASES.get(name.lower(), name.lower())
    if key not in CODECS:
        raise UsageError(f"--codec {name} is not known; choose one of {', '.join(CODECS)}.")
    if CODECS[key].encoder not in av.codecs_available:
        raise UsageError(f"--codec {name}: this FFmpeg has no encoder {CODECS[key].encoder}.")
    return key


def validate_quality(codec: str, crf: int | None, preset: str | None) -> None:
    """Raise UsageError for a --crf or --preset that this codec's encoder does not have."""
    encoder = CODECS[codec]
    for option, value, has in (
        ("--crf", crf, encoder.crf is not None),
        ("--preset", preset, encoder.preset is not None),
    ):
        if value is not None and not has:
            raise UsageError(f"{option} {value}: {codec} has no such setting; leave it out.")
    if crf is not None and not 0 <= crf <= encoder.max_crf:
        raise UsageError(f"--crf {crf}: {codec} takes 0 to {encoder.max_crf}.")
    if preset is not None and preset not in encoder.presets:
        raise UsageError(f"--preset {preset}: {codec} takes {', '.join(encoder.presets)}.")


def validate_encoder(settings: EncodeSettings) -> None:
    """Raise UsageError when the encoder itself refuses, found by opening it."""
    try:
        with av.open(io.BytesIO(), "w", format="matroska") as trial:
            add_video_stream(trial, settings)
            start_encoding(trial)
    except (ValueError, av.FFmpegError, OSError) as e:
        s, reason = settings, getattr(e, "strerror", None) or e
        raise UsageError(
            f"{CODECS[s.codec].encoder} does not make {s.width}x{s.height} {s.pix_fmt} on this "
            f"machine ({reason}); choose another --codec or a smaller size."
        ) from e


def pixel_formats(codec: str) -> list[str]:
    """Pixel formats the codec's encoder takes, without the deprecated full-range aliases."""
    formats = av.Codec(CODECS[codec].encoder, "w").video_formats or []
    return [f.name for f in formats if not f.name.startswith("yuvj")]


def output_pixel_format(info: VideoInfo, codec: str, wanted: str | None = None) -> str:
    """The format that keeps the input's chroma and depth, or the nearest the codec has.

    Raises:
        UsageError: `wanted` is given and the encoder does not take it.
    """
    have = pixel_formats(codec)
    if wanted is not None:
        if wanted not in have:
            raise UsageError(
                f"--pix-fmt {wanted}: {CODECS[codec].encoder} takes {', '.join(have)}."
            )
        return wanted
    source = VideoFormat(info.pix_fmt)
    if info.color.matrix == RGB:
        # A GIF or a palette has no chroma worth four times the data.
        poor = info.container == "gif" or info.pix_fmt == "pal8"
        chroma = "420" if poor else "444"
    elif len(source.components) < 3:
        chroma = "420"
    else:
        narrow = source.chroma_width(64) < 64
        short = source.chroma_height(64) < 64
        chroma = "420" if narrow and short else "422" if narrow else "444"
    depth = "" if info.bits <= 8 else "10le" if info.bits <= 10 else "12le"
    for c in dict.fromkeys((chroma, "444" if chroma == "422" else chroma, "422", "420", "444")):
        for d in dict.fromkeys((depth, "10le" if depth else "")):
            if f"yuv{c}p{d}" in have:
                return f"yuv{c}p{d}"
    for name in ("yuv420p", "yuv422p10le"):
        if name in have:
            return name
    raise UsageError(f"{CODECS[codec].encoder} takes none of the formats sharpreel writes.")


def encoder_threads() -> int:
    return min(usable_cpus(), 16)


@dataclass(frozen=True)
class EncodeSettings:
    """Everything an encoder is told; equal settings give equal bytes.

    `threads` is among them: x264, x265 and libvpx make other bytes with another number.
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
        codec = CODECS[self.codec]
        options = dict(codec.extra)
        if self.crf is not None:
            options[codec.crf_option] = str(self.crf)
        if self.preset is not None:
            options[codec.preset_option] = self.preset
        if codec.encoder == "libx264" and has_avx512():
            # With its AVX-512 code this x264 gives other bytes each time, even on one thread.
            options["x264-params"] = "asm=AVX2"
        if codec.encoder == "libx265":
            words = ["log-level=none"]
            if self.hdr10 is not None:
                words += ["hdr10=1", "repeat-headers=1"]
                words += self.hdr10.words("master-display", "max-cll", whole_steps=True)
            options["x265-params"] = ":".join(words)
        if codec.encoder == "libsvtav1" and self.hdr10 is not None:
            words = self.hdr10.words("mastering-display", "content-light", whole_steps=False)
            options["svtav1-params"] = ":".join(words)
        return options


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """Leave this thread's priority as it was.

    SVT-AV1, run by root, makes the thread that opens it a real-time one of the highest priority,
    and every process that this one starts later, too: nobody else then gets the processor.
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
    """A stream with an opened-to-be encoder for these settings."""
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
    """Tell an encoder what colours its pictures are in."""
    context.color_range = FULL if s.color.full_range else LIMITED
    context.colorspace = s.color.matrix
    context.color_primaries = s.color.primaries
    context.color_trc = s.color.transfer
