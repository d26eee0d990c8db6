"""Which container can hold which stream, found out by FFmpeg's own muxers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Disposition, Stream

from sharpreel.errors import UsageError
from sharpreel.media.encoders import (
    EncodeSettings,
    add_video_stream,
    start_encoding,
    validate_encoder,
)
from sharpreel.media.frame import VideoInfo
from sharpreel.media.tags import CONTAINER_TAGS, ITUNES_TAGS, stream_tags

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


def codec_name(stream: Stream) -> str:
    """The stream's codec as users know it, or what little is known."""
    context: Any = stream.codec_context  # None for what this FFmpeg has no decoder for
    if context is not None:
        return str(context.codec.canonical_name)
    if stream.type == "attachment":
        return str(stream.metadata.get("filename", "attachment"))
    return (getattr(stream, "name", None) if stream.type == "data" else None) or "unknown"


def describe_stream(stream: Stream, action: str, why: str = "") -> StreamPlan:
    return StreamPlan(
        stream.index,
        stream.type,
        codec_name(stream),
        action,
        why,
        stream.metadata.get("language"),
        stream_tags(stream).get("title"),
    )


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
    settings: EncodeSettings,
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
    validate_encoder(settings)
    if not _fits(source, picture, [], settings, suffix):
        raise UsageError(
            f"{suffix} does not take {settings.codec} video; choose another --codec or suffix."
        )
    plans = []
    for stream in source.streams:
        if stream.index == picture:
            plans.append(describe_stream(stream, "upscale"))
            continue
        plan = _plan_one(source, stream, picture, settings, suffix, allow_transcode)
        plans.append(plan)
    return plans


def _plan_one(
    source: InputContainer,
    stream: Stream,
    picture: int,
    settings: EncodeSettings,
    suffix: str,
    allow_transcode: bool,
) -> StreamPlan:
    special = _special(stream, CONTAINERS[suffix][0])
    if special is not None:
        return special
    refusal = _refuses_cover(source, suffix) if is_cover(stream) else ""
    copied = describe_stream(stream, "copy")
    if not refusal and _fits(source, picture, [copied], settings, suffix):
        return copied
    name = codec_name(stream)
    if stream.type == "audio" and stream.codec_context is not None and allow_transcode:
        target = "Opus" if CONTAINERS[suffix][0] == "webm" else "AAC"
        return describe_stream(
            stream, "transcode", f"{suffix} does not take {name}; becomes {target}"
        )
    unknown = "its codec is not known to FFmpeg" if name == "unknown" else ""
    return describe_stream(stream, "drop", refusal or unknown or f"{suffix} does not take it")


def _special(stream: Stream, muxer: str) -> StreamPlan | None:
    """What becomes of a stream that this muxer holds in a form of its own; None for the others."""
    if stream.type == "data" and muxer in ("mp4", "mov") and "timecode" in stream.metadata:
        # The muxer writes a timecode track of its own from the tag that the video carries.
        return describe_stream(stream, "made", "written anew from the timecode tag")
    if is_chapter_list(stream):
        return describe_stream(stream, "made", "written anew from the chapters")
    if is_cover(stream) and muxer == "matroska":
        return describe_stream(stream, "attach", "kept as an attachment, as Matroska wants it")
    if codec_name(stream) == "mov_text" and muxer == "matroska":
        return describe_stream(
            stream, "convert", "becomes SubRip: the words and times, not the styles"
        )
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


def _loses_aspect(settings: EncodeSettings, suffix: str) -> bool:
    """PyAV cannot tell Matroska the pixels' shape; H.264 and HEVC carry it themselves."""
    unasked = settings.sample_aspect_ratio == 1 or settings.codec.startswith(("h264", "hevc"))
    return CONTAINERS[suffix][0] in ("matroska", "webm") and not unasked


def _fits(
    source: InputContainer,
    picture: int,
    others: Iterable[StreamPlan],
    settings: EncodeSettings,
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
            add_video_stream(trial, settings)
            for plan in others:
                add_copied_stream(trial, source.streams[plan.index])
            start_encoding(trial)
    except (ValueError, av.FFmpegError, OSError):
        return False
    return True


def add_copied_stream(out: OutputContainer, stream: Stream) -> Stream:
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


def is_plain_video(stream: Stream) -> bool:
    return stream.type == "video" and not is_cover(stream)


def choose_suffix(
    source: InputContainer,
    info: VideoInfo,
    settings_for: Callable[[str], EncodeSettings],
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
