"""Writes the output file: encoded segments as one video stream, all other streams copied.

    segment 0, 1, 2 ...  (Matroska, exact times beside them) ─┐
    audio, subtitles, covers, attachments  (input)           ─┼─ merged by time ──> muxer
    tags, chapters, rotation, aspect       (input)           ─┘

Copied packets keep their bytes and their timestamps; a cut moves all timestamps to its beginning.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from sharpreel.errors import SharpreelError, write_error
from sharpreel.media.audio import AudioTranscoder
from sharpreel.media.containers import CONTAINERS
from sharpreel.media.encoders import CODECS, EncodeSettings, own_priority, set_color, start_encoding
from sharpreel.media.frame import WHOLE_VIDEO, TimeRange
from sharpreel.media.probe import open_input
from sharpreel.media.streams import (
    StreamPlan,
    add_copied_stream,
    codec_name,
    is_cover,
    is_plain_video,
)
from sharpreel.media.subtitles import add_subrip_stream, closes_subtitles, subrip, subtitle_length
from sharpreel.media.tags import CONTAINER_TAGS, chapters, lasting_tags

REHEARSED_PACKETS = 8  # of each stream: demuxers of transport streams need several


@dataclass(frozen=True)
class Segment:
    """One encoded segment: its file, and the exact timestamps of its packets.

    `pts` are in display order; `order[k]` is the display rank of the k-th packet in the file.
    """

    path: Path
    pts: list[int]
    order: list[int]


def _video_packets(
    segments: list[Segment], last_duration: int, shift: int
) -> Iterator[tuple[int, int, int, av.Packet[Any]]]:
    """(dts, pts, duration, packet) of the joined segments, in decoding order.

    dts is the display timeline read `delay` frames late, so it rises and never exceeds pts.
    """
    shown = [pts - shift for segment in segments for pts in segment.pts]
    delay = max((k - rank for s in segments for k, rank in enumerate(s.order)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else last_duration or 1
    early = [shown[0] - step * k for k in range(delay, 0, -1)]
    position = first = 0
    for segment in segments:
        with av.open(os.path.abspath(segment.path)) as file:
            stream = file.streams.video[0]
            packets = (p for p in file.demux(stream) if p.size)
            for rank, packet in zip(segment.order, packets, strict=True):
                at = first + rank
                end = shown[at + 1] if at + 1 < len(shown) else shown[at] + last_duration
                dts = early[position] if position < delay else shown[position - delay]
                position += 1
                yield dts, shown[at], end - shown[at], packet
        first += len(segment.pts)


@dataclass(frozen=True)
class Assembly:
    """All that `assemble` needs beside the segments; `source` None: a file of the video alone."""

    source: Path | None
    streams: tuple[StreamPlan, ...]
    suffix: str
    settings: EncodeSettings
    display_matrix: tuple[int, ...] | None
    last_duration: int  # of the last frame, in the video's time base
    window: TimeRange = WHOLE_VIDEO


def assemble(
    plan: Assembly,
    segments: list[Segment],
    target: Path,
    on_progress: Callable[[float], None] | None = None,
    rehearsal: bool = False,
) -> None:
    """Write the output file: the segments as one video stream, the other streams as planned.

    Args:
        on_progress: Called now and then with the share of the video that is written, 0 to 1.
        rehearsal: Write only a few packets of each other stream: enough to see what this kind of
            file does with their headers.

    Raises:
        DiskFullError: No space left.
        SharpreelError: The muxer refused what it had accepted at planning time.
    """
    muxer = CONTAINERS[plan.suffix][0]
    with contextlib.nullcontext() if plan.source is None else open_input(plan.source) as source:
        options = _muxer_options(plan, muxer, source)
        try:
            with av.open(os.path.abspath(target), "w", format=muxer, options=options) as out:
                _Assembler(plan, segments, source, out).write(on_progress, rehearsal)
        except OSError as e:
            raise write_error(target, e) from e
        except (ValueError, av.FFmpegError) as e:
            raise SharpreelError(f"{target}: the {muxer} muxer failed: {e}") from e


def _muxer_options(plan: Assembly, muxer: str, source: InputContainer | None) -> dict[str, str]:
    options = {"fflags": "+bitexact"}
    if muxer == "mpegts":
        # With B-frames decoding begins before zero; the clock of a TS wraps, readers know it.
        options |= {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    if muxer in ("matroska", "webm"):
        # Audio often begins a little before zero; FFmpeg would move everything instead.
        options |= {"avoid_negative_ts": "disabled"}
    if muxer in ("mp4", "mov"):
        # Edit lists count in the movie's time scale: with one for all streams they are exact.
        options |= {"movie_timescale": str(_timescale(plan, source))}
        if not _copies_cover(plan, source):
            options |= {"movflags": "+use_metadata_tags"}
    return options


def _copies_cover(plan: Assembly, source: InputContainer | None) -> bool:
    """Is a cover image copied? MP4 has a list of tags that holds one, and one of free keys."""
    return source is not None and any(
        p.action == "copy" and is_cover(source.streams[p.index]) for p in plan.streams
    )


def _timescale(plan: Assembly, source: InputContainer | None) -> int:
    """Ticks per second in which the video starts exactly, and the other streams where possible."""
    ticks = plan.settings.time_base.denominator
    while ticks < 10000:
        ticks *= 2
    for entry in plan.streams:
        unit = None if source is None else source.streams[entry.index].time_base
        if entry.action == "copy" and unit is not None:
            both = math.lcm(ticks, unit.denominator)
            ticks = both if both < 2**31 else ticks
    return min(ticks, 2**31 - 1)


Due = tuple[Fraction, int, Callable[[], None]]  # time, 0 for the video (1: others), how to send it


@dataclass(frozen=True)
class _Outputs:
    """The streams of one output: the video, and the others by their index in the input."""

    video: Stream
    copies: dict[int, Stream] = field(default_factory=dict)
    transcoders: dict[int, AudioTranscoder] = field(default_factory=dict)
    subrip: set[int] = field(default_factory=set)  # those of the copies that become SubRip


class _Assembler:
    """The streams of one output, and their packets merged by time."""

    def __init__(
        self,
        plan: Assembly,
        segments: list[Segment],
        source: InputContainer | None,
        out: OutputContainer,
    ) -> None:
        self._plan, self._segments, self._source, self._out = plan, segments, source, out
        with av.open(os.path.abspath(segments[0].path)) as first:
            self._streams = _add_streams(out, plan, first.streams.video[0], source)
        if source is None:
            return
        out.metadata.update(
            {k: v for k, v in source.metadata.items() if k.lower() not in CONTAINER_TAGS}
        )
        kept = chapters(source, plan.window)
        if kept:
            out.set_chapters(kept)

    def write(self, on_progress: Callable[[float], None] | None, rehearsal: bool) -> None:
        start_encoding(self._out)
        others: Iterator[Due] = iter(())
        if self._source is not None:
            packets = self._rehearsal_packets if rehearsal else self._other_packets
            others = packets(self._source)
        merged = heapq.merge(self._own_packets(on_progress), others, key=lambda due: due[:2])
        for _, _, send in merged:
            send()
        for transcoder in self._streams.transcoders.values():
            transcoder.finish()

    def _own_packets(self, on_progress: Callable[[float], None] | None) -> Iterator[Due]:
        """The packets of the upscaled video."""
        unit = self._plan.settings.time_base
        shift = round(self._plan.window.shift / unit)
        total = sum(len(s.pts) for s in self._segments)
        joined = _video_packets(self._segments, self._plan.last_duration, shift)
        for k, (dts, pts, duration, packet) in enumerate(joined):
            packet.time_base, packet.stream = unit, self._streams.video
            packet.pts, packet.dts, packet.duration = pts, dts, duration
            if on_progress is not None and k % 250 == 0:
                on_progress(k / total)
            yield dts * unit, 0, partial(self._out.mux_one, packet)

    def _demuxed(self, source: InputContainer) -> list[Stream]:
        """The other streams that are read packet by packet."""
        others = [source.streams[i] for i in (*self._streams.copies, *self._streams.transcoders)]
        return [s for s in others if s.type != "attachment"]

    def _other_packets(self, source: InputContainer) -> Iterator[Due]:
        """The packets of all other streams inside the window."""
        window, copies = self._plan.window, self._streams.copies
        transcoders = self._streams.transcoders
        demuxed = self._demuxed(source)
        if not demuxed:
            return
        latest = Fraction(0)
        early = {s.index: early_dts(source, s) for s in demuxed if is_plain_video(s)}
        for packet in source.demux(demuxed):
            unit, index = packet.time_base, packet.stream_index
            if packet.size == 0 or unit is None or closes_subtitles(packet):
                continue
            if packet.dts is None and early.get(index):
                packet.dts = early[index].pop(0)
            at = packet.dts if packet.dts is not None else packet.pts
            latest = latest if at is None else max(latest, at * unit)
            shown = latest if packet.pts is None else packet.pts * unit
            due = latest - window.shift
            if index in transcoders:
                yield due, 1, partial(transcoders[index].send, packet)
            elif window.holds(shown, subtitle_length(packet)) or is_cover(packet.stream):
                yield due, 1, partial(self._copy, packet, copies[index])

    def _rehearsal_packets(self, source: InputContainer) -> Iterator[Due]:
        """A few packets of each other stream, or two zero bytes where none arrives early."""
        copies, transcoders = self._streams.copies, self._streams.transcoders
        demuxed = self._demuxed(source)
        clocks = {s.index: 0 for s in demuxed}
        seen: Counter[int] = Counter()
        for packet in itertools.islice(source.demux(demuxed), 500) if demuxed else ():
            index = packet.stream_index
            if packet.size and seen[index] < REHEARSED_PACKETS:
                seen[index] += 1
                packet.pts = packet.dts = clocks[index]
                clocks[index] += packet.duration or 1
                coder = transcoders.get(index)
                send = partial(coder.send, packet) if coder else None
                yield Fraction(0), 1, send or partial(self._put, packet, copies[index])
            if all(seen[s.index] == REHEARSED_PACKETS for s in demuxed):
                break
        for stream in demuxed:
            if not seen[stream.index] and stream.index in copies:
                packet = av.Packet(bytes(2))
                packet.pts = packet.dts = 0
                packet.time_base = stream.time_base or Fraction(1, 1000)
                yield Fraction(0), 1, partial(self._put, packet, copies[stream.index])

    def _put(self, packet: av.Packet[Any], stream: Stream) -> None:
        packet.stream = stream
        self._out.mux_one(packet)

    def _copy(self, packet: av.Packet[Any], stream: Stream) -> None:
        shift = round(self._plan.window.shift / packet.time_base) if packet.time_base else 0
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if packet.stream.type == "subtitle" and shift and packet.pts is not None and packet.pts < 0:
            packet.duration = (packet.duration or 0) + packet.pts  # it begins before the cut
            packet.pts = packet.dts = 0
        if packet.stream_index in self._streams.subrip:
            packet = subrip(packet)
        if packet.size:
            self._put(packet, stream)


def early_dts(source: InputContainer, stream: Stream) -> list[int]:
    """Decoding times for the first frames, where the demuxer (Matroska's) knows none.

    pts   0 120  40  80 ...       as with B-frames
    dts   -   -   0  40 ...  ->  [-2, -1] for the first two
    """
    count = 0
    with av.open(source.name) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.dts is not None:
                return [packet.dts - k for k in range(count, 0, -1)]
            count += packet.size > 0
    return []


def _add_streams(
    out: OutputContainer, plan: Assembly, encoded: Stream, source: InputContainer | None
) -> _Outputs:
    """Add all streams of the output, in the order of the input.

    Args:
        encoded: The video stream of a segment.
    """
    if source is None:
        return _Outputs(_add_video(out, plan, encoded, None))
    video: Stream | None = None
    copies: dict[int, Stream] = {}
    transcoders: dict[int, AudioTranscoder] = {}
    to_subrip: set[int] = set()
    for entry in plan.streams:
        stream = source.streams[entry.index]
        match entry.action:
            case "upscale":
                video = _add_video(out, plan, encoded, stream)
            case "copy":
                copies[entry.index] = add_copied_stream(out, stream)
            case "transcode":
                transcoders[entry.index] = AudioTranscoder(out, stream, plan.window)
            case "convert":
                copies[entry.index] = add_subrip_stream(out, stream)
                to_subrip.add(entry.index)
            case "attach":
                _attach_cover(out, source, stream)
    assert video is not None
    return _Outputs(video, copies, transcoders, to_subrip)


def _add_video(
    out: OutputContainer, plan: Assembly, encoded: Stream, original: Stream | None
) -> Stream:
    """Add the output's video stream, for packets that are encoded already.

    PyAV gives an average rate, without which there is no timecode track and no frame rate in
    Matroska, only to streams that have an encoder. So the stream gets the smallest encoder, which
    is never used, and then the real size and codec data of the segments.
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
        context.codec_tag = "hvc1"  # required by Apple's players; others take either
    stream.time_base = s.time_base
    if original is not None:
        stream.metadata.update(lasting_tags(original))
        stream.disposition = original.disposition
    if plan.display_matrix is not None:
        stream.set_display_matrix(plan.display_matrix)
    return cast(Stream, stream)


def _attach_cover(out: OutputContainer, source: InputContainer, stream: Stream) -> None:
    """Add a cover image as an attachment, which is Matroska's form of it."""
    kind = codec_name(stream)
    subtype, ending = ("png", "png") if kind == "png" else ("jpeg", "jpg")
    with av.open(source.name) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.size:
                name = stream.metadata.get("filename") or f"cover.{ending}"
                out.add_attachment(name, f"image/{subtype}", bytes(packet))
                return
