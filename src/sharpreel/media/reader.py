"""Decodes a video file to RGB frames with their timestamps.

Every frame appears once, in display order. A frame that cannot be decoded is skipped and counted
in `ReadReport`, so that the others keep their times.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Protocol

import av.sidedata.sidedata
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sharpreel.errors import InputError
from sharpreel.media.convert import split_alpha, to_rgb
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.probe import is_opaque, open_input, probe, transparent
from sharpreel.ops import Pixels


@dataclass
class ReadReport:
    """How many frames of a file were decoded, lost or changed while it was read.

    `errors` are the (pts, reason) of packets that did not decode, `missing` counts the frames that
    the container's index lists after the end of its data, `damaged` those that decoded with
    errors, `retimed` those whose timestamp was missing or not increasing.
    """

    decoded: int = 0
    missing: int = 0
    damaged: int = 0
    retimed: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Number of frames that could not be decoded."""
        return len(self.errors) + self.missing


class FrameSource(Protocol):
    """Yields frames in display order; `report` is complete when iteration has ended."""

    report: ReadReport

    def __iter__(self) -> Iterator[Frame]: ...


class VideoReader:
    """Iterates over the frames of a video in display order, with the file's own timestamps.

    It can be iterated once. Afterwards `report` counts what could not be decoded.

    Args:
        info: From `probe`.
        start_pts: Begin at the first frame of at least this pts, by seeking.
        strict: Raise InputError at the first frame that does not decode.
        alpha: Decode the transparency too.
    """

    def __init__(
        self,
        info: VideoInfo,
        start_pts: int | None = None,
        strict: bool = False,
        alpha: bool = False,
    ) -> None:
        self.info, self.report = info, ReadReport()
        self._start_pts, self._strict, self._alpha = start_pts, strict, alpha
        self._converter = to_rgb(info, alpha)
        self._first_pts: int | None = None  # of the decoded frames
        self._last_pts: int | None = None
        self._convert_from: int | None = None  # earlier frames are decoded but not converted
        self._keys: set[int] = set()
        # MP4 states the time until the next frame that is *decoded*, which may be far too long.
        self._end: int | None = None
        self._half_frame = Fraction(1, 2) / (info.rate * info.time_base)
        if "mp4" in info.container and info.duration_seconds is not None:
            self._end = info.start_pts + round(info.duration_seconds / info.time_base)

    def __iter__(self) -> Iterator[Frame]:
        info, start = self.info, self._start_pts
        if start is None or start <= info.start_pts:
            with self._opened() as (container, stream):
                yield from self._read(container, stream)
            return
        # Two seconds early: room for leading pictures and the deinterlacer's neighbours.
        early = start - round(2 / info.time_base)
        self._convert_from = early if info.interlaced else start
        if early > info.start_pts:
            with self._opened() as (container, stream):
                container.seek(early, stream=stream, backward=True)
                frames = self._read(container, stream)
                first = next(frames, None)
                if first is not None and self._first_pts is not None and self._first_pts <= start:
                    yield from (f for f in itertools.chain([first], frames) if f.pts >= start)
                    return
            # The index led past the start: read from the beginning instead.
            vars(self.report).update(vars(ReadReport()))  # others hold this object
            self._first_pts = self._last_pts = None
            self._converter = to_rgb(info, self._alpha)
        with self._opened() as (container, stream):  # seeking to a transport stream's start fails
            yield from (f for f in self._read(container, stream) if f.pts >= start)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        with open_input(self.info.path) as container:
            stream = container.streams[self.info.stream_index]
            assert isinstance(stream, VideoStream)
            # Frame threads report an error some frames late and lose good frames with it.
            stream.thread_type = "SLICE"
            yield container, stream

    def _read(
        self, container: InputContainer, stream: VideoStream, decoded: Iterable[VideoFrame] = ()
    ) -> Iterator[Frame]:
        """Decode to the end; `decoded` are frames that were decoded before."""
        decode = open_decoder(stream, self._alpha)
        end = 0
        for raw in decoded:
            yield from self._convert(raw)
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard and packet.pts is not None:
                    end = max(end, packet.pts + (packet.duration or 0))
                try:
                    frames = decode(packet)
                except av.FFmpegError as e:
                    self._record_loss(packet.pts, "a frame does not decode", e)
                    continue
                for raw in frames:
                    yield from self._convert(raw)
        except av.FFmpegError as e:
            self._record_loss(end, "the file cannot be read further", e)
        yield from self._frames(self._converter.finish())
        self.report.missing = self._count_missing(container, stream, end)
        if self.report.missing and self._strict:
            raise InputError(
                f"{self.info.path}: ends at {self._seconds(end)}, {self.report.missing} frames "
                "early; stopped because of strict=True."
            )

    def _count_missing(self, container: InputContainer, stream: VideoStream, end: int) -> int:
        """Number of frames that the container's index lists after the end of its data."""
        if not stream.duration or not stream.frames:
            return 0
        short = (stream.start_time or 0) + stream.duration - end
        if short <= 1.5 / (self.info.rate * self.info.time_base):
            return 0
        container.seek(self.info.start_pts, stream=stream, backward=True)
        try:
            present = sum(1 for packet in container.demux(stream) if packet.size)
        except av.FFmpegError:
            return 0
        return max(stream.frames - present, 0)

    def _record_loss(self, pts: int | None, reason: str, cause: Exception | None = None) -> None:
        at = pts if pts is not None else self._last_pts or 0
        if self._start_pts is not None and at < self._start_pts:
            return  # before the requested start
        self.report.errors.append((at, reason))
        if self._strict:
            raise InputError(
                f"{self.info.path}: {reason} at {self._seconds(at)}; "
                "stopped because of strict=True."
            ) from cause

    def _seconds(self, pts: int | None) -> str:
        return "an unknown time" if pts is None else f"{float(pts * self.info.time_base):.2f} s"

    def _validate(self, frame: VideoFrame) -> None:
        info = self.info
        if info.container == "gif" and not self._alpha and not is_opaque(frame):
            raise InputError(transparent(info.path))
        if (frame.width, frame.height) != (info.width, info.height):
            raise InputError(
                f"{info.path}: the frame at {self._seconds(frame.pts)} is "
                f"{frame.width}x{frame.height}, those before it are {info.width}x{info.height}. "
                "Cut the file there, or scale it to one size first."
            )
        self.report.damaged += frame.is_corrupt

    def _timed(self, frame: VideoFrame) -> VideoFrame:
        """The frame with a pts that exists and is later than the previous one."""
        step = round(1 / (self.info.rate * self.info.time_base)) or 1
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = 0 if self._last_pts is None else self._last_pts + step
            self.report.retimed += 1
        elif self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1
            self.report.retimed += 1
        frame.pts = self._last_pts = pts
        frame.time_base = self.info.time_base
        return frame

    def _convert(self, raw: VideoFrame) -> Iterator[Frame]:
        self._validate(raw)
        timed = self._timed(raw)
        pts = timed.pts or 0
        if self._first_pts is None:
            self._first_pts = pts
        if self._convert_from is not None and pts < self._convert_from:
            return
        if raw.key_frame:
            self._keys.add(pts)
        self._converter.push(timed)
        yield from self._frames(self._converter.pull())

    def _frames(self, converted: Iterator[VideoFrame]) -> Iterator[Frame]:
        for frame in converted:
            # bwdif counts in half units.
            ratio = (frame.time_base or self.info.time_base) / self.info.time_base
            pts, duration = (
                round((frame.pts or 0) * ratio),
                round((frame.duration or 0) * ratio),
            )
            if self._end is not None and pts < self._end < pts + duration - self._half_frame:
                duration = self._end - pts  # (the end is rounded to the movie's clock)
            pixels, alpha = split_alpha(frame, self._alpha)
            self.report.decoded += 1
            yield Frame(pixels, pts, duration, pts in self._keys, alpha)
            self._keys.discard(pts)


class CountedInput:
    """Wraps a readable file: counts the bytes read and keeps the first 512 or more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.count, self.head = file, 0, b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        if len(self.head) < 512:
            self.head += data[:512]
        return data


def open_decoder(stream: VideoStream, alpha: bool) -> Callable[[av.Packet[Any]], list[VideoFrame]]:
    """A function that decodes packets: by libvpx where VP8 or VP9 has alpha, else as usual."""
    name = {"vp9": "libvpx-vp9", "vp8": "libvpx"}.get(stream.codec_context.codec.canonical_name)
    if not alpha or name is None or name not in av.codecs_available:
        return lambda packet: packet.decode()
    context: Any = av.CodecContext.create(name, "r")

    def decode(packet: av.Packet[Any]) -> list[VideoFrame]:
        frames: list[VideoFrame] = context.decode(packet if packet.size else None)
        return frames

    return decode


def read_frames(path: str | Path, max_frames: int | None = None) -> Pixels:
    """Read all frames of a short video as one RGB array, (T, H, W, 3), uint8 or uint16."""
    frames: list[Pixels] = []
    for frame in VideoReader(probe(path)):
        frames.append(frame.pixels)
        if max_frames is not None and len(frames) >= max_frames:
            break
    return np.stack(frames)
