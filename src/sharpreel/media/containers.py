"""Containers: which one can hold which streams, as FFmpeg's own muxers answer.

`choose_suffix` picks the output's container and decides what happens to each stream in it:

    input's own kind of file, else .mkv, else .mov  ->  the first that holds everything
    a suffix that the user wrote                    ->  that one, or an error

Whether a muxer accepts a stream is tested by writing the header of a file in memory.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from sharpreel.errors import UsageError
from sharpreel.media.encoders import (
    EncodeSettings,
    add_video_stream,
    start_encoding,
    validate_encoder,
)
from sharpreel.media.frame import VideoInfo
from sharpreel.media.streams import (
    StreamPlan,
    add_copied_stream,
    codec_name,
    describe_stream,
    is_chapter_list,
    is_cover,
)
from sharpreel.media.tags import CONTAINER_TAGS, ITUNES_TAGS

# Suffix -> (libavformat's muxer, step of its timestamps in seconds: None is exact).
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
TS_CODECS = {
    "audio": frozenset("mp1 mp2 mp3 aac aac_latm ac3 eac3 dts truehd opus s302m".split()),
    "subtitle": frozenset({"dvb_subtitle", "dvb_teletext"}),
    "attachment": frozenset(),
}


def choose_suffix(
    source: InputContainer,
    info: VideoInfo,
    settings_for: Callable[[str], EncodeSettings],
    requested: str | None,
    allow_transcode: bool,
) -> tuple[str, list[StreamPlan], str]:
    """Choose the output's container and what happens to each stream in it.

    A suffix the user wrote is kept, and it is an error when it cannot hold an audio, subtitle or
    attachment stream. Otherwise the container is the input's own, or Matroska, or QuickTime where
    only that holds everything.

    Args:
        settings_for: Suffix -> settings of the video encoder.
        requested: Suffix of the output that the user named.
        allow_transcode: Re-encode audio that the container refuses.

    Returns:
        The suffix, the plan of each stream, and why the container is not the input's ("" if it is).

    Raises:
        UsageError: `requested` is not a supported container, or cannot hold a stream.
    """

    def streams_in(suffix: str) -> list[StreamPlan]:
        return plan_streams(
            source, info.stream_index, settings_for(suffix), suffix, allow_transcode
        )

    if requested is not None:
        if requested not in CONTAINERS:
            raise UsageError(
                f"{requested or 'no suffix'}: sharpreel writes {', '.join(CONTAINERS)}; "
                "name the output accordingly."
            )
        plans = streams_in(requested)
        _require_complete(plans, requested, info, streams_in)
        return requested, plans, ""
    own = default_suffix(Path(info.path), info.container)
    suffix, plans = _most_complete(dict.fromkeys((own, ".mkv", ".mov")), streams_in)
    _require_audio(plans, info)
    if suffix != own:
        accepted = _accepts(source, [], settings_for(own), own)
        refused = (
            [f"{p.codec} {p.kind}" for p in streams_in(own) if _is_loss(p)] if accepted else []
        )
        why = f"{own} does not take {', '.join(refused) or settings_for(own).codec}"
    elif own != Path(info.path).suffix.lower():
        why = f"{Path(info.path).suffix or 'this kind of file'} cannot keep exact timestamps"
    else:
        why = ""
    return suffix, [_with_reason(p, suffix) for p in plans], why


def default_suffix(source: Path, container: str) -> str:
    """The input's own kind of file where its timestamps can be exact there, else Matroska."""
    suffix = source.suffix.lower()
    if suffix in CONTAINERS:
        return suffix
    return ".mp4" if "mp4" in container else ".mkv"


def _most_complete(
    suffixes: Iterable[str], streams_in: Callable[[str], list[StreamPlan]]
) -> tuple[str, list[StreamPlan]]:
    """The first container that loses the fewest streams.

    Raises:
        UsageError: None takes the video.
    """
    best: tuple[int, str, list[StreamPlan]] | None = None
    refusals: list[UsageError] = []
    for suffix in suffixes:
        try:
            plans = streams_in(suffix)
        except UsageError as e:
            refusals.append(e)
            continue
        losses = sum(map(_is_loss, plans))
        if best is None or losses < best[0]:
            best = (losses, suffix, plans)
        if losses == 0:
            break
    if best is None:
        raise refusals[0]
    return best[1], best[2]


def _require_complete(
    plans: list[StreamPlan],
    suffix: str,
    info: VideoInfo,
    streams_in: Callable[[str], list[StreamPlan]],
) -> None:
    """Raise UsageError with the alternatives when the requested container loses a stream."""
    lost = [p for p in plans if _is_loss(p)]
    if not lost:
        return
    alternatives = []
    other = ".mkv" if suffix != ".mkv" else ".mov"
    with contextlib.suppress(UsageError):
        if not any(map(_is_loss, streams_in(other))):
            alternatives.append(f"name the output {other}")
    if all(p.kind == "audio" for p in lost):
        alternatives.append("set allow_audio_transcode=True")
    advice = ", or ".join(alternatives) or "choose another container, or none"
    what = ", ".join(f"{p.kind} stream {p.index} ({p.codec})" for p in lost)
    raise UsageError(
        f"{suffix} cannot hold {what} of {info.path}. {advice[0].upper()}{advice[1:]}."
    )


def _require_audio(plans: list[StreamPlan], info: VideoInfo) -> None:
    """Raise UsageError when audio would be dropped without the user having asked for it."""
    lost = [p for p in plans if p.kind == "audio" and _is_loss(p)]
    if lost:
        what = ", ".join(f"audio stream {p.index} ({p.codec})" for p in lost)
        raise UsageError(
            f"{info.path}: none of the supported containers can hold its {what}. "
            "Set allow_audio_transcode=True to re-encode it."
        )


def _is_loss(plan: StreamPlan) -> bool:
    """Is a stream dropped that a user would miss?"""
    kinds = ("audio", "subtitle", "attachment")
    # A codec unknown to FFmpeg cannot be written to any container: worth a note, not an error.
    return plan.action == "drop" and plan.kind in kinds and plan.codec != "unknown"


def _with_reason(plan: StreamPlan, suffix: str) -> StreamPlan:
    if plan.action == "drop" and not plan.why:
        return replace(plan, why=f"{suffix} does not take it")
    return plan


def plan_streams(
    source: InputContainer,
    video_index: int,
    settings: EncodeSettings,
    suffix: str,
    allow_transcode: bool,
) -> list[StreamPlan]:
    """What happens to each stream when the output has this suffix.

    Args:
        video_index: Index of the stream that is upscaled.
        settings: Of the video encoder, which the container must take too.
        allow_transcode: Re-encode audio that the container refuses to AAC (Opus in WebM).

    Raises:
        UsageError: The container does not take the video codec.
    """
    if _loses_aspect_ratio(settings, suffix):
        raise UsageError(
            f"{suffix} cannot keep the sample aspect ratio {settings.sample_aspect_ratio} of "
            f"{settings.codec} video; choose .mkv with codec='h264' or codec='hevc', or .mp4."
        )
    validate_encoder(settings)
    if not _accepts(source, [], settings, suffix):
        raise UsageError(
            f"{suffix} does not take {settings.codec} video; choose another `codec` or suffix."
        )
    return [
        describe_stream(stream, "upscale")
        if stream.index == video_index
        else _plan_stream(source, stream, settings, suffix, allow_transcode)
        for stream in source.streams
    ]


def _plan_stream(
    source: InputContainer,
    stream: Stream,
    settings: EncodeSettings,
    suffix: str,
    allow_transcode: bool,
) -> StreamPlan:
    own_form = _plan_own_form(stream, CONTAINERS[suffix][0])
    if own_form is not None:
        return own_form
    refusal = _reason_against_cover(source, suffix) if is_cover(stream) else ""
    copied = describe_stream(stream, "copy")
    if not refusal and _accepts(source, [copied], settings, suffix):
        return copied
    name = codec_name(stream)
    if stream.type == "audio" and stream.codec_context is not None and allow_transcode:
        target = "Opus" if CONTAINERS[suffix][0] == "webm" else "AAC"
        return describe_stream(
            stream, "transcode", f"{suffix} does not take {name}; becomes {target}"
        )
    unknown = "its codec is not known to FFmpeg" if name == "unknown" else ""
    return describe_stream(stream, "drop", refusal or unknown or f"{suffix} does not take it")


def _plan_own_form(stream: Stream, muxer: str) -> StreamPlan | None:
    """The plan of a stream that this muxer holds in a form of its own; None for the others."""
    if stream.type == "data" and muxer in ("mp4", "mov") and "timecode" in stream.metadata:
        # The muxer writes a timecode track of its own from the tag that the video carries.
        return describe_stream(stream, "made", "rewritten from the timecode tag")
    if is_chapter_list(stream):
        return describe_stream(stream, "made", "rewritten from the chapters")
    if is_cover(stream) and muxer == "matroska":
        return describe_stream(stream, "attach", "kept as an attachment, as Matroska requires")
    if codec_name(stream) == "mov_text" and muxer == "matroska":
        return describe_stream(
            stream, "convert", "becomes SubRip: text and times are kept, styles are not"
        )
    return None


def _reason_against_cover(source: InputContainer, suffix: str) -> str:
    """Why a file of this kind would lose its cover image; "" when it would not."""
    muxer = CONTAINERS[suffix][0]
    if muxer == "mov":
        return f"FFmpeg writes no cover images into {suffix}"
    other_tags = {key.lower() for key in source.metadata} - CONTAINER_TAGS - ITUNES_TAGS
    if muxer == "mp4" and other_tags:
        return f"{suffix} holds it or the tags {', '.join(sorted(other_tags))}, not both"
    return ""


def _loses_aspect_ratio(settings: EncodeSettings, suffix: str) -> bool:
    """PyAV cannot set the pixel shape of a Matroska stream; H.264 and HEVC carry it themselves."""
    carried = settings.sample_aspect_ratio == 1 or settings.codec.startswith(("h264", "hevc"))
    return CONTAINERS[suffix][0] in ("matroska", "webm") and not carried


def _accepts(
    source: InputContainer,
    others: Iterable[StreamPlan],
    settings: EncodeSettings,
    suffix: str,
) -> bool:
    """Does a file of this kind take these streams? Tested by writing its header to memory."""
    muxer, others = CONTAINERS[suffix][0], list(others)
    if muxer == "mpegts":  # FFmpeg writes other codecs as private data, which nothing reads
        if not settings.codec.startswith(("h264", "hevc")):
            return False
        streams = [source.streams[plan.index] for plan in others]
        if any(s.type in TS_CODECS and codec_name(s) not in TS_CODECS[s.type] for s in streams):
            return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as out:
            add_video_stream(out, settings)
            for plan in others:
                add_copied_stream(out, source.streams[plan.index])
            start_encoding(out)
    except (ValueError, av.FFmpegError, OSError):
        return False
    return True
