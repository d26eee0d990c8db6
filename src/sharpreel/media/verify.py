"""Verifies that an output holds what its input held.

Two files are compared by what a player receives: every frame's timestamp, the other streams'
packets byte for byte, languages, tags, chapters, colour, aspect ratio and rotation. This is the
last step of every run, and `sharpreel verify IN OUT` for any two files.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Stream

from sharpreel.media import reader as video_reader
from sharpreel.media.color import RGB, UNSPECIFIED, ColorInfo, Hdr10
from sharpreel.media.containers import CONTAINERS
from sharpreel.media.frame import WHOLE_VIDEO, TimeRange, VideoInfo
from sharpreel.media.probe import open_input, probe
from sharpreel.media.streams import COVER, StreamPlan, codec_name, is_chapter_list, is_cover
from sharpreel.media.subtitles import closes_subtitles, subtitle_length
from sharpreel.media.tags import CONTAINER_TAGS, chapters, is_stale, stream_tags

MAX_LISTED = 5


class Times(Sequence[Fraction]):
    """Timestamps in seconds, stored in eight bytes each: a video has hundreds of thousands.

    Args:
        unit: Seconds per tick.
        ticks: The timestamps.
        shift: Seconds to subtract from each.
    """

    def __init__(
        self, unit: Fraction, ticks: Iterable[int] = (), shift: Fraction = Fraction(0)
    ) -> None:
        self.unit, self.ticks, self.shift = unit, array("q", ticks), shift

    def __len__(self) -> int:
        return len(self.ticks)

    def __getitem__(self, index: Any) -> Any:
        return self.ticks[index] * self.unit - self.shift


@dataclass
class Track:
    """The times of a copied stream's packets in file order, and the SHA-256 of all their bytes."""

    times: Times
    digest: str = ""


@dataclass(frozen=True)
class Expected:
    """What a run knows about its own output beyond the two files.

    Attributes:
        pts: Timestamps of the frames written, in the input's time base; None: decode the input to
            get them.
        last_duration: How long the last frame is shown, in the same unit; 0 is unknown.
        streams: What was planned for each stream; None: every stream must be present.
        aspect: Sample aspect ratio the output must have; None: any that keeps the displayed shape.
        color: Colour description the output must have; None: the input's.
    """

    pts: Sequence[int] | None = None
    last_duration: int = 0
    streams: Sequence[StreamPlan] | None = None
    aspect: Fraction | None = None
    color: ColorInfo | None = None


def verify(
    source: Path, output: Path, window: TimeRange = WHOLE_VIDEO, expected: Expected | None = None
) -> list[str]:
    """List every difference between input and output that matters, as sentences; [] if none.

    Args:
        window: The part of the input that the output must hold.
        expected: Passed by a run about itself; without it both files are decoded.

    Raises:
        InputError: One of the files cannot be read.
    """
    plan = expected or Expected()
    before, after = probe(source), probe(output)
    unit = _unit(output)
    differences: list[str] = []
    if plan.pts is None:
        wanted, duration = _decoded_times(before, window)
        actual, duration_now = _decoded_times(after, WHOLE_VIDEO)
    else:
        wanted = Times(before.time_base, plan.pts, window.shift)
        duration = plan.last_duration * before.time_base
        actual, duration_now = _packet_times(after)
    if (window.shift / before.time_base).denominator != 1:  # a cut between two ticks
        unit += before.time_base
    differences += _compare_times(wanted, actual, unit)
    # Containers store it in different ways (MP4 by decoding time, Matroska not): to about a frame.
    if duration and duration_now and abs(duration - duration_now) > 1.5 / before.rate:
        differences.append(
            f"the last frame was shown for {float(duration):.4f} s, "
            f"is for {float(duration_now):.4f} s"
        )
    differences += _compare_video(before, after, plan)
    lost: list[int] = []
    with open_input(source) as one, open_input(output) as two:
        pairs, missing = _pair_streams(one, two, before, after, plan)
        differences += _compare_open(one, two, before, after, window, pairs, missing)
        differences += _compare_packets(one, two, pairs, window, unit)
        if window != WHOLE_VIDEO:  # a stream without packets inside may leave no track
            lost = [s.index for s in missing if s.type != "attachment"]
    excused = _excuses_for_empty(source, lost, window)
    return [d for d in differences if d not in excused]


def _excuses_for_empty(source: Path, streams: list[int], window: TimeRange) -> set[str]:
    """The differences reported for those streams that have no packet inside the window."""
    if not streams:
        return set()
    with open_input(source) as one:
        tracks = _read_tracks(one, [one.streams[k] for k in streams], window)
        return {_missing(one.streams[k]) for k in streams if not tracks[k].times}


def compare_headers(
    source: Path, output: Path, window: TimeRange = WHOLE_VIDEO, expected: Expected | None = None
) -> list[str]:
    """The part of `verify` that a rehearsal can check: everything but times and packets.

    Colour, aspect ratio, rotation, HDR metadata, which streams exist, their codecs, languages,
    dispositions and tags, attachments, the file's tags and chapters.
    """
    plan = expected or Expected()
    before, after = probe(source), probe(output)
    differences = _compare_video(before, after, plan)
    with open_input(source) as one, open_input(output) as two:
        pairs, missing = _pair_streams(one, two, before, after, plan)
        return differences + _compare_open(one, two, before, after, window, pairs, missing)


def _compare_open(
    one: InputContainer,
    two: InputContainer,
    before: VideoInfo,
    after: VideoInfo,
    window: TimeRange,
    pairs: list[Pair],
    missing: list[Stream],
) -> list[str]:
    """Compare the streams, tags and chapters of two open files."""
    differences = [_missing(stream) for stream in missing]
    first, second = one.streams[before.stream_index], two.streams[after.stream_index]
    differences += _compare_tags("the video", _portable_tags(first, second), stream_tags(second))
    for a, b in pairs:
        differences += _compare_stream_headers(a, b)
    differences += _compare_tags("the file", one.metadata, two.metadata)
    return differences + _compare_chapters(chapters(one, window), two.chapters())


def _unit(output: Path) -> Fraction:
    """How far a timestamp may be from its exact value: half a step of the container's clock."""
    step = CONTAINERS.get(output.suffix.lower(), ("", Fraction(1, 1000)))[1]
    return (step or Fraction(0)) / 2


def _decoded_times(info: VideoInfo, window: TimeRange) -> tuple[Times, Fraction]:
    """When each frame is shown, and for how long the last one is, in seconds, by decoding."""
    times, duration = Times(info.time_base, shift=window.shift), 0
    for frame in video_reader.VideoReader(info):
        if window.holds(frame.pts * info.time_base):
            times.ticks.append(frame.pts)
            duration = frame.duration
    return times, duration * info.time_base


def _packet_times(info: VideoInfo) -> tuple[Times, Fraction]:
    """The same from the packets alone, for a file in which every packet is one frame."""
    with open_input(info.path) as container:
        stream = container.streams[info.stream_index]
        packets = (p for p in container.demux(stream) if p.size and not p.is_discard)
        pts, last = array("q"), (0, 0)
        for packet in packets:
            if packet.pts is not None:
                pts.append(packet.pts)
                last = max(last, (packet.pts, packet.duration or 0))
    return Times(info.time_base, sorted(pts)), last[1] * info.time_base


def _compare_times(wanted: Times, actual: Times, unit: Fraction) -> list[str]:
    differences = []
    if len(wanted) != len(actual):
        differences.append(f"{len(wanted)} frames went in, {len(actual)} came out")
    moved = [
        (k, a, b) for k, (a, b) in enumerate(zip(wanted, actual, strict=False)) if abs(a - b) > unit
    ]
    for k, a, b in moved[:MAX_LISTED]:
        differences.append(f"frame {k} should be shown at {float(a):.6f} s, is at {float(b):.6f} s")
    if len(moved) > MAX_LISTED:
        differences.append(f"... and {len(moved) - MAX_LISTED} more frames are at another time")
    return differences


def _compare_video(before: VideoInfo, after: VideoInfo, plan: Expected) -> list[str]:
    """Shape, rotation, colour, depth and HDR metadata."""
    differences = _compare_shape(before, after, plan.aspect)
    if plan.color is None:
        either_rgb = RGB in (before.color.matrix, after.color.matrix)
        differences += _compare_color(before.color, after.color, with_matrix=not either_rgb)
    else:
        differences += _compare_color(plan.color, after.color, with_matrix=True)
    if before.bits > 8 >= after.bits:
        differences.append(f"{before.bits} bits became {after.bits}")
    if before.hdr10 is not None and not _is_same_hdr10(before.hdr10, after.hdr10):
        differences.append(f"HDR10 metadata {before.hdr10} became {after.hdr10}")
    return differences


def _compare_shape(before: VideoInfo, after: VideoInfo, aspect: Fraction | None) -> list[str]:
    differences = []
    if aspect is None:
        shape, shape_now = (i.display_aspect_ratio for i in (before, after))
        if abs(shape_now / shape - 1) > Fraction(2, min(after.width, after.height)):
            differences.append(
                f"shown {float(shape):.4f} wide to 1 high, now {float(shape_now):.4f}"
            )
    elif aspect != after.sample_aspect_ratio:
        differences.append(f"sample aspect ratio {aspect} became {after.sample_aspect_ratio}")
    if before.rotation != after.rotation:
        differences.append(f"rotation {before.rotation} became {after.rotation}")
    return differences


def _compare_color(before: ColorInfo, after: ColorInfo, with_matrix: bool) -> list[str]:
    differences = []
    if with_matrix:
        if before.matrix_name != after.matrix_name:
            differences.append(f"colour matrix {before.matrix_name} became {after.matrix_name}")
        if before.full_range != after.full_range:
            names = {True: "full", False: "limited"}
            differences.append(
                f"colour range {names[before.full_range]} became {names[after.full_range]}"
            )
    for what in ("primaries", "transfer"):
        a, b = getattr(before, what), getattr(after, what)
        if a not in (UNSPECIFIED, 0) and a != b:
            differences.append(f"colour {what} {a} became {b}")
    return differences


def _is_same_hdr10(before: Hdr10, after: Hdr10 | None) -> bool:
    """Are the values equal, up to the rounding of encoders?"""
    if after is None:
        return False
    if (before.max_cll, before.max_fall) != (after.max_cll, after.max_fall):
        return False
    pairs = zip(
        [x for pair in before.primaries for x in pair],
        [x for pair in after.primaries for x in pair],
        strict=False,
    )
    near = len(before.primaries) == len(after.primaries) and all(
        abs(a - b) <= Fraction(1, 25000) for a, b in pairs
    )
    return near and abs(before.max_luminance - after.max_luminance) <= 1


Pair = tuple[Stream, Stream]


def _pair_streams(
    one: InputContainer,
    two: InputContainer,
    before: VideoInfo,
    after: VideoInfo,
    plan: Expected,
) -> tuple[list[Pair], list[Stream]]:
    """Each copied stream with its copy, by kind and order, and the streams that have none."""
    planned = {p.index: p for p in plan.streams or ()}
    candidates: dict[str, list[Stream]] = {}
    for stream in two.streams:
        if stream.index != after.stream_index:
            candidates.setdefault(_kind(stream), []).append(stream)
    pairs: list[Pair] = []
    missing: list[Stream] = []
    for stream in one.streams:
        entry = planned.get(stream.index)
        if stream.index == before.stream_index or (entry and entry.action == "drop"):
            continue
        if is_chapter_list(stream):
            continue  # the chapters themselves are compared
        unpaired = candidates.get(_kind(stream), [])
        if not unpaired:
            missing.append(stream)
            continue
        other = unpaired.pop(0)
        if entry is None or entry.action == "copy":
            pairs.append((stream, other))
    return pairs, missing


def _compare_packets(
    one: InputContainer,
    two: InputContainer,
    pairs: list[Pair],
    window: TimeRange,
    unit: Fraction,
) -> list[str]:
    comparable = [(a, b) for a, b in pairs if a.type != "attachment" and not is_cover(a)]
    if not comparable:
        return []
    left = _read_tracks(one, [a for a, _ in comparable], window)
    right = _read_tracks(two, [b for _, b in comparable], WHOLE_VIDEO)
    differences = []
    for a, b in comparable:
        # Each clock rounds; and where there is no time before zero, readers use durations.
        tolerance = unit + (_step(a) + _step(b)) / 2
        if window.start is not None:
            tolerance += _step(a)
        if left[a.index].times and left[a.index].times[0] < 0:
            tolerance += 2 * unit
        differences += _compare_tracks(a, left[a.index], right[b.index], tolerance)
    return differences


def _step(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _kind(stream: Stream) -> str:
    """Streams of the same kind are compared in order."""
    return "cover" if stream.disposition & COVER else stream.type


def _label(stream: Stream) -> str:
    language = stream.metadata.get("language")
    return f"{stream.type} stream {stream.index} ({codec_name(stream)}" + (
        f", {language})" if language else ")"
    )


def _missing(stream: Stream) -> str:
    return f"{_label(stream)} is missing"


def _compare_stream_headers(a: Stream, b: Stream) -> list[str]:
    differences = []
    if a.type != "attachment" and codec_name(a) != codec_name(b):
        differences.append(f"{_label(a)} became {codec_name(b)}")
    if a.type == "attachment" and _attachment(a) != _attachment(b):
        differences.append(f"{_label(a)} changed its bytes")
    if _flags(a) != _flags(b):
        differences.append(f"{_label(a)}: disposition {a.disposition!r} became {b.disposition!r}")
    tags = _portable_tags(a, b)
    if is_cover(a):  # Matroska's names for an attachment, which other containers do not have
        tags = {k: v for k, v in tags.items() if k not in ("filename", "mimetype")}
    return differences + _compare_tags(_label(a), tags, stream_tags(b))


def _portable_tags(a: Stream, b: Stream) -> dict[str, str]:
    """The tags that must be in the other file: all but those that only MP4 has, if it is none."""
    present, same = stream_tags(b), a.container.format.name == b.container.format.name
    only_mp4 = set() if same else {"creation_time", "handler_name"} - present.keys()
    return {k: v for k, v in stream_tags(a).items() if k not in only_mp4}


def _flags(stream: Stream) -> int:
    """The disposition without what muxers add: "default", and MP4's captions."""
    flags = int(stream.disposition) & ~int(av.stream.Disposition.default)
    if flags & av.stream.Disposition.hearing_impaired:
        flags &= ~int(av.stream.Disposition.captions)
    return flags


def _attachment(stream: Stream) -> bytes:
    data: bytes = getattr(stream, "data", b"")
    return data


def _read_tracks(
    container: InputContainer, streams: list[Stream], window: TimeRange
) -> dict[int, Track]:
    tracks = {s.index: Track(Times(_step(s), shift=window.shift)) for s in streams}
    sums = {s.index: hashlib.sha256() for s in streams}
    for packet in container.demux(streams):
        if packet.size == 0 or packet.time_base is None or closes_subtitles(packet):
            continue
        at = packet.pts if packet.pts is not None else packet.dts or 0
        if not window.holds(at * packet.time_base, subtitle_length(packet)):
            continue
        if window.start is not None:  # a subtitle that began before the cut begins with it
            at = max(at, round(window.start / packet.time_base))
        tracks[packet.stream_index].times.ticks.append(at)
        sums[packet.stream_index].update(_payload(packet))
    for index, total in sums.items():
        tracks[index].digest = total.hexdigest()
    return tracks


def _payload(packet: av.Packet[Any]) -> bytes:
    """The packet's bytes without ADTS headers, which exist in some containers only."""
    data = bytes(packet)
    context = packet.stream.codec_context
    adts = len(data) > 9 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0
    if context is not None and context.name == "aac" and adts:
        return data[7 if data[1] & 1 else 9 :]
    return data


def _compare_tracks(stream: Stream, a: Track, b: Track, unit: Fraction) -> list[str]:
    differences = []
    label = _label(stream)
    pcm = codec_name(stream).startswith("pcm_")
    rewrapped = stream.type == "video"  # start codes here, lengths there
    if a.digest != b.digest and not rewrapped:
        differences.append(
            f"{label}: its packets' bytes changed ({len(a.times)} packets, {len(b.times)} now)"
        )
    elif len(a.times) != len(b.times) and not pcm:
        differences.append(f"{label}: {len(a.times)} packets became {len(b.times)}")
    elif not pcm:
        moved = [(x, y) for x, y in zip(a.times, b.times, strict=False) if abs(x - y) > unit]
        if moved:
            x, y = moved[0]
            differences.append(
                f"{label}: {len(moved)} packets moved, the first from {float(x):.6f} s "
                f"to {float(y):.6f} s"
            )
    elif a.times and b.times and abs(a.times[0] - b.times[0]) > unit:
        differences.append(
            f"{label}: begins at {float(b.times[0]):.6f} s, was {float(a.times[0]):.6f} s"
        )
    return differences


def _compare_tags(where: str, before: dict[str, str], after: dict[str, str]) -> list[str]:
    present = {key.lower(): value for key, value in after.items()}
    differences = []
    for key, value in before.items():
        name = key.lower()
        if is_stale(name) or name in CONTAINER_TAGS:
            continue
        if (name, value) == ("language", "und") and present.get(name) in (None, "und"):
            continue
        if present.get(name) != value:
            differences.append(f"{where}: tag {key}={value!r} became {present.get(name)!r}")
    return differences


def _compare_chapters(before: list[Any], after: list[Any]) -> list[str]:
    if len(before) != len(after):
        return [f"{len(before)} chapters became {len(after)}"]
    differences = []
    for k, (a, b) in enumerate(zip(before, after, strict=True)):
        start, start_now = (c["start"] * (c["time_base"] or Fraction(1, 1000)) for c in (a, b))
        title, title_now = a["metadata"].get("title"), b["metadata"].get("title")
        if abs(start - start_now) > Fraction(1, 1000) or title != title_now:
            differences.append(
                f"chapter {k} ({title!r} at {float(start):.3f} s) became "
                f"{title_now!r} at {float(start_now):.3f} s"
            )
    return differences
