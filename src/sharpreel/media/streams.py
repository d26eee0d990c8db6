"""The streams of a file: their kinds and codec names, and how a stream is copied unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from av.container import OutputContainer
from av.stream import AttachmentStream, Disposition, Stream

from sharpreel.media.tags import stream_tags

COVER = Disposition.attached_pic


@dataclass(frozen=True)
class StreamPlan:
    """What happens to one stream of the input.

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


def describe_stream(stream: Stream, action: str, why: str = "") -> StreamPlan:
    """The plan that this action happens to the stream."""
    return StreamPlan(
        stream.index,
        stream.type,
        codec_name(stream),
        action,
        why,
        stream.metadata.get("language"),
        stream_tags(stream).get("title"),
    )


def codec_name(stream: Stream) -> str:
    """The stream's codec by its common name; an attachment's file name; "unknown"."""
    context: Any = stream.codec_context  # None when this FFmpeg has no decoder
    if context is not None:
        return str(context.codec.canonical_name)
    if stream.type == "attachment":
        return str(stream.metadata.get("filename", "attachment"))
    return (getattr(stream, "name", None) if stream.type == "data" else None) or "unknown"


def is_cover(stream: Stream) -> bool:
    """Is it a cover image, which containers present as a video stream?"""
    return stream.type == "video" and bool(stream.disposition & COVER)


def is_plain_video(stream: Stream) -> bool:
    """Is it a video stream that is not a cover image?"""
    return stream.type == "video" and not is_cover(stream)


def is_chapter_list(stream: Stream) -> bool:
    """Is it the text track in which MP4 and QuickTime keep their chapters?"""
    container = stream.container
    return (
        stream.type == "data"
        and "mp4" in container.format.name
        and codec_name(stream) == "bin_data"
        and bool(container.chapters())
    )


def add_copied_stream(out: OutputContainer, stream: Stream) -> Stream:
    """Add a stream to the output that takes this stream's packets unchanged."""
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
