"""Writes the finished file: encoded segments and copied streams, merged by time."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from sharpreel.errors import SharpreelError, write_error
from sharpreel.media.audio import AudioTranscoder
from sharpreel.media.containers import (
    CONTAINERS,
    REHEARSED_PACKETS,
    StreamPlan,
    add_copied_stream,
    codec_name,
    is_cover,
    is_plain_video,
)
from sharpreel.media.encoders import CODECS, EncodeSettings, own_priority, set_color, start_encoding
from sharpreel.media.frame import WHOLE_VIDEO, TimeRange
from sharpreel.media.probe import open_input
from sharpreel.media.subtitles import add_subrip_stream, closes_subtitles, subrip, subtitle_length
from sharpreel.media.tags import CONTAINER_TAGS, chapters, true_tags


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
    settings: EncodeSettings
    display_matrix: tuple[int, ...] | None
    last_duration: int  # of the last frame, in the picture's time base
    window: TimeRange = WHOLE_VIDEO


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
    with contextlib.nullcontext() if plan.source is None else open_input(plan.source) as source:
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
        self._transcoders: dict[int, AudioTranscoder] = {}
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
                    self._copies[entry.index] = add_copied_stream(out, stream)
                elif entry.action == "transcode":
                    self._transcoders[entry.index] = AudioTranscoder(out, stream, plan.window)
                elif entry.action == "convert":
                    self._copies[entry.index] = add_subrip_stream(out, stream)
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
        start_encoding(self._out)
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
        early = {s.index: early_dts(source, s) for s in wanted if is_plain_video(s)}
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


def _add_picture(
    out: OutputContainer, plan: Assembly, encoded: Stream, original: Stream | None
) -> Stream:
    """The output's video stream, for packets that are encoded already.

    PyAV gives an average rate, without which there is no timecode track and no frame rate in
    Matroska, only to streams that have an encoder. So the stream gets the smallest one there is,
    never used, and then the real size and codec data of the segments.
    """
    s = plan.settings
    stream: Any = out.add_stream(CODECS[s.codec].encoder, rate=s.rate, options=s.options())
    context = stream.codec_context
    context.width = context.height = 64
    context.pix_fmt, context.thread_count, context.time_base = s.pix_fmt, 1, s.time_base
    set_color(context, s)
    with own_priority():
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


def _attach_cover(out: OutputContainer, source: InputContainer, stream: Stream) -> None:
    kind = codec_name(stream)
    subtype, ending = ("png", "png") if kind == "png" else ("jpeg", "jpg")
    with av.open(source.name) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.size:
                name = stream.metadata.get("filename") or f"cover.{ending}"
                out.add_attachment(name, f"image/{subtype}", bytes(packet))
                return
