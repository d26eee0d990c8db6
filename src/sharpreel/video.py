"""The door: video file <-> RGB frames with their timestamps.

Inside the house a frame is an integer RGB array; YUV, containers and codecs live here only.
`probe` looks at a file without decoding it, `VideoReader` decodes frames in order with the
timestamps the file gives them, `VideoEncoder` turns frames back into packets. What else a file
holds (audio, subtitles, chapters, ...) is carried by `mux.py`.

Colour: frames are converted with the matrix and range that the file states. Where it states none,
SD is taken for BT.601 and the rest for BT.709 as players do, which `ColorInfo.guessed` reports and
the output states. Transfer and primaries are not converted, only carried.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

import av
import av.filter
import av.logging
import av.sidedata.sidedata
import numpy as np
from av.container import InputContainer
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sharpreel import cgroups
from sharpreel.errors import InputError, SharpreelError, UsageError, write_error
from sharpreel.ops import Frame as Pixels

MAX_SIDE = 16384
PROBE_FRAMES = 4  # the first of an interlaced file is not always marked so
AVFMT_TS_DISCONT = 0x0200  # libavformat: timestamps of this kind of file begin anywhere
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .m2ts .mts .mpg .mpeg .vob .wmv .asf .flv .f4v .3gp .3g2 "
    ".ogv .mxf .gif .y4m .divx .dv .rm .rmvb".split()
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

# libavutil's AVColorSpace -> swscale's name for it. What is missing cannot be converted here.
MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
}
MATRIX_NAMES = {
    0: "RGB",
    1: "BT.709",
    4: "FCC",
    5: "BT.601",
    6: "BT.601",
    7: "SMPTE 240M",
}
MATRIX_NAMES |= {9: "BT.2020"}
RGB, UNSPECIFIED, BT709, BT601, BT2020 = 0, 2, 1, 6, 9
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
DYNAMIC_HDR = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
}
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"

# The packets say what is wrong; FFmpeg's own chatter on stderr would only repeat it.
av.logging.set_level(av.logging.PANIC)
os.environ.setdefault("SVT_LOG", "0")


@dataclass(frozen=True)
class Frame:
    """One picture: RGB (H, W, 3) uint8 or uint16 (full range), and when it is shown.

    `pts` and `duration` are in the stream's time base; `key` says that decoding can start here;
    `alpha` is (H, W, 1) of the same type where the picture has one that will be kept.
    """

    pixels: Pixels
    pts: int
    duration: int = 0
    key: bool = False
    alpha: Pixels | None = None


@dataclass(frozen=True)
class ColorInfo:
    """Colour description of a stream, in the numbers of ITU-T H.273 (libavutil's enums).

    `matrix` and `full_range` are what frames are converted with; `guessed` names what the file
    does not state.
    """

    matrix: int
    full_range: bool
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    guessed: bool = False

    @property
    def matrix_name(self) -> str:
        return MATRIX_NAMES[self.matrix]

    @property
    def hdr(self) -> str | None:
        return {PQ: "PQ", HLG: "HLG"}.get(self.transfer)


@dataclass(frozen=True)
class Hdr10:
    """HDR10 static metadata, as x265 and SVT-AV1 want it: SMPTE ST 2086 and CTA-861.3.

    `primaries` are the chromaticities of red, green, blue and white; luminances in cd/m2.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] = ()
    min_luminance: Fraction = Fraction(0)
    max_luminance: Fraction = Fraction(0)
    max_cll: int = 0
    max_fall: int = 0

    def words(self, mastering: str, light: str, whole_steps: bool) -> list[str]:
        """Encoder settings that carry it, under the encoder's names for them.

        Args:
            whole_steps: x265 counts chromaticities in 1/50000 and luminances in 1/10000 cd/m2;
                SVT-AV1 takes them as they are.
        """

        def number(value: Fraction, steps: int) -> str:
            return str(round(value * steps)) if whole_steps else f"{float(value):.5f}"

        words = []
        if self.primaries:
            r, g, b, white = self.primaries
            places = "".join(
                f"{key}({number(x, 50000)},{number(y, 50000)})"
                for key, (x, y) in zip(("G", "B", "R", "WP"), (g, b, r, white), strict=True)
            )
            high, low = (number(v, 10000) for v in (self.max_luminance, self.min_luminance))
            words.append(f"{mastering}={places}L({high},{low})")
        if self.max_cll or self.max_fall:
            words.append(f"{light}={self.max_cll},{self.max_fall}")
        return words


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` found of the video stream that will be upscaled."""

    path: str
    container: str  # libavformat's name, "mov,mp4,m4a,3gp,3g2,mj2"
    stream_index: int
    codec: str
    pix_fmt: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction  # average frames a second
    start_pts: int
    num_frames: int | None  # stated by the container or estimated; None when unknown
    duration_seconds: float | None
    color: ColorInfo
    bits: int
    sample_aspect_ratio: Fraction
    display_matrix: tuple[int, ...] | None
    interlaced: bool
    alpha: bool
    hdr10: Hdr10 | None
    dynamic_hdr: tuple[str, ...]  # kinds of per-frame HDR metadata, which cannot be kept
    origin: Fraction = Fraction(0)  # seconds that players show as zero: transport streams' clock

    @property
    def rotation(self) -> int:
        """Degrees the picture is turned clockwise when shown: 0, 90, 180 or 270."""
        if self.display_matrix is None:
            return 0
        a, b = self.display_matrix[0], self.display_matrix[1]
        if abs(a) >= abs(b):
            return 0 if a >= 0 else 180
        return 90 if b > 0 else 270

    @property
    def sideways(self) -> bool:
        return self.rotation in (90, 270)

    @property
    def display_aspect_ratio(self) -> Fraction:
        """Width to height of the stored picture as it is shown, before rotation."""
        return self.sample_aspect_ratio * Fraction(self.width, self.height)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) after rotation."""
        return (self.height, self.width) if self.sideways else (self.width, self.height)


def open_input(path: str | Path) -> InputContainer:
    """Open a media file, or say in one line why that cannot be done.

    Raises:
        InputError: No such file, not a regular file, empty, or not media.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file.")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name one video in it.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes).")
    try:
        return av.open(os.path.abspath(path), metadata_errors="replace")
    except PermissionError as e:
        raise InputError(f"{path}: no permission to read it.") from e
    except (av.FFmpegError, OSError) as e:
        raise InputError(
            f"{path}: not a readable video ({e.strerror or e}). "
            "Is it complete? An MP4 cut off before its index cannot be read by anything."
        ) from e


def video_stream(container: InputContainer, path: str | Path) -> VideoStream:
    """The stream to upscale: the default one, else the first; never a cover picture."""
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(f"{path}: no video stream, only {kinds}. Is it an audio file?")
    chosen = next(
        (s for s in streams if s.disposition & av.stream.Disposition.default),
        streams[0],
    )
    if chosen.codec_context is None:
        raise InputError(f"{path}: its video codec is not known to this FFmpeg.")
    return chosen


def probe(path: str | Path) -> VideoInfo:
    """Describe the video stream of a file by its headers and its first frames.

    Raises:
        InputError: Unreadable, without video, or of a kind sharpreel does not take.
    """
    with open_input(path) as container:
        stream = video_stream(container, path)
        frames = []
        try:
            for packet in container.demux(stream):
                try:
                    frames += packet.decode()
                except av.FFmpegError:
                    continue
                if len(frames) >= PROBE_FRAMES:
                    break
        except av.FFmpegError as e:
            raise InputError(f"{path}: cannot be read ({e.strerror}).") from e
        if not frames:
            raise InputError(f"{path}: no frame of its {stream.codec_context.name} video decodes.")
        info = _describe(container, stream, frames[0], str(path))
        return replace(info, interlaced=any(f.interlaced_frame for f in frames))


def _describe(
    container: InputContainer, stream: VideoStream, frame: VideoFrame, path: str
) -> VideoInfo:
    context = stream.codec_context
    if not (0 < frame.width <= MAX_SIDE and 0 < frame.height <= MAX_SIDE):
        raise InputError(f"{path}: {frame.width}x{frame.height} is not a size sharpreel takes.")
    time_base = stream.time_base or Fraction(1, 1000)
    seconds = None
    if stream.duration is not None:
        seconds = float(stream.duration * time_base)
    elif stated := _stated_seconds(stream):
        seconds = stated
    elif container.duration is not None:
        seconds = container.duration / 1e6
    rate = stream.average_rate or stream.base_rate or Fraction(25)
    if frame.pts is None:  # a bare stream: FFmpeg supposes 25, the codec's headers may know
        rate = stream.guessed_rate or rate
    num_frames = stream.frames or int(stream.metadata.get("NUMBER_OF_FRAMES", 0)) or None
    if seconds and num_frames and rate > 2 * num_frames / seconds:
        rate = Fraction(num_frames / seconds).limit_denominator(1001)  # a rate of 1000 is no rate
    if seconds:
        estimate = max(round(seconds * rate), 1)
        # Fragmented files state the frames of their first fragment only.
        if num_frames is None or (num_frames < estimate // 2 and "mp4" in container.format.name):
            num_frames = estimate
    side_data = side_data_of(frame)
    description = frame.format
    alpha = any(c.is_alpha for c in description.components)
    if container.format.name == "gif":
        alpha = not _opaque(frame)  # GIF is decoded as BGRA, transparent or not
    alpha = alpha or stream.metadata.get("alpha_mode") == "1"
    return VideoInfo(
        path=path,
        container=container.format.name,
        stream_index=stream.index,
        codec=context.codec.canonical_name,
        pix_fmt=description.name,
        width=frame.width,
        height=frame.height,
        time_base=time_base,
        rate=Fraction(rate),
        start_pts=frame.pts or 0,
        num_frames=num_frames,
        duration_seconds=seconds,
        color=color_of(frame, path),
        bits=max(c.bits for c in description.components),
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
        display_matrix=display_matrix_of(side_data),
        interlaced=bool(frame.interlaced_frame),
        alpha=alpha,
        hdr10=_hdr10_of(side_data),
        origin=_origin(container),
        dynamic_hdr=tuple(dict.fromkeys(DYNAMIC_HDR[k] for k in side_data if k in DYNAMIC_HDR)),
    )


def _stated_seconds(stream: VideoStream) -> float | None:
    """What a Matroska file says in a tag: this stream's own length, 00:01:02.345000000."""
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _origin(container: InputContainer) -> Fraction:
    """Where the clock of a file stands at its beginning, if its kind starts clocks anywhere."""
    free = bool(int(container.format.flags) & AVFMT_TS_DISCONT)
    start = container.start_time
    return Fraction(start, 1_000_000) if free and start and start > 0 else Fraction(0)


def _opaque(frame: VideoFrame) -> bool:
    return bool((frame.to_ndarray(format="rgba")[..., 3] == 255).all())


def color_of(frame: VideoFrame, path: str) -> ColorInfo:
    """The colour description of a decoded frame, with what it does not state filled in.

    Raises:
        InputError: A matrix that cannot be converted here.
    """
    if frame.format.is_rgb or frame.format.name == "pal8":
        return ColorInfo(RGB, True, frame.color_primaries, frame.color_trc)
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    matrix, guessed = int(frame.colorspace), False
    if matrix == UNSPECIFIED or (matrix == RGB and not frame.format.is_rgb):
        matrix, guessed = default_matrix(frame.width, frame.height), True
    if matrix not in MATRICES:
        raise InputError(
            f"{path}: colour matrix {matrix} of ITU-T H.273 (such as ICtCp or YCgCo) cannot be "
            "converted; convert the video to BT.709 or BT.2020 first."
        )
    return ColorInfo(matrix, full, int(frame.color_primaries), int(frame.color_trc), guessed)


def default_matrix(width: int, height: int) -> int:
    """BT.601 for standard definition, BT.709 above it: what players assume (mpv's rule)."""
    return BT709 if width >= 1280 or height > 576 else BT601


def side_data_of(frame: VideoFrame) -> dict[str, bytes]:
    """What a frame carries beside its picture, by FFmpeg's names without their prefix."""
    return {d.type.name: bytes(d) for d in cast(Iterable[Any], frame.side_data)}


def display_matrix_of(side_data: dict[str, bytes]) -> tuple[int, ...] | None:
    matrix = side_data.get("DISPLAYMATRIX")
    return struct.unpack("<9i", matrix) if matrix else None


def upright(pixels: Pixels, matrix: tuple[int, ...] | None) -> Pixels:
    """A picture (H, W, C) turned and mirrored as its display matrix wants it shown."""
    if matrix is None:
        return pixels
    a, b, _, c, d, *_ = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _unknown_side_data(cls: type[Enum], value: object) -> Enum:
    made: Any = object.__new__(cls)
    made._name_, made._value_ = f"UNKNOWN_{value}", value
    return cast(Enum, made)


# PyAV refuses a frame with side data that is younger than PyAV, such as EXIF or a view's number.
setattr(av.sidedata.sidedata.Type, "_missing_", classmethod(_unknown_side_data))  # noqa: B010


def _hdr10_of(side_data: dict[str, bytes]) -> Hdr10 | None:
    mastering = side_data.get("MASTERING_DISPLAY_METADATA")
    light = side_data.get("CONTENT_LIGHT_LEVEL")
    if mastering is None and light is None:
        return None
    hdr = Hdr10()
    if mastering is not None:
        # AVMasteringDisplayMetadata: rationals of R, G, B, white (x, y), min, max, two flags.
        numbers = struct.unpack("<20i", mastering[:80])
        values = [Fraction(n, d or 1) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
        pairs = tuple(zip(values[0:8:2], values[1:8:2], strict=True))
        hdr = replace(hdr, primaries=pairs, min_luminance=values[8], max_luminance=values[9])
    if light is not None:
        max_cll, max_fall = struct.unpack("<2I", light[:8])
        hdr = replace(hdr, max_cll=max_cll, max_fall=max_fall)
    return hdr


class _Converter:
    """A small libavfilter graph that turns frames of one kind into another, rebuilt on change."""

    def __init__(self, filters: list[tuple[str, str]], time_base: Fraction) -> None:
        self._filters, self._time_base = filters, time_base
        self._kind: tuple[int, int, str] | None = None
        self._graph: av.filter.Graph | None = None

    def push(self, frame: VideoFrame) -> None:
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
        if self._graph is None:
            return
        while True:
            try:
                yield self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return

    def finish(self) -> Iterator[VideoFrame]:
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self.pull()


def to_rgb(info: VideoInfo, alpha: bool = False) -> _Converter:
    """Decoded frames -> RGB or RGBA, 16 bits when the source has more than 8; deinterlaced."""
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
    return _Converter([*filters, ("format", wide if alpha else plain)], info.time_base)


def split_alpha(frame: VideoFrame, alpha: bool) -> tuple[Pixels, Pixels | None]:
    """A converted frame as RGB (H, W, 3) and, where asked for, alpha (H, W, 1)."""
    pixels: Any = frame.to_ndarray()
    if not alpha:
        return pixels, None
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3:])


@dataclass
class ReadReport:
    """What became of a file's frames while it was read.

    `errors` are the (pts, what happened) of packets that did not decode, `missing` the frames that
    the container promises behind its end, `damaged` those that decoded with faults.
    """

    decoded: int = 0
    missing: int = 0
    damaged: int = 0
    retimed: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return len(self.errors) + self.missing


class VideoReader:
    """Frames of one video in display order, each once, with the file's own timestamps.

    Iterate it once. `report` counts what could not be decoded, when iteration has ended.

    Args:
        info: From `probe`.
        start_pts: Begin at the first frame of at least this pts, by seeking.
        strict: Stop with InputError at the first frame that does not decode.
        alpha: Deliver the transparency too.
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
        self._first_pts: int | None = None  # of the frames that were decoded
        self._last_pts: int | None = None
        self._wanted_from: int | None = None  # earlier frames are decoded and not converted
        self._keys: set[int] = set()
        # MP4 says how long it is until the next frame that is *decoded*, which may be far too long.
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
        self._wanted_from = early if info.interlaced else start
        if early > info.start_pts:
            with self._opened() as (container, stream):
                container.seek(early, stream=stream, backward=True)
                frames = self._read(container, stream)
                first = next(frames, None)
                if first is not None and self._first_pts is not None and self._first_pts <= start:
                    yield from (f for f in itertools.chain([first], frames) if f.pts >= start)
                    return
            # The index led behind the place: read from the beginning instead.
            vars(self.report).update(vars(ReadReport()))  # others hold this very object
            self._first_pts = self._last_pts = None
            self._converter = to_rgb(info, self._alpha)
        with self._opened() as (container, stream):  # a transport stream's start is no seek's aim
            yield from (f for f in self._read(container, stream) if f.pts >= start)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        with open_input(self.info.path) as container:
            stream = container.streams[self.info.stream_index]
            assert isinstance(stream, VideoStream)
            # Frame threads report an error some frames late and take good frames down with it.
            stream.thread_type = "SLICE"
            yield container, stream

    def _read(
        self, container: InputContainer, stream: VideoStream, seen: Iterable[VideoFrame] = ()
    ) -> Iterator[Frame]:
        """Decode to the end; `seen` are frames that were decoded before."""
        decode = _decoder(stream, self._alpha)
        end = 0
        for raw in seen:
            yield from self._convert(raw)
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard and packet.pts is not None:
                    end = max(end, packet.pts + (packet.duration or 0))
                try:
                    decoded = decode(packet)
                except av.FFmpegError as e:
                    self._lose(packet.pts, "a frame does not decode", e)
                    continue
                for raw in decoded:
                    yield from self._convert(raw)
        except av.FFmpegError as e:
            self._lose(end, "the file cannot be read further", e)
        yield from self._frames(self._converter.finish())
        self.report.missing = self._missing(container, stream, end)
        if self.report.missing and self._strict:
            raise InputError(
                f"{self.info.path}: ends at {self._seconds(end)}, {self.report.missing} frames "
                "early; stopped because of --strict."
            )

    def _missing(self, container: InputContainer, stream: VideoStream, end: int) -> int:
        """Frames that the container's index names behind the end of its data."""
        if not stream.duration or not stream.frames:
            return 0
        short = (stream.start_time or 0) + stream.duration - end
        if short <= 1.5 / (self.info.rate * self.info.time_base):
            return 0
        container.seek(self.info.start_pts, stream=stream, backward=True)
        try:
            there = sum(1 for packet in container.demux(stream) if packet.size)
        except av.FFmpegError:
            return 0
        return max(stream.frames - there, 0)

    def _lose(self, pts: int | None, reason: str, cause: Exception | None = None) -> None:
        where = pts if pts is not None else self._last_pts or 0
        if self._start_pts is not None and where < self._start_pts:
            return  # before what was asked for
        self.report.errors.append((where, reason))
        if self._strict:
            raise InputError(
                f"{self.info.path}: {reason} at {self._seconds(where)}; "
                "stopped because of --strict."
            ) from cause

    def _seconds(self, pts: int | None) -> str:
        return "an unknown time" if pts is None else f"{float(pts * self.info.time_base):.2f} s"

    def _check(self, frame: VideoFrame) -> None:
        info = self.info
        if info.container == "gif" and not self._alpha and not _opaque(frame):
            raise InputError(transparent(info.path))
        if (frame.width, frame.height) != (info.width, info.height):
            raise InputError(
                f"{info.path}: the frame at {self._seconds(frame.pts)} is "
                f"{frame.width}x{frame.height}, those before are {info.width}x{info.height}. "
                "Cut the file there, or scale it to one size first."
            )
        self.report.damaged += frame.is_corrupt

    def _timed(self, frame: VideoFrame) -> VideoFrame:
        """The frame with a pts that exists and is later than the one before it."""
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
        self._check(raw)
        timed = self._timed(raw)
        pts = timed.pts or 0
        if self._first_pts is None:
            self._first_pts = pts
        if self._wanted_from is not None and pts < self._wanted_from:
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


class Y4mReader(VideoReader):
    """Frames of a y4m stream that can be read only once, such as standard input.

    Raises:
        InputError: Not y4m.
    """

    def __init__(self, file: IO[bytes], name: str = "standard input") -> None:
        self._counted = _Counted(file)
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
        super().__init__(_describe(self._container, self._stream, first, name))
        self._first = first

    def __iter__(self) -> Iterator[Frame]:
        yield from self._read(self._container, self._stream, [self._first])
        if self._cut_off():
            self._lose(self._last_pts, "the stream ends within a frame")

    def _cut_off(self) -> bool:
        """Did the stream end within a frame? FFmpeg leaves such a one out without a word."""
        components = self._first.format.components
        samples = sum(c.width * c.height for c in components)
        size = len(Y4M_FRAME) + samples * (2 if max(c.bits for c in components) > 8 else 1)
        head = self._counted.head.find(b"\n") + 1
        plain = self._counted.head[head:].startswith(
            Y4M_FRAME
        )  # frames may have words of their own
        return plain and (self._counted.count - head) % size != 0


Y4M_FRAME = b"FRAME\n"


class _Counted:
    """A stream to read from that remembers how much came, and its beginning."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.count, self.head = file, 0, b""

    def read(self, size: int = -1) -> bytes:
        got = self._file.read(size)
        self.count += len(got)
        if len(self.head) < 512:
            self.head += got[:512]
        return got


def _decoder(stream: VideoStream, alpha: bool) -> Callable[[av.Packet[Any]], list[VideoFrame]]:
    """The stream's own decoder; for the alpha of VP8 and VP9, libvpx's, which alone knows it."""
    name = {"vp9": "libvpx-vp9", "vp8": "libvpx"}.get(stream.codec_context.codec.canonical_name)
    if not alpha or name is None or name not in av.codecs_available:
        return lambda packet: packet.decode()
    context: Any = av.CodecContext.create(name, "r")

    def decode(packet: av.Packet[Any]) -> list[VideoFrame]:
        frames: list[VideoFrame] = context.decode(packet if packet.size else None)
        return frames

    return decode


def transparent(path: str) -> str:
    """What is said of a video whose transparency a video output would lose."""
    return (
        f"{path}: the video has transparency, which video files of this kind cannot keep. "
        "Give an output folder (-o frames/) to get PNG pictures with their alpha."
    )


def read_frames(path: str | Path, max_frames: int | None = None) -> Pixels:
    """All frames of a short video as one RGB array, (T, H, W, 3), uint8 or uint16."""
    frames: list[Pixels] = []
    for frame in VideoReader(probe(path)):
        frames.append(frame.pixels)
        if max_frames is not None and len(frames) >= max_frames:
            break
    return np.stack(frames)


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


def check_quality(codec: str, crf: int | None, preset: str | None) -> None:
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


def check_encoder(settings: EncodeSettings) -> None:
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


def usable_cpus() -> int:
    """Processors this process may use: its affinity, and the quota of its container."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = cgroups.processors()
    return count if quota is None else min(count, max(int(quota), 1))


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


def from_rgb(settings: EncodeSettings) -> _Converter:
    """RGB frames -> the encoder's size, pixel format, matrix and range, in one conversion.

    Where the size differs it is swscale's bicubic with Keys' a = -0.5, antialiased.
    """
    color = settings.color
    scale = f"w={settings.width}:h={settings.height}:flags={SCALE_FLAGS}:param0=0:param1=0.5"
    if not VideoFormat(settings.pix_fmt).is_rgb:
        full = "full" if color.full_range else "limited"
        scale += f":in_range=full:out_range={full}:out_color_matrix={MATRICES[color.matrix]}"
    return _Converter([("scale", scale), ("format", settings.pix_fmt)], settings.time_base)


def to_video_frame(pixels: Pixels) -> VideoFrame:
    """An RGB array as a libav frame that shares no memory with it."""
    return VideoFrame.from_ndarray(
        np.ascontiguousarray(pixels),
        "rgb48le" if pixels.dtype == np.uint16 else "rgb24",
    )


class VideoEncoder:
    """One encoded stretch of video in a Matroska file of its own.

    Matroska counts in milliseconds, so its timestamps only keep order; `pts` and `order` remember
    the exact ones: `order[k]` is the display rank of the k-th packet in the file.
    """

    def __init__(self, path: Path, settings: EncodeSettings) -> None:
        self.path, self.settings = path, settings
        self.pts: list[int] = []
        self.order: list[int] = []
        self._shown: list[int] = []  # milliseconds of each rank, strictly increasing
        self._rank: dict[int, int] = {}
        self._converter = from_rgb(settings)
        try:
            self._file = av.open(
                os.path.abspath(path),
                "w",
                format="matroska",
                options={"fflags": "+bitexact", "avoid_negative_ts": "disabled"},
            )
        except OSError as e:
            raise write_error(path, e) from e
        self._stream = add_video_stream(self._file, settings)

    def write(self, frame: Frame) -> None:
        self._rank[frame.pts] = len(self.pts)
        self.pts.append(frame.pts)
        shown = round((frame.pts - self.pts[0]) * self.settings.time_base * 1000)
        self._shown.append(max(shown, self._shown[-1] + 1) if self._shown else 0)
        raw = to_video_frame(frame.pixels)
        raw.pts, raw.time_base = frame.pts, self.settings.time_base
        self._converter.push(raw)
        self._encode(self._converter.pull())

    def _encode(self, converted: Iterator[VideoFrame]) -> None:
        for ready in converted:
            ready.pict_type = 0
            # ProRes takes these from the frame, the others from the encoder.
            ready.color_primaries = self.settings.color.primaries
            ready.color_trc = self.settings.color.transfer
            with own_priority():
                packets = self._stream.encode(ready)
            self._mux(packets)

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            assert packet.pts is not None
            assert packet.time_base is not None
            exact = round(packet.pts * packet.time_base / self.settings.time_base)
            rank = self._rank.pop(exact)
            self.order.append(rank)
            packet.time_base = Fraction(1, 1000)
            packet.pts = self._shown[rank]
            packet.dts = len(self.order) - 1000  # not stored; must only rise and stay behind pts
            packet.duration = 0
            try:
                self._file.mux_one(packet)
            except OSError as e:
                raise write_error(self.path, e) from e

    def close(self) -> None:
        """Flush the encoder and finish the file; every frame written is a packet now."""
        self._encode(self._converter.finish())
        try:
            self._mux(self._stream.encode(None))
            self._file.close()
        except OSError as e:
            raise write_error(self.path, e) from e
        if sorted(self.order) != list(range(len(self.pts))):
            raise SharpreelError(
                f"{self.path}: the encoder returned {len(self.order)} packets "
                f"for {len(self.pts)} frames."
            )

    def abandon(self) -> None:
        """Close without finishing; the file is not to be used."""
        with contextlib.suppress(OSError, av.FFmpegError):
            self._file.close()


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


def has_avx512() -> bool:
    """Does this processor have AVX-512, as NumPy found out when it was imported?"""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore
    except ImportError:  # NumPy 1
        from numpy.core._multiarray_umath import __cpu_features__ as features  # type: ignore
    return bool(features.get("AVX512F", False))
