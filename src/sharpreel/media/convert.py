"""Converts between RGB arrays and every pixel format that FFmpeg decodes or encodes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av.sidedata.sidedata
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from sharpreel.media.color import MATRICES, RGB
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import VideoInfo
from sharpreel.ops import Pixels

SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


class FrameConverter:
    """A libavfilter graph that converts frames; rebuilt when the frames' size or format changes."""

    def __init__(self, filters: list[tuple[str, str]], time_base: Fraction) -> None:
        self._filters, self._time_base = filters, time_base
        self._kind: tuple[int, int, str] | None = None
        self._graph: av.filter.Graph | None = None

    def push(self, frame: VideoFrame) -> None:
        """Feed one frame."""
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            self._kind, self._graph = kind, self._build(*kind)
        assert self._graph is not None
        self._graph.vpush(frame)

    def _build(self, width: int, height: int, pix_fmt: str) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = 1
        last = graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt={pix_fmt}:time_base={self._time_base}"
            ":pixel_aspect=1/1",
        )
        for name, arguments in [*self._filters, ("buffersink", "")]:
            link = graph.add(name, arguments or None)
            last.link_to(link)
            last = link
        graph.configure()
        return graph

    def pull(self) -> Iterator[VideoFrame]:
        """Yield the converted frames that are ready."""
        if self._graph is None:
            return
        while True:
            try:
                yield self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return

    def finish(self) -> Iterator[VideoFrame]:
        """Yield the last converted frames; no frame can be pushed after this."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self.pull()


def to_rgb(info: VideoInfo, alpha: bool = False) -> FrameConverter:
    """A converter of decoded frames to RGB or RGBA, deinterlaced; 16 bits for more than 8."""
    filters = []
    if info.interlaced:
        filters.append(("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
    source = ""
    if info.color.matrix != RGB:
        full = "full" if info.color.full_range else "limited"
        source = f":in_color_matrix={MATRICES[info.color.matrix]}:in_range={full}"
    deep = info.bits > 8
    wide, plain = ("rgba64le", "rgb48le") if deep else ("rgba", "rgb24")
    filters.append(("scale", f"flags={SCALE_FLAGS}:out_range=full{source}"))
    return FrameConverter([*filters, ("format", wide if alpha else plain)], info.time_base)


def split_alpha(frame: VideoFrame, alpha: bool) -> tuple[Pixels, Pixels | None]:
    """A converted frame as RGB (H, W, 3), and alpha (H, W, 1) if requested."""
    pixels: Any = frame.to_ndarray()
    if not alpha:
        return pixels, None
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3:])


def from_rgb(settings: EncodeSettings) -> FrameConverter:
    """A converter of RGB frames to the encoder's size, pixel format, matrix and range.

    Frames of another size are resized by swscale's bicubic with Keys' a = -0.5, antialiased.
    """
    color = settings.color
    scale = f"w={settings.width}:h={settings.height}:flags={SCALE_FLAGS}:param0=0:param1=0.5"
    if not VideoFormat(settings.pix_fmt).is_rgb:
        full = "full" if color.full_range else "limited"
        scale += f":in_range=full:out_range={full}:out_color_matrix={MATRICES[color.matrix]}"
    return FrameConverter([("scale", scale), ("format", settings.pix_fmt)], settings.time_base)


def to_video_frame(pixels: Pixels) -> VideoFrame:
    """An RGB array as a libav frame that shares no memory with it."""
    return VideoFrame.from_ndarray(
        np.ascontiguousarray(pixels),
        "rgb48le" if pixels.dtype == np.uint16 else "rgb24",
    )
