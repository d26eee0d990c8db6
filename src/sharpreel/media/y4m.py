"""YUV4MPEG2 (y4m) streams: raw video with a text header, for pipes between programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any, cast

import av.sidedata.sidedata
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from sharpreel.errors import InputError, UsageError
from sharpreel.media.convert import from_rgb, to_video_frame
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame
from sharpreel.media.probe import describe_video
from sharpreel.media.reader import CountedInput, VideoReader

Y4M_FRAME = b"FRAME\n"


class Y4mWriter:
    """Writes frames as a y4m stream, 8 to 12 bits, for the next program in a pipe.

    y4m has one frame rate and no timestamps: frames follow each other at the average rate.

    Args:
        fill: Repeat a frame in place of the missing frames after it.

    Raises:
        UsageError: y4m has no such pixel format.
    """

    def __init__(self, file: IO[bytes], settings: EncodeSettings, fill: bool = False) -> None:
        self.pts: list[int] = []  # stay empty: a live stream has no end
        self.order: list[int] = []
        self._file, self._settings, self._fill = file, settings, fill
        self._previous: tuple[int, bytes] | None = None  # pts and planes, for `fill`
        self._convert = from_rgb(settings)
        chroma = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444"}
        base, depth = settings.pix_fmt.removesuffix("le"), ""
        match = re.fullmatch(r"(yuv4\d\dp)(\d+)?", base)
        if match is None:
            raise UsageError(f"y4m cannot carry {settings.pix_fmt}; choose pix_fmt='yuv420p'.")
        if match[2]:
            depth = f"p{match[2]}"
            chroma = {"yuv420p": "420", "yuv422p": "422", "yuv444p": "444"}
        aspect, rate = settings.sample_aspect_ratio, settings.rate
        full = "FULL" if settings.color.full_range else "LIMITED"
        file.write(
            f"YUV4MPEG2 W{settings.width} H{settings.height} "
            f"F{rate.numerator}:{rate.denominator} Ip A{aspect.numerator}:{aspect.denominator} "
            f"C{chroma[match[1]]}{depth} XCOLORRANGE={full}\n".encode()
        )

    def write(self, frame: Frame) -> None:
        """Write one frame, after repeats of the previous one if requested."""
        raw = to_video_frame(frame.pixels)
        raw.pts, raw.time_base = frame.pts, self._settings.time_base
        self._convert.push(raw)
        for converted in self._convert.pull():
            planes = b"".join(_plane_bytes(plane, converted) for plane in converted.planes)
            if self._fill and self._previous is not None:
                pts, shown = self._previous
                steps = (frame.pts - pts) * self._settings.time_base * self._settings.rate
                self._file.write((Y4M_FRAME + shown) * (round(steps) - 1))
            self._file.write(Y4M_FRAME + planes)
            self._file.flush()
            self._previous = (frame.pts, planes) if self._fill else None

    def close(self) -> None:
        """Flush the stream; it stays open."""
        self._file.flush()

    def abandon(self) -> None:
        """Nothing to remove: what was written has left."""


def _plane_bytes(plane: Any, frame: VideoFrame) -> bytes:
    """The pixels of a plane, without the padding at the end of its lines."""
    sample = 2 if max(c.bits for c in frame.format.components) > 8 else 1
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width * sample].tobytes()


class Y4mReader(VideoReader):
    """Iterates over the frames of a y4m stream that can be read only once, such as stdin.

    Raises:
        InputError: Not y4m.
    """

    def __init__(self, file: IO[bytes], name: str = "standard input") -> None:
        self._counted = CountedInput(file)
        try:
            self._container = cast(
                InputContainer, av.open(cast(IO[bytes], self._counted), format="yuv4mpegpipe")
            )
            self._stream = self._container.streams.video[0]
            first = next(self._container.decode(self._stream), None)
        except (av.FFmpegError, IndexError) as e:
            raise InputError(f"{name}: not a y4m stream (YUV4MPEG2).") from e
        if first is None:
            raise InputError(f"{name}: a y4m stream without a frame.")
        super().__init__(describe_video(self._container, self._stream, first, name))
        self._first = first

    def __iter__(self) -> Iterator[Frame]:
        yield from self._read(self._container, self._stream, [self._first])
        if self._is_truncated():
            self._record_loss(self._last_pts, "the stream ends within a frame")

    def _is_truncated(self) -> bool:
        """Did the stream end within a frame? FFmpeg drops such a frame without an error."""
        components = self._first.format.components
        samples = sum(c.width * c.height for c in components)
        size = len(Y4M_FRAME) + samples * (2 if max(c.bits for c in components) > 8 else 1)
        head = self._counted.head.find(b"\n") + 1
        # A frame's header may have parameters, and then another length.
        plain = self._counted.head[head:].startswith(Y4M_FRAME)
        return plain and (self._counted.count - head) % size != 0
