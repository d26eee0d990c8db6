"""Metadata tags and chapters: which of the input's stay true for the output.

Tags that describe the old encoding (its bit rate, its encoder) are not copied to a re-encoded
stream; tags that a muxer writes itself are not copied to the file.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.stream import Stream

from sharpreel.media.frame import TimeRange

# Tags that describe the old encoding, and would be wrong about the new one.
STALE_TAGS = frozenset(
    "encoder encoder_options duration bps number_of_frames number_of_bytes _statistics_writing_app "
    "_statistics_writing_date_utc _statistics_tags vendor_id alpha_mode".split()
)
# Tags that the muxer writes itself.
CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
# Tags that MP4 can hold beside a cover image.
ITUNES_TAGS = frozenset(
    "title artist album_artist composer album date comment genre copyright grouping lyrics "
    "description synopsis show episode_id network keywords episode_sort season_number media_type "
    "hd_video gapless_playback compilation track disc tmpo creation_time".split()
)


def stream_tags(stream: Stream) -> dict[str, str]:
    """A stream's tags; what MP4 reads as "name" and writes from "title" is "title" in both."""
    tags = dict(stream.metadata)
    if "mp4" in stream.container.format.name and "name" in tags:
        tags.setdefault("title", tags.pop("name"))
    return tags


def is_stale(tag: str) -> bool:
    """Does the tag describe the old encoding? mkvmerge adds a language to some: BPS-eng."""
    return tag.lower().partition("-")[0] in STALE_TAGS


def lasting_tags(stream: Stream) -> dict[str, str]:
    """The tags that stay true when the stream is encoded again."""
    return {k: v for k, v in stream_tags(stream).items() if not is_stale(k)}


def chapters(source: InputContainer, window: TimeRange) -> list[Any]:
    """The chapters that overlap the window, cut to it and moved with it."""
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
