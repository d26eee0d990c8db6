"""Everything in a file beside the picture: carried across, packet for packet.

`plan_streams` decides, before the first frame, which streams an output can hold, by really opening
such an output; what it cannot hold is re-encoded, moved to Matroska, or named with the reason.
`assemble` joins the encoded segments and the copied streams to the finished file, with the exact
timestamps of the input.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Disposition, Stream

from sharpreel import video
from sharpreel.errors import InputError, SharpreelError, UsageError, write_error

# Suffix -> (libavformat's muxer, seconds its timestamps are exact to: None is exact).
CONTAINERS: dict[str, tuple[str, Fraction | None]] = {
    ".mkv": ("matroska", Fraction(1, 1000)),
    ".webm": ("webm", Fraction(1, 1000)),
    ".mp4": ("mp4", None),
    ".m4v": ("mp4", None),
    ".mov": ("mov", None),
    ".ts": ("mpegts", Fraction(1, 90000)),
    ".m2ts": ("mpegts", Fraction(1, 90000)),
    ".mts": ("mpegts", Fraction(1, 90000)),
}
COVER = Disposition.attached_pic
TS_TAKES = {
    "audio": frozenset("mp1 mp2 mp3 aac aac_latm ac3 eac3 dts truehd opus s302m".split()),
    "subtitle": frozenset({"dvb_subtitle", "dvb_teletext"}),
    "attachment": frozenset(),
}
REHEARSED_PACKETS = 8  # of each stream: demuxers of transport streams want to see some


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream of the input.

    `action` is one of: "upscale", "copy", "transcode" (audio), "convert" (MP4's subtitles to
    SubRip), "attach" (a cover kept as an attachment), "made" (the muxer writes it from a tag) and
    "drop".
    """

    index: int
    kind: str
    codec: str
    action: str
    why: str = ""
    language: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class Window:
    """The stretch of the input that is kept, in seconds of its timestamps; None is open."""

    start: Fraction | None = None
    end: Fraction | None = None

    def holds(self, seconds: Fraction, lasts: Fraction = Fraction(0)) -> bool:
        """Is what begins at `seconds`, and is still there `lasts` later, inside?"""
        inside = self.start is None or seconds >= self.start or seconds + lasts > self.start
        return inside and (self.end is None or seconds < self.end)

    @property
    def shift(self) -> Fraction:
        """What is taken from every timestamp, so that a cut starts at zero."""
        return self.start or Fraction(0)


WHOLE = Window()


def codec_name(stream: Stream) -> str:
    """The stream's codec as users know it, or what little is known."""
    context: Any = stream.codec_context  # None for what this FFmpeg has no decoder for
    if context is not None:
        return str(context.codec.canonical_name)
    if stream.type == "attachment":
        return str(stream.metadata.get("filename", "attachment"))
    return (getattr(stream, "name", None) if stream.type == "data" else None) or "unknown"


def _describe(stream: Stream, action: str, why: str = "") -> StreamPlan:
    return StreamPlan(
        stream.index,
        stream.type,
        codec_name(stream),
        action,
        why,
        stream.metadata.get("language"),
        stream_tags(stream).get("title"),
    )


def stream_tags(stream: Stream) -> dict[str, str]:
    """A stream's tags; what MP4 reads as "name" and writes from "title" is "title" in both."""
    tags = dict(stream.metadata)
    if "mp4" in stream.container.format.name and "name" in tags:
        tags.setdefault("title", tags.pop("name"))
    return tags


def is_cover(stream: Stream) -> bool:
    """Is it a cover picture, which containers show as a video stream?"""
    return stream.type == "video" and bool(stream.disposition & COVER)


def is_chapter_list(stream: Stream) -> bool:
    """Is it the text track in which MP4 and QuickTime keep their chapters?"""
    container = stream.container
    return (
        stream.type == "data"
        and "mp4" in container.format.name
        and codec_name(stream) == "bin_data"
        and bool(container.chapters())
    )


def plan_streams(
    source: InputContainer,
    picture: int,
    settings: video.EncodeSettings,
    suffix: str,
    allow_transcode: bool,
) -> list[StreamPlan]:
    """What becomes of each stream when the output has this suffix.

    Args:
        picture: Index of the stream that is upscaled.
        settings: The encoder's, which the container must take too.
        allow_transcode: Re-encode audio that the container refuses to AAC (Opus in WebM).

    Raises:
        UsageError: The container does not take the video codec.
    """
    if _loses_aspect(settings, suffix):
        raise UsageError(
            f"{suffix} cannot keep the sample aspect ratio {settings.sample_aspect_ratio} of "
            f"{settings.codec} video; choose .mkv with --codec h264 or hevc, or .mp4."
        )
    video.check_encoder(settings)
    if not _fits(source, picture, [], settings, suffix):
        raise UsageError(
            f"{suffix} does not take {settings.codec} video; choose another --codec or suffix."
        )
    plans = []
    for stream in source.streams:
        if stream.index == picture:
            plans.append(_describe(stream, "upscale"))
            continue
        plan = _plan_one(source, stream, picture, settings, suffix, allow_transcode)
        plans.append(plan)
    return plans


def _plan_one(
    source: InputContainer,
    stream: Stream,
    picture: int,
    settings: video.EncodeSettings,
    suffix: str,
    allow_transcode: bool,
) -> StreamPlan:
    special = _special(stream, CONTAINERS[suffix][0])
    if special is not None:
        return special
    refusal = _refuses_cover(source, suffix) if is_cover(stream) else ""
    copied = _describe(stream, "copy")
    if not refusal and _fits(source, picture, [copied], settings, suffix):
        return copied
    name = codec_name(stream)
    if stream.type == "audio" and stream.codec_context is not None and allow_transcode:
        target = "Opus" if CONTAINERS[suffix][0] == "webm" else "AAC"
        return _describe(stream, "transcode", f"{suffix} does not take {name}; becomes {target}")
    unknown = "its codec is not known to FFmpeg" if name == "unknown" else ""
    return _describe(stream, "drop", refusal or unknown or f"{suffix} does not take it")


def _special(stream: Stream, muxer: str) -> StreamPlan | None:
    """What becomes of a stream that this muxer holds in a form of its own; None for the others."""
    if stream.type == "data" and muxer in ("mp4", "mov") and "timecode" in stream.metadata:
        # The muxer writes a timecode track of its own from the tag that the video carries.
        return _describe(stream, "made", "written anew from the timecode tag")
    if is_chapter_list(stream):
        return _describe(stream, "made", "written anew from the chapters")
    if is_cover(stream) and muxer == "matroska":
        return _describe(stream, "attach", "kept as an attachment, as Matroska wants it")
    if codec_name(stream) == "mov_text" and muxer == "matroska":
        return _describe(stream, "convert", "becomes SubRip: the words and times, not the styles")
    return None


def _refuses_cover(source: InputContainer, suffix: str) -> str:
    """Why a file of this kind would lose its cover picture; "" when it would not."""
    muxer = CONTAINERS[suffix][0]
    if muxer == "mov":
        return f"FFmpeg writes no cover pictures into {suffix}"
    beside = {key.lower() for key in source.metadata} - CONTAINER_TAGS - ITUNES_TAGS
    if muxer == "mp4" and beside:
        return f"{suffix} holds it or the tags {', '.join(sorted(beside))}, not both"
    return ""


def _loses_aspect(settings: video.EncodeSettings, suffix: str) -> bool:
    """PyAV cannot tell Matroska the pixels' shape; H.264 and HEVC carry it themselves."""
    unasked = settings.sample_aspect_ratio == 1 or settings.codec.startswith(("h264", "hevc"))
    return CONTAINERS[suffix][0] in ("matroska", "webm") and not unasked


def _fits(
    source: InputContainer,
    picture: int,
    others: Iterable[StreamPlan],
    settings: video.EncodeSettings,
    suffix: str,
) -> bool:
    """Does a file of this kind take these streams? Found by writing the header of one."""
    muxer, others = CONTAINERS[suffix][0], list(others)
    if muxer == "mpegts":  # FFmpeg writes the rest as private data, which nothing reads
        if not settings.codec.startswith(("h264", "hevc")):
            return False
        streams = [source.streams[plan.index] for plan in others]
        if any(s.type in TS_TAKES and codec_name(s) not in TS_TAKES[s.type] for s in streams):
            return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            video.add_video_stream(trial, settings)
            for plan in others:
                _add_copy(trial, source.streams[plan.index])
            video.start_encoding(trial)
    except (ValueError, av.FFmpegError, OSError):
        return False
    return True


def _add_copy(out: OutputContainer, stream: Stream) -> Stream:
    if isinstance(stream, AttachmentStream):
        name = stream.metadata.get("filename") or stream.name or "attachment"
        copy: Stream = out.add_attachment(
            name, stream.mimetype or "application/octet-stream", stream.data
        )
    else:
        copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream_tags(stream))
    copy.disposition = stream.disposition
    if out.format.name == "mpegts" and stream.container.format.name == "mpegts":
        copy.id = stream.id
    return copy


def default_suffix(source: Path, container: str) -> str:
    """The input's own kind of file where its timestamps can be exact there, else Matroska."""
    suffix = source.suffix.lower()
    if suffix in CONTAINERS:
        return suffix
    return ".mp4" if "mp4" in container else ".mkv"


@dataclass(frozen=True)
class Segment:
    """One encoded stretch: its file, and the exact timestamps that belong to its packets."""

    path: Path
    pts: list[int]
    order: list[int]


def _picture_packets(
    segments: list[Segment], last_duration: int, shift: int
) -> Iterator[tuple[int, int, int, av.Packet[Any]]]:
    """(dts, pts, duration, packet) of the joined segments, in decoding order.

    dts is the display timeline read `delay` places late, so it rises and never passes pts.
    """
    shown = [pts - shift for segment in segments for pts in segment.pts]
    delay = max((k - rank for s in segments for k, rank in enumerate(s.order)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else last_duration or 1
    early = [shown[0] - step * k for k in range(delay, 0, -1)]
    place = first = 0
    for segment in segments:
        with av.open(os.path.abspath(segment.path)) as file:
            stream = file.streams.video[0]
            packets = (p for p in file.demux(stream) if p.size)
            for rank, packet in zip(segment.order, packets, strict=True):
                at = first + rank
                end = shown[at + 1] if at + 1 < len(shown) else shown[at] + last_duration
                dts = early[place] if place < delay else shown[place - delay]
                place += 1
                yield dts, shown[at], end - shown[at], packet
        first += len(segment.pts)


@dataclass(frozen=True)
class Assembly:
    """All that `assemble` needs beside the segments; `source` None: there is only the picture."""

    source: Path | None
    streams: tuple[StreamPlan, ...]
    suffix: str
    settings: video.EncodeSettings
    display_matrix: tuple[int, ...] | None
    last_duration: int  # of the last frame, in the picture's time base
    window: Window = WHOLE


def assemble(
    plan: Assembly,
    segments: list[Segment],
    target: Path,
    progress: Callable[[float], None] | None = None,
    rehearsal: bool = False,
) -> None:
    """Write the finished file: the segments as one video, everything else as the plan says.

    Args:
        rehearsal: Write a few packets of each other stream only: enough to see what this kind of
            file does with their headers.

    Raises:
        DiskFullError: No space left.
        SharpreelError: The muxer refused what it had taken at planning time.
    """
    muxer = CONTAINERS[plan.suffix][0]
    options = {"fflags": "+bitexact"}
    if muxer == "mpegts":
        # Decoding begins before zero where B-frames are; the clock of a TS wraps, readers know it.
        options |= {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    if muxer in ("matroska", "webm"):
        # Audio often begins a little before zero; FFmpeg would move everything instead.
        options |= {"avoid_negative_ts": "disabled"}
    with (
        contextlib.nullcontext() if plan.source is None else video.open_input(plan.source) as source
    ):
        if muxer in ("mp4", "mov"):
            # Edit lists count in the movie's time scale: with one for all streams they are exact.
            options |= {"movie_timescale": str(_timescale(plan, source))}
            if not _copies_cover(plan, source):
                options |= {"movflags": "+use_metadata_tags"}
        try:
            with av.open(os.path.abspath(target), "w", format=muxer, options=options) as out:
                _Assembler(plan, segments, source, out, rehearsal).write(progress)
        except OSError as e:
            raise write_error(target, e) from e
        except (ValueError, av.FFmpegError) as e:
            raise SharpreelError(f"{target}: the {muxer} muxer failed: {e}") from e


def _copies_cover(plan: Assembly, source: InputContainer | None) -> bool:
    """Is a cover picture copied? MP4 has a list of tags that holds one, and one of free keys."""
    return source is not None and any(
        p.action == "copy" and is_cover(source.streams[p.index]) for p in plan.streams
    )


def _timescale(plan: Assembly, source: InputContainer | None) -> int:
    """Ticks a second that give the picture, and the other streams where possible, exact starts."""
    ticks = plan.settings.time_base.denominator
    while ticks < 10000:
        ticks *= 2
    for entry in plan.streams:
        unit = None if source is None else source.streams[entry.index].time_base
        if entry.action == "copy" and unit is not None:
            both = math.lcm(ticks, unit.denominator)
            ticks = both if both < 2**31 else ticks
    return min(ticks, 2**31 - 1)


Due = tuple[Fraction, int, Callable[[], None]]  # when, picture first, how to send it


class _Assembler:
    """The streams of one output, and their packets merged by time."""

    def __init__(
        self,
        plan: Assembly,
        segments: list[Segment],
        source: InputContainer | None,
        out: OutputContainer,
        rehearsal: bool,
    ) -> None:
        self._plan, self._segments, self._source, self._out = plan, segments, source, out
        self._rehearsal = rehearsal
        self._copies: dict[int, Stream] = {}
        self._transcoders: dict[int, _Transcoder] = {}
        self._texts: set[int] = set()  # those of the copies that become SubRip
        with av.open(os.path.abspath(segments[0].path)) as first:
            encoded = first.streams.video[0]
            if source is None:
                self._picture = _add_picture(out, plan, encoded, None)
                return
            for entry in plan.streams:
                stream = source.streams[entry.index]
                if entry.action == "upscale":
                    self._picture = _add_picture(out, plan, encoded, stream)
                elif entry.action == "copy":
                    self._copies[entry.index] = _add_copy(out, stream)
                elif entry.action == "transcode":
                    self._transcoders[entry.index] = _Transcoder(out, stream, plan.window)
                elif entry.action == "convert":
                    self._copies[entry.index] = _add_subrip(out, stream)
                    self._texts.add(entry.index)
                elif entry.action == "attach":
                    _attach_cover(out, source, stream)
        out.metadata.update(
            {k: v for k, v in source.metadata.items() if k.lower() not in CONTAINER_TAGS}
        )
        kept = chapters(source, plan.window)
        if kept:
            out.set_chapters(kept)

    def write(self, progress: Callable[[float], None] | None) -> None:
        video.start_encoding(self._out)
        others = self._first_of_others() if self._rehearsal else self._others()
        merged = heapq.merge(self._pictures(progress), others, key=lambda due: due[:2])
        for _, _, send in merged:
            send()
        for coder in self._transcoders.values():
            coder.finish()

    def _pictures(self, progress: Callable[[float], None] | None) -> Iterator[Due]:
        unit = self._plan.settings.time_base
        shift = round(self._plan.window.shift / unit)
        total = sum(len(s.pts) for s in self._segments)
        joined = _picture_packets(self._segments, self._plan.last_duration, shift)
        for k, (dts, pts, duration, packet) in enumerate(joined):
            packet.time_base, packet.stream = unit, self._picture
            packet.pts, packet.dts, packet.duration = pts, dts, duration
            if progress is not None and k % 250 == 0:
                progress(k / total)
            yield dts * unit, 0, partial(self._out.mux_one, packet)

    def _with_packets(self, source: InputContainer) -> list[Stream]:
        """The other streams that are read packet by packet."""
        wanted = [source.streams[i] for i in (*self._copies, *self._transcoders)]
        return [s for s in wanted if s.type != "attachment"]

    def _others(self) -> Iterator[Due]:
        source, window = self._source, self._plan.window
        if source is None:
            return
        wanted = self._with_packets(source)
        if not wanted:
            return
        latest = Fraction(0)
        early = {s.index: early_dts(source, s) for s in wanted if _plain_video(s)}
        for packet in source.demux(wanted):
            unit, index = packet.time_base, packet.stream_index
            if packet.size == 0 or unit is None or closes_subtitles(packet):
                continue
            if packet.dts is None and early.get(index):
                packet.dts = early[index].pop(0)
            at = packet.dts if packet.dts is not None else packet.pts
            latest = latest if at is None else max(latest, at * unit)
            shown = latest if packet.pts is None else packet.pts * unit
            due = latest - window.shift
            if index in self._transcoders:
                yield due, 1, partial(self._transcoders[index].send, packet)
            elif window.holds(shown, subtitle_length(packet)) or is_cover(packet.stream):
                yield due, 1, partial(self._copy, packet, self._copies[index])

    def _first_of_others(self) -> Iterator[Due]:
        """A few packets of each stream, or a few zero bytes where none comes early."""
        source = self._source
        if source is None:
            return
        wanted = self._with_packets(source)
        clocks = {s.index: 0 for s in wanted}
        seen: Counter[int] = Counter()
        for packet in itertools.islice(source.demux(wanted), 500) if wanted else ():
            index = packet.stream_index
            if packet.size and seen[index] < REHEARSED_PACKETS:
                seen[index] += 1
                packet.pts = packet.dts = clocks[index]
                clocks[index] += packet.duration or 1
                coder = self._transcoders.get(index)
                send = partial(coder.send, packet) if coder else None
                yield Fraction(0), 1, send or partial(self._put, packet, self._copies[index])
            if all(seen[s.index] == REHEARSED_PACKETS for s in wanted):
                break
        for stream in wanted:
            if not seen[stream.index] and stream.index in self._copies:
                packet = av.Packet(bytes(2))
                packet.pts = packet.dts = 0
                packet.time_base = stream.time_base or Fraction(1, 1000)
                yield Fraction(0), 1, partial(self._put, packet, self._copies[stream.index])

    def _put(self, packet: av.Packet[Any], stream: Stream) -> None:
        packet.stream = stream
        self._out.mux_one(packet)

    def _copy(self, packet: av.Packet[Any], stream: Stream) -> None:
        shift = round(self._plan.window.shift / packet.time_base) if packet.time_base else 0
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if packet.stream.type == "subtitle" and shift and packet.pts is not None and packet.pts < 0:
            packet.duration = (packet.duration or 0) + packet.pts  # begun before the cut
            packet.pts = packet.dts = 0
        if packet.stream_index in self._texts:
            packet = subrip(packet)
        if packet.size:
            self._put(packet, stream)


def _add_subrip(out: OutputContainer, stream: Stream) -> Stream:
    text = out.add_mux_stream("subrip")
    text.metadata.update(stream_tags(stream))
    text.disposition = stream.disposition
    return text


def subrip(packet: av.Packet[Any]) -> av.Packet[Any]:
    """A packet of MP4's timed text (mov_text) as one of SubRip: the words, without the styles.

    mov_text is two bytes of length, so many bytes of UTF-8, and boxes with styles; an empty one
    ends the one before it, which SubRip says by its duration.
    """
    data = bytes(packet)
    text = av.Packet(data[2 : 2 + int.from_bytes(data[:2], "big")])
    text.pts, text.dts, text.duration = packet.pts, packet.dts, packet.duration
    text.time_base = packet.time_base
    return text


def closes_subtitles(packet: av.Packet[Any]) -> bool:
    """Is it the empty text at the end of MP4's subtitles, which the muxer writes itself?"""
    return not packet.duration and bytes(packet) == bytes(2) and _is_mov_text(packet.stream)


def _is_mov_text(stream: Stream) -> bool:
    return stream.type == "subtitle" and codec_name(stream) == "mov_text"


def _plain_video(stream: Stream) -> bool:
    return stream.type == "video" and not is_cover(stream)


def early_dts(source: InputContainer, stream: Stream) -> list[int]:
    """Decoding times for the first pictures, where the demuxer, as Matroska's, knows none.

    pts   0 120  40  80 ...       what B-frames look like
    dts   -   -   0  40 ...  ->  [-2, -1] for the first two
    """
    count = 0
    with av.open(source.name) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.dts is not None:
                return [packet.dts - k for k in range(count, 0, -1)]
            count += packet.size > 0
    return []


def subtitle_length(packet: av.Packet[Any]) -> Fraction:
    """For how many seconds a subtitle stays on the screen; 0 for other packets."""
    if packet.stream.type != "subtitle" or packet.time_base is None:
        return Fraction(0)
    return (packet.duration or 0) * packet.time_base


def _add_picture(
    out: OutputContainer, plan: Assembly, encoded: Stream, original: Stream | None
) -> Stream:
    """The output's video stream, for packets that are encoded already.

    PyAV gives an average rate, without which there is no timecode track and no frame rate in
    Matroska, only to streams that have an encoder. So the stream gets the smallest one there is,
    never used, and then the real size and codec data of the segments.
    """
    s = plan.settings
    stream: Any = out.add_stream(video.CODECS[s.codec].encoder, rate=s.rate, options=s.options())
    context = stream.codec_context
    context.width = context.height = 64
    context.pix_fmt, context.thread_count, context.time_base = s.pix_fmt, 1, s.time_base
    video.set_color(context, s)
    with video.own_priority():
        context.open()
    real: Any = encoded.codec_context
    context.width, context.height, context.extradata = real.width, real.height, real.extradata
    context.sample_aspect_ratio = s.sample_aspect_ratio
    if s.codec.startswith("hevc") and plan.suffix in (".mp4", ".m4v", ".mov"):
        context.codec_tag = "hvc1"  # what Apple's players want; others take either
    stream.time_base = s.time_base
    if original is not None:
        stream.metadata.update(true_tags(original))
        stream.disposition = original.disposition
    if plan.display_matrix is not None:
        stream.set_display_matrix(plan.display_matrix)
    return cast(Stream, stream)


# Tags that describe the old encoding, which would be lies about the new one.
STALE_TAGS = frozenset(
    "encoder encoder_options duration bps number_of_frames number_of_bytes _statistics_writing_app "
    "_statistics_writing_date_utc _statistics_tags vendor_id alpha_mode".split()
)


def is_stale(tag: str) -> bool:
    """Does the tag describe the old encoding? mkvmerge adds a language to some: BPS-eng."""
    return tag.lower().partition("-")[0] in STALE_TAGS


def true_tags(stream: Stream) -> dict[str, str]:
    """The tags that stay true when the stream is encoded anew."""
    return {k: v for k, v in stream_tags(stream).items() if not is_stale(k)}


# Tags that the muxer writes itself from what it is.
CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
# Tags that MP4 can hold beside a cover picture.
ITUNES_TAGS = frozenset(
    "title artist album_artist composer album date comment genre copyright grouping lyrics "
    "description synopsis show episode_id network keywords episode_sort season_number media_type "
    "hd_video gapless_playback compilation track disc tmpo creation_time".split()
)


def chapters(source: InputContainer, window: Window) -> list[Any]:
    """The chapters that begin or lie inside the window, moved with it."""
    kept = []
    for chapter in source.chapters():
        unit = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * unit, chapter["end"] * unit
        if window.start is not None:
            start = max(start, window.start)
        if window.end is not None:
            end = min(end, window.end)
        if end <= start and chapter["end"] > chapter["start"]:
            continue
        moved = {
            "start": round((start - window.shift) / unit),
            "end": round((end - window.shift) / unit),
        }
        kept.append({**chapter, **moved})
    return kept


def _attach_cover(out: OutputContainer, source: InputContainer, stream: Stream) -> None:
    kind = codec_name(stream)
    subtype, ending = ("png", "png") if kind == "png" else ("jpeg", "jpg")
    with av.open(source.name) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.size:
                name = stream.metadata.get("filename") or f"cover.{ending}"
                out.add_attachment(name, f"image/{subtype}", bytes(packet))
                return


PLAIN_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}


class _Transcoder:
    """One audio stream decoded and encoded again, because the container refuses its codec."""

    def __init__(self, out: OutputContainer, stream: Stream, window: Window) -> None:
        self._out, self._window = out, window
        context: Any = stream.codec_context
        encoder = "libopus" if out.format.name == "webm" else "aac"
        rate = 48000 if encoder == "libopus" else min(context.sample_rate, 96000)
        make: Any = out.add_stream
        self._stream: Any = make(encoder, rate=rate)
        layout = context.layout
        if layout.name.endswith(" channels"):  # of places that nobody stated
            layout = av.AudioLayout(PLAIN_LAYOUTS.get(layout.nb_channels, "stereo"))
        self._stream.codec_context.layout = layout
        self._stream.codec_context.bit_rate = 96000 * max(context.layout.nb_channels, 1)
        self._stream.metadata.update(true_tags(stream))
        self._stream.disposition = stream.disposition
        self._resampler: Any = av.AudioResampler(self._stream.format, layout, rate)

    def send(self, packet: av.Packet[Any]) -> None:
        try:
            frames: list[Any] = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                if not self._window.holds(frame.pts * frame.time_base):
                    continue
                frame.pts -= round(self._window.shift / frame.time_base)
            for piece in self._resampler.resample(frame):
                self._out.mux(self._stream.encode(piece))

    def finish(self) -> None:
        for piece in self._resampler.resample(None):
            self._out.mux(self._stream.encode(piece))
        self._out.mux(self._stream.encode(None))


def choose_suffix(
    source: InputContainer,
    info: video.VideoInfo,
    settings_for: Callable[[str], video.EncodeSettings],
    wanted: str | None,
    allow_transcode: bool,
) -> tuple[str, list[StreamPlan], str]:
    """The output's suffix, what becomes of each stream there, and why it is not the input's.

    A suffix the user wrote is kept, and what it cannot hold is an error for audio and subtitles
    (they would be missed); otherwise the container becomes Matroska, or QuickTime where only that
    holds everything.

    Raises:
        UsageError: `wanted` is not a container we write, or cannot hold a stream.
    """
    if wanted is not None:
        if wanted not in CONTAINERS:
            raise UsageError(
                f"{wanted or 'no suffix'}: sharpreel writes {', '.join(CONTAINERS)}; "
                "name the output accordingly."
            )
        plans = plan_streams(
            source, info.stream_index, settings_for(wanted), wanted, allow_transcode
        )
        missed = [p for p in plans if _missed(p)]
        if missed:
            what = ", ".join(f"{p.kind} stream {p.index} ({p.codec})" for p in missed)
            ways = []
            other = ".mkv" if wanted != ".mkv" else ".mov"
            with contextlib.suppress(UsageError):
                there = plan_streams(
                    source, info.stream_index, settings_for(other), other, allow_transcode
                )
                ways += [] if any(map(_missed, there)) else [f"name the output {other}"]
            if all(p.kind == "audio" for p in missed):
                ways.append("give --allow-audio-transcode")
            advice = ", or ".join(ways) or "choose another container, or none"
            raise UsageError(
                f"{wanted} cannot hold {what} of {info.path}. {advice[0].upper()}{advice[1:]}."
            )
        return wanted, plans, ""
    own = default_suffix(Path(info.path), info.container)
    why = ""
    if own != Path(info.path).suffix.lower():
        why = f"{Path(info.path).suffix or 'this kind of file'} cannot keep exact timestamps"
    best: tuple[int, str, list[StreamPlan]] | None = None
    refusals: list[UsageError] = []
    for suffix in dict.fromkeys((own, ".mkv", ".mov")):
        try:
            plans = plan_streams(
                source, info.stream_index, settings_for(suffix), suffix, allow_transcode
            )
        except UsageError as e:
            refusals.append(e)
            continue
        missing = sum(_missed(p) for p in plans)
        if best is None or missing < best[0]:
            best = (missing, suffix, plans)
        if missing == 0:
            break
    if best is None:
        raise refusals[0]
    _, suffix, plans = best
    silent = [p for p in plans if p.action == "drop" and p.kind == "audio" and _missed(p)]
    if silent:
        what = ", ".join(f"audio stream {p.index} ({p.codec})" for p in silent)
        raise UsageError(
            f"{info.path}: no container here takes its {what}. Give --allow-audio-transcode to "
            "re-encode it."
        )
    if suffix != own:
        own_plans = plan_streams(
            source, info.stream_index, settings_for(own), own, allow_transcode
        ) if _fits(source, info.stream_index, [], settings_for(own), own) else []  # fmt: skip
        refused = [f"{p.codec} {p.kind}" for p in own_plans if _missed(p)]
        why = f"{own} does not take {', '.join(refused) or settings_for(own).codec}"
    return suffix, [_final_word(p, suffix) for p in plans], why


def _missed(plan: StreamPlan) -> bool:
    kinds = ("audio", "subtitle", "attachment")
    # What FFmpeg does not know no container can be given: that is noted, but no reason to stop.
    return plan.action == "drop" and plan.kind in kinds and plan.codec != "unknown"


def _final_word(plan: StreamPlan, suffix: str) -> StreamPlan:
    if plan.action == "drop" and not plan.why:
        return replace(plan, why=f"{suffix} does not take it")
    return plan


def window_of(info: video.VideoInfo, start: Fraction | None, end: Fraction | None) -> Window:
    """The window that a user means, who sees every file begin at zero."""
    begin, finish = (None if at is None else at + info.origin for at in (start, end))
    return Window(begin, finish)


def check_input_has(info: video.VideoInfo, window: Window) -> None:
    """Raise InputError when the window lies behind the end of the input."""
    if window.start is None or info.duration_seconds is None:
        return
    start = float(window.start - info.origin)
    end = float(info.start_pts * info.time_base - info.origin) + info.duration_seconds
    if start >= end:
        raise InputError(f"{info.path}: --start {start:.2f} s is behind its end ({end:.2f} s).")
