"""Does the output hold what the input held?

Compares two files by what a player would be given: every frame's timestamp, the other streams'
packets byte for byte, languages, tags, chapters, colour, aspect and rotation. It is the last step
of every run, and `sharpreel verify IN OUT` for any two files.
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
from sharpreel.media.containers import (
    CONTAINERS,
    COVER,
    StreamPlan,
    codec_name,
    is_chapter_list,
    is_cover,
)
from sharpreel.media.frame import WHOLE_VIDEO, TimeRange, VideoInfo
from sharpreel.media.probe import open_input, probe
from sharpreel.media.subtitles import closes_subtitles, subtitle_length
from sharpreel.media.tags import CONTAINER_TAGS, chapters, is_stale, stream_tags

MAX_LISTED = 5


class Times(Sequence[Fraction]):
    """Timestamps in seconds, kept as eight bytes each: a film has hundreds of thousands.

    Args:
        unit: Seconds of one tick.
        ticks: The timestamps.
        shift: Seconds to take from each.
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
    """What the packets of one copied stream amount to, in file order."""

    times: Times
    digest: str = ""


@dataclass(frozen=True)
class Expected:
    """What a run knows of its own output beyond the two files.

    Attributes:
        pts: Timestamps of the frames that were made, in the input's time base; None: decode the
            input for them.
        last_duration: How long the last frame is shown, in the same unit; 0 is unknown.
        streams: What was planned for each stream; None: everything must be there.
        aspect: Sample aspect ratio the output should have; None: what shows the input's shape.
        color: Colour description the output should have; None: the input's.
    """

    pts: Sequence[int] | None = None
    last_duration: int = 0
    streams: Sequence[StreamPlan] | None = None
    aspect: Fraction | None = None
    color: ColorInfo | None = None


def verify(
    source: Path, output: Path, window: TimeRange = WHOLE_VIDEO, expected: Expected | None = None
) -> list[str]:
    """Every difference between input and output that matters, in words; empty when faithful.

    Args:
        window: The stretch of the input that the output should hold.
        expected: Given by a run about itself; without it both files are decoded.

    Raises:
        InputError: One of the files cannot be read.
    """
    plan = expected or Expected()
    before, after = probe(source), probe(output)
    unit = _unit(output)
    differences: list[str] = []
    if plan.pts is None:
        wanted, lasts = _decoded_times(before, window)
        have, lasts_now = _decoded_times(after, WHOLE_VIDEO)
    else:
        wanted = Times(before.time_base, plan.pts, window.shift)
        lasts = plan.last_duration * before.time_base
        have, lasts_now = _packet_times(after)
    if (window.shift / before.time_base).denominator != 1:  # a cut between two ticks
        unit += before.time_base
    differences += _compare_times(wanted, have, unit)
    # Containers store it in other ways (MP4 by decoding time, Matroska not): to about a frame.
    if lasts and lasts_now and abs(lasts - lasts_now) > 1.5 / before.rate:
        differences.append(
            f"the last frame was shown for {float(lasts):.4f} s, is for {float(lasts_now):.4f} s"
        )
    differences += _compare_picture(before, after, plan)
    gone: list[int] = []
    with open_input(source) as one, open_input(output) as two:
        pairs, missing = _pair_streams(one, two, before, after, plan)
        differences += _compare_open(one, two, before, after, window, pairs, missing)
        differences += _compare_packets(one, two, pairs, window, unit)
        if window != WHOLE_VIDEO:  # what has nothing inside may leave no track in the output
            gone = [s.index for s in missing if s.type != "attachment"]
    excused = _empty_streams(source, gone, window)
    return [d for d in differences if d not in excused]


def _empty_streams(source: Path, streams: list[int], window: TimeRange) -> set[str]:
    """What `compare_headers` says of those streams that have no packet inside the window."""
    if not streams:
        return set()
    with open_input(source) as one:
        tracks = _read_tracks(one, [one.streams[k] for k in streams], window)
        return {_missing(one.streams[k]) for k in streams if not tracks[k].times}


def compare_headers(
    source: Path, output: Path, window: TimeRange = WHOLE_VIDEO, expected: Expected | None = None
) -> list[str]:
    """The part of `verify` that a rehearsal can answer: all but times and packets.

    Colour, aspect, rotation, HDR metadata, the streams there are, their codecs, languages,
    dispositions and tags, attachments, the file's tags and chapters.
    """
    plan = expected or Expected()
    before, after = probe(source), probe(output)
    found = _compare_picture(before, after, plan)
    with open_input(source) as one, open_input(output) as two:
        pairs, missing = _pair_streams(one, two, before, after, plan)
        return found + _compare_open(one, two, before, after, window, pairs, missing)


def _compare_open(
    one: InputContainer,
    two: InputContainer,
    before: VideoInfo,
    after: VideoInfo,
    window: TimeRange,
    pairs: list[Pair],
    missing: list[Stream],
) -> list[str]:
    """Streams, tags and chapters of two files that are open."""
    found = [_missing(stream) for stream in missing]
    first, second = one.streams[before.stream_index], two.streams[after.stream_index]
    found += _compare_tags("the video", _lasting_tags(first, second), stream_tags(second))
    for a, b in pairs:
        found += _compare_stream_headers(a, b)
    found += _compare_tags("the file", one.metadata, two.metadata)
    return found + _compare_chapters(chapters(one, window), two.chapters())


def _unit(output: Path) -> Fraction:
    """How far a timestamp may be from its exact value: half a step of the container's clock."""
    step = CONTAINERS.get(output.suffix.lower(), ("", Fraction(1, 1000)))[1]
    return (step or Fraction(0)) / 2


def _decoded_times(info: VideoInfo, window: TimeRange) -> tuple[Times, Fraction]:
    """When each frame is shown, in seconds, and for how long the last one is."""
    times, lasts = Times(info.time_base, shift=window.shift), 0
    for frame in video_reader.VideoReader(info):
        if window.holds(frame.pts * info.time_base):
            times.ticks.append(frame.pts)
            lasts = frame.duration
    return times, lasts * info.time_base


def _packet_times(info: VideoInfo) -> tuple[Times, Fraction]:
    """The same from the packets alone, for a file whose every packet is one frame."""
    with open_input(info.path) as container:
        stream = container.streams[info.stream_index]
        packets = (p for p in container.demux(stream) if p.size and not p.is_discard)
        pts, last = array("q"), (0, 0)
        for packet in packets:
            if packet.pts is not None:
                pts.append(packet.pts)
                last = max(last, (packet.pts, packet.duration or 0))
    return Times(info.time_base, sorted(pts)), last[1] * info.time_base


def _compare_times(wanted: Times, have: Times, unit: Fraction) -> list[str]:
    found = []
    if len(wanted) != len(have):
        found.append(f"{len(wanted)} frames went in, {len(have)} came out")
    late = [
        (k, a, b) for k, (a, b) in enumerate(zip(wanted, have, strict=False)) if abs(a - b) > unit
    ]
    for k, a, b in late[:MAX_LISTED]:
        found.append(f"frame {k} should be shown at {float(a):.6f} s, is at {float(b):.6f} s")
    if len(late) > MAX_LISTED:
        found.append(f"... and {len(late) - MAX_LISTED} more frames are at another time")
    return found


def _compare_picture(before: VideoInfo, after: VideoInfo, plan: Expected) -> list[str]:
    found = []
    if plan.aspect is None:
        shape, shape_now = (i.display_aspect_ratio for i in (before, after))
        if abs(shape_now / shape - 1) > Fraction(2, min(after.width, after.height)):
            found.append(f"shown {float(shape):.4f} wide to 1 high, now {float(shape_now):.4f}")
    elif plan.aspect != after.sample_aspect_ratio:
        found.append(f"sample aspect ratio {plan.aspect} became {after.sample_aspect_ratio}")
    if before.rotation != after.rotation:
        found.append(f"rotation {before.rotation} became {after.rotation}")
    color = plan.color or before.color
    if plan.color is not None or RGB not in (color.matrix, after.color.matrix):
        if color.matrix_name != after.color.matrix_name:
            found.append(f"colour matrix {color.matrix_name} became {after.color.matrix_name}")
        if color.full_range != after.color.full_range:
            words = {True: "full", False: "limited"}
            found.append(
                f"colour range {words[color.full_range]} became {words[after.color.full_range]}"
            )
    for what in ("primaries", "transfer"):
        a, b = getattr(color, what), getattr(after.color, what)
        if a not in (UNSPECIFIED, 0) and a != b:
            found.append(f"colour {what} {a} became {b}")
    if before.bits > 8 >= after.bits:
        found.append(f"{before.bits} bits became {after.bits}")
    if before.hdr10 is not None and not _same_light(before.hdr10, after.hdr10):
        found.append(f"HDR10 metadata {before.hdr10} became {after.hdr10}")
    return found


def _same_light(before: Hdr10, after: Hdr10 | None) -> bool:
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
    """Each copied stream with its copy, by kind and order, and the ones that have none."""
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
        rest = candidates.get(_kind(stream), [])
        if not rest:
            missing.append(stream)
            continue
        other = rest.pop(0)
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
    found = []
    for a, b in comparable:
        # Each clock rounds; and where there is no time before zero, readers go by durations.
        tolerance = unit + (_step(a) + _step(b)) / 2
        if window.start is not None:
            tolerance += _step(a)
        if left[a.index].times and left[a.index].times[0] < 0:
            tolerance += 2 * unit
        found += _compare_tracks(a, left[a.index], right[b.index], tolerance, window)
    return found


def _step(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _kind(stream: Stream) -> str:
    """Streams of a kind are compared in order."""
    return "cover" if stream.disposition & COVER else stream.type


def _label(stream: Stream) -> str:
    language = stream.metadata.get("language")
    return f"{stream.type} stream {stream.index} ({codec_name(stream)}" + (
        f", {language})" if language else ")"
    )


def _missing(stream: Stream) -> str:
    return f"{_label(stream)} is missing"


def _compare_stream_headers(a: Stream, b: Stream) -> list[str]:
    found = []
    if a.type != "attachment" and codec_name(a) != codec_name(b):
        found.append(f"{_label(a)} became {codec_name(b)}")
    if a.type == "attachment" and _attachment(a) != _attachment(b):
        found.append(f"{_label(a)} changed its bytes")
    if _flags(a) != _flags(b):
        found.append(f"{_label(a)}: disposition {a.disposition!r} became {b.disposition!r}")
    tags = _lasting_tags(a, b)
    if is_cover(a):  # Matroska's names for an attachment, which others do not have
        tags = {k: v for k, v in tags.items() if k not in ("filename", "mimetype")}
    return found + _compare_tags(_label(a), tags, stream_tags(b))


def _lasting_tags(a: Stream, b: Stream) -> dict[str, str]:
    """The tags that should be in the other file: what MP4 has for its own form may stay there."""
    have, same = stream_tags(b), a.container.format.name == b.container.format.name
    form = set() if same else {"creation_time", "handler_name"} - have.keys()
    return {k: v for k, v in stream_tags(a).items() if k not in form}


def _flags(stream: Stream) -> int:
    """The disposition without what muxers add: "default", and MP4's captions for the deaf."""
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


def _compare_tracks(
    stream: Stream, a: Track, b: Track, unit: Fraction, window: TimeRange
) -> list[str]:
    found = []
    label = _label(stream)
    pcm = codec_name(stream).startswith("pcm_")
    rewrapped = stream.type == "video"  # start codes here, lengths there
    if a.digest != b.digest and not rewrapped:
        found.append(
            f"{label}: its packets' bytes changed ({len(a.times)} packets, {len(b.times)} now)"
        )
    elif len(a.times) != len(b.times) and not pcm:
        found.append(f"{label}: {len(a.times)} packets became {len(b.times)}")
    elif not pcm:
        moved = [(x, y) for x, y in zip(a.times, b.times, strict=False) if abs(x - y) > unit]
        if moved:
            x, y = moved[0]
            found.append(
                f"{label}: {len(moved)} packets moved, the first from {float(x):.6f} s "
                f"to {float(y):.6f} s"
            )
    elif a.times and b.times and abs(a.times[0] - b.times[0]) > unit:
        found.append(f"{label}: begins at {float(b.times[0]):.6f} s, was {float(a.times[0]):.6f} s")
    return found


def _compare_tags(where: str, before: dict[str, str], after: dict[str, str]) -> list[str]:
    have = {key.lower(): value for key, value in after.items()}
    found = []
    for key, value in before.items():
        name = key.lower()
        if is_stale(name) or name in CONTAINER_TAGS:
            continue
        if (name, value) == ("language", "und") and have.get(name) in (None, "und"):
            continue
        if have.get(name) != value:
            found.append(f"{where}: tag {key}={value!r} became {have.get(name)!r}")
    return found


def _compare_chapters(before: list[Any], after: list[Any]) -> list[str]:
    if len(before) != len(after):
        return [f"{len(before)} chapters became {len(after)}"]
    found = []
    for k, (a, b) in enumerate(zip(before, after, strict=True)):
        start, start_now = (c["start"] * (c["time_base"] or Fraction(1, 1000)) for c in (a, b))
        title, title_now = a["metadata"].get("title"), b["metadata"].get("title")
        if abs(start - start_now) > Fraction(1, 1000) or title != title_now:
            found.append(
                f"chapter {k} ({title!r} at {float(start):.3f} s) became "
                f"{title_now!r} at {float(start_now):.3f} s"
            )
    return found
