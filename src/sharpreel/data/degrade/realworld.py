"""Realistic degradations of hr to lr: downscaled by a video tool, at times noisy, coded in 4:2:0.

    hr --blur, scale, noise--> 4:2:0 frames --encode, decode--> (again) --> lr
       FFmpeg's filters                      FFmpeg's encoders

`CONDITIONS` are fixed recipes to measure with, `realistic` draws a recipe for each clip to train
with. Whole frames are coded, so blocks are where they are in real files. A clip is (T, H, W, 3),
RGB, uint8; sides of hr divide by the scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from sharpreel import ops
from sharpreel.errors import SharpreelError, UsageError
from sharpreel.system.resources import has_avx512

Clip = npt.NDArray[np.uint8]  # (T, H, W, 3), RGB
Kernel = Literal["area", "bicubic", "lanczos"]

RATE = 25  # frames a second of every coded clip
MIN_SIDE = 16  # pixels; some encoders take no less
# swscale's bicubic, full chroma on both sides, accurate rounding.
SWS_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000


@dataclass(frozen=True)
class Coding:
    """One pass through a video codec.

    Attributes:
        encoder, decoder: FFmpeg's names.
        options: Of the encoder.
        full_range: It codes levels 0 to 255 (JPEG) instead of 16 to 235.
    """

    encoder: str
    decoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    full_range: bool = False


@dataclass(frozen=True)
class Condition:
    """How a real video is produced: the scaler, and what follows it.

    Attributes:
        kernel: Of the scaler.
        codings: Passes through codecs, the first one first. None at all leaves RGB frames.
        blur: Standard deviation of a Gaussian before the scaler, in lr pixels.
        noise: Strength of FFmpeg's temporal noise (standard deviation sqrt(3) times smaller).
        noise_before: The noise is added before the scaler, which makes it coarser and weaker.
    """

    kernel: Kernel
    codings: tuple[Coding, ...] = ()
    blur: float = 0.0
    noise: int = 0
    noise_before: bool = False


def h264(crf: int, preset: str = "fast", gop: int = 250) -> Coding:
    """x264 at a constant rate factor."""
    options = {"preset": preset, "crf": str(crf), "g": str(gop)}
    if has_avx512():
        options["x264-params"] = "asm=AVX2"  # the same bytes on every machine
    return Coding("libx264", "h264", options)


def vp9(crf: int, gop: int = 128) -> Coding:
    """libvpx-vp9 at a constant quality, without a limit on bits."""
    speed = {"deadline": "good", "cpu-used": "5"}
    return Coding("libvpx-vp9", "vp9", {**speed, "crf": str(crf), "b": "0", "g": str(gop)})


def vp8(crf: int) -> Coding:
    """libvpx at a constant quality; VP8 keeps to a rate too, here one that no clip reaches."""
    speed = {"deadline": "good", "cpu-used": "5", "qmin": "0"}
    return Coding("libvpx", "vp8", {**speed, "crf": str(crf), "b": "1000000000"})


def _quantised(encoder: str, quantiser: int, **options: str) -> Coding:
    """One of FFmpeg's own encoders at a constant quantiser, as `-q:v` of its tool sets it."""
    bounds = {"qmin": str(quantiser), "qmax": str(quantiser)}
    return Coding(encoder, encoder, {**bounds, **options}, full_range=encoder == "mjpeg")


def mpeg4(quantiser: int, gop: int = 100) -> Coding:
    """MPEG-4 part 2 (DivX, Xvid) without B frames."""
    return _quantised("mpeg4", quantiser, bf="0", g=str(gop))


def mpeg2(quantiser: int) -> Coding:
    """MPEG-2 as on a DVD: two B frames, a key frame every 15."""
    return _quantised("mpeg2video", quantiser, bf="2", g="15")


def flv(quantiser: int, gop: int = 100) -> Coding:
    """Sorenson H.263, the codec of Flash video, which takes frames of any size."""
    return _quantised("flv", quantiser, g=str(gop))


def mjpeg(quantiser: int) -> Coding:
    """Motion JPEG, the codec of early digital cameras."""
    return _quantised("mjpeg", quantiser)


CONDITIONS: dict[str, tuple[str, Condition]] = {
    "h264-20": ("H.264 at CRF 20", Condition("lanczos", (h264(20),))),
    "h264-25": ("H.264 at CRF 25", Condition("lanczos", (h264(25),))),
    "h264-30": ("H.264 at CRF 30, a video site's 360p", Condition("lanczos", (h264(30),))),
    "h264-35": ("H.264 at CRF 35, a video site's 240p", Condition("lanczos", (h264(35),))),
    "vp9-44": ("VP9 at CRF 44", Condition("lanczos", (vp9(44),))),
    "mpeg2-5": ("MPEG-2 at quantiser 5, a DVD", Condition("area", (mpeg2(5),))),
    "mpeg4-6": ("MPEG-4 part 2 at quantiser 6, an old AVI", Condition("area", (mpeg4(6),))),
    "twice": (
        "MPEG-4 part 2 at quantiser 8, then H.264 at CRF 24",
        Condition("area", (mpeg4(8), h264(24))),
    ),
    "camera": (
        "soft lens, sensor noise, H.264 at CRF 25",
        Condition("area", (h264(25),), blur=0.45, noise=9),
    ),
}


def apply(hr: Clip, scale: int, condition: Condition, seed: int = 0) -> Clip:
    """The clip under a condition.

    Args:
        hr: (T, H, W, 3) uint8, sides divisible by the scale.
        seed: Of the noise.

    Returns:
        (T, H / scale, W / scale, 3) uint8.

    Raises:
        UsageError: This FFmpeg was built without an encoder that the condition needs.
    """
    if hr.dtype != np.uint8:
        raise ValueError(
            f"The codecs used here take 8 bits, got {hr.dtype}. "
            "Divide by 257, round and cast to uint8 first."
        )
    _, h, w, _ = hr.shape
    height, width = h // scale, w // scale
    # Encoders want even sides: the edge is repeated, and cut off again in the end.
    bottom, right = (max(MIN_SIDE, side + side % 2) - side for side in (height, width))
    grown = ((0, 0), (0, bottom * scale), (0, right * scale), (0, 0))
    padded = np.pad(hr, grown, mode="edge")
    frames = _reduced(padded, height + bottom, width + right, condition, seed)
    for coding in condition.codings:
        frames = _coded(frames, coding)
    lr = [_rgb(frame)[:height, :width] for frame in frames]
    if len(lr) != len(hr):
        names = ", ".join(coding.encoder for coding in condition.codings)
        raise SharpreelError(f"{names} returned {len(lr)} frames of {len(hr)}.")
    return np.stack(lr)


def _reduced(
    hr: Clip, height: int, width: int, condition: Condition, seed: int
) -> Iterator[VideoFrame]:
    """Frames after blur, scaler and noise: 4:2:0 where a codec follows, else RGB."""
    graph = av.filter.Graph()
    chain = [
        graph.add_buffer(
            width=hr.shape[2],
            height=hr.shape[1],
            format=VideoFormat("rgb24"),
            time_base=Fraction(1, RATE),
        )
    ]
    noise = ("noise", f"alls={condition.noise}:allf=t:all_seed={seed}")
    if condition.blur:
        chain.append(graph.add("gblur", f"sigma={condition.blur * hr.shape[1] / height:.4f}"))
    if condition.noise and condition.noise_before:
        chain.append(graph.add(*noise))
    chain.append(
        graph.add("scale", f"{width}:{height}:flags={condition.kernel}:out_color_matrix=bt601")
    )
    if condition.noise and not condition.noise_before:
        chain.append(graph.add(*noise))
    chain.append(graph.add("format", "yuv420p" if condition.codings else "rgb24"))
    chain.append(graph.add("buffersink"))
    for before, after in itertools.pairwise(chain):
        before.link_to(after)
    graph.configure()
    for number, pixels in enumerate(hr):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        graph.vpush(frame)
        yield graph.vpull()


def _coded(frames: Iterable[VideoFrame], coding: Coding) -> Iterator[VideoFrame]:
    """Frames after one codec."""
    if coding.encoder not in av.codecs_available:
        raise UsageError(f"This FFmpeg has no encoder {coding.encoder}.")
    encoder: Any = None
    decoder: Any = av.CodecContext.create(coding.decoder, "r")
    decoder.thread_count = 1
    packets = []
    for number, frame in enumerate(frames):
        plain = _converted(frame, coding.full_range)
        if encoder is None:
            encoder = av.CodecContext.create(coding.encoder, "w")
            encoder.width, encoder.height = plain.width, plain.height
            encoder.pix_fmt = plain.format.name
            encoder.framerate, encoder.time_base = Fraction(RATE), Fraction(1, RATE)
            encoder.thread_count = 1
            encoder.options = dict(coding.options)
        plain.pts, plain.time_base = number, Fraction(1, RATE)
        plain.pict_type = PictureType.NONE  # or an encoder repeats the types of the codec before
        packets += encoder.encode(plain)
    if encoder is not None:
        packets += encoder.encode(None)
    for packet in [*packets, None]:
        yield from decoder.decode(packet)


def _converted(frame: VideoFrame, full_range: bool) -> VideoFrame:
    """The frame in 4:2:0 of one range, without what a codec noted beside its pixels."""
    source = ColorRange.JPEG if frame.format.name == "yuvj420p" else ColorRange.MPEG
    target = ColorRange.JPEG if full_range else ColorRange.MPEG
    plain = VideoFrame.from_ndarray(frame.to_ndarray(), frame.format.name)
    return VideoReformatter().reformat(
        plain,
        format="yuvj420p" if full_range else "yuv420p",
        src_color_range=source,
        dst_color_range=target,
        interpolation=SWS_FLAGS,
        threads=1,
    )


def _rgb(frame: VideoFrame) -> npt.NDArray[Any]:
    if frame.format.name == "rgb24":
        return frame.to_ndarray()
    full = frame.format.name == "yuvj420p"
    plain = VideoFrame.from_ndarray(frame.to_ndarray(), frame.format.name)
    shown = VideoReformatter().reformat(
        plain,
        format="rgb24",
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=SWS_FLAGS,
        threads=1,
    )
    return shown.to_ndarray()


# The mixture.


CLEAN = 0.15  # share of clips without a codec
TWICE = 0.2  # share of coded clips that are coded a second time
NOISY = 0.4  # share of clips with noise
PRESETS = ("veryfast", "fast", "medium")
# Of coded clips: share, best and worst quality in the encoder's measure, and what codes it.
CODECS: dict[str, tuple[float, int, int, Callable[[int, np.random.Generator], Coding]]] = {
    "h264": (0.45, 16, 36, lambda q, rng: h264(q, str(rng.choice(PRESETS)), _gop(rng))),
    "vp9": (0.17, 28, 50, lambda q, rng: vp9(q, _gop(rng))),
    "mpeg4": (0.14, 2, 10, lambda q, rng: mpeg4(q, _gop(rng))),
    "mpeg2": (0.11, 2, 8, lambda q, _: mpeg2(q)),
    "flv": (0.05, 2, 10, lambda q, rng: flv(q, _gop(rng))),
    "mjpeg": (0.04, 2, 10, lambda q, _: mjpeg(q)),
    "vp8": (0.04, 25, 59, lambda q, _: vp8(q)),
}


def _gop(rng: np.random.Generator) -> int:
    return int(rng.integers(8, 250))


def drawn_coding(rng: np.random.Generator, names: tuple[str, ...] = tuple(CODECS)) -> Coding:
    """A codec of these and its quality, from hardly visible to very bad."""
    shares = np.array([CODECS[name][0] for name in names])
    _, best, worst, coding = CODECS[names[rng.choice(len(names), p=shares / shares.sum())]]
    return coding(int(rng.integers(best, worst + 1)), rng)


def drawn_condition(rng: np.random.Generator) -> Condition:
    """A condition by chance: see the shares above."""
    kernels: tuple[Kernel, ...] = ("area", "bicubic", "lanczos")
    kernel = kernels[rng.integers(3)]
    blur = 1.2 * float(rng.beta(1, 2)) if rng.random() < 0.5 else 0.0
    noise = int(rng.integers(2, 16)) if rng.random() < NOISY else 0
    before = bool(rng.random() < 0.4)
    codings: tuple[Coding, ...] = ()
    if rng.random() >= CLEAN:
        codings = (drawn_coding(rng),)
        if rng.random() < TWICE:
            codings += (drawn_coding(rng, ("h264", "vp9")),)
    return Condition(kernel, codings, blur if blur > 0.1 else 0.0, noise, before)


def realistic(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
    """The clip under a condition that is drawn for it.

    Clean clips are MATLAB's bicubic alone, so that a network learns to leave them as sharp as one
    that sees nothing else.

    Args:
        hr: (T, H, W, 3) uint8, sides divisible by the scale.

    Returns:
        (T, H / scale, W / scale, 3) uint8.
    """
    condition = drawn_condition(rng)
    seed = int(rng.integers(1 << 30))
    if not condition.codings:
        height, width = hr.shape[1] // scale, hr.shape[2] // scale
        return np.stack([ops.resize(frame, height, width) for frame in hr])
    return apply(hr, scale, condition, seed)
