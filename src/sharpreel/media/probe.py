"""Describes a video file by its headers and first frames: `probe` returns a `VideoInfo`.

The first frames are decoded because only they tell colours, side data and interlacing reliably.
"""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av.sidedata.sidedata
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sharpreel.errors import InputError
from sharpreel.media.color import color_of
from sharpreel.media.frame import MAX_SIDE, VideoInfo
from sharpreel.media.side_data import DYNAMIC_HDR, display_matrix_of, hdr10_of, side_data_of

PROBE_FRAMES = 4  # the first frame of an interlaced file is not always marked so
AVFMT_TS_DISCONT = 0x0200  # libavformat: timestamps of this format may begin anywhere
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .m2ts .mts .mpg .mpeg .vob .wmv .asf .flv .f4v .3gp .3g2 "
    ".ogv .mxf .gif .y4m .divx .dv .rm .rmvb".split()
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


def open_input(path: str | Path) -> InputContainer:
    """Open a media file; an error explains in one line why that is impossible.

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
            "Is it complete? An MP4 cut off before its index cannot be read by any program."
        ) from e


def video_stream(container: InputContainer, path: str | Path) -> VideoStream:
    """The video stream to upscale: the default one, else the first; never a cover image.

    Raises:
        InputError: There is none, or its codec is unknown.
    """
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
        InputError: Unreadable, without video, or of a kind that sharpreel does not support.
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
            raise InputError(
                f"{path}: no frame of its {stream.codec_context.name} video can be decoded."
            )
        info = describe_video(container, stream, frames[0], str(path))
        return replace(info, interlaced=any(f.interlaced_frame for f in frames))


def describe_video(
    container: InputContainer, stream: VideoStream, frame: VideoFrame, path: str
) -> VideoInfo:
    """Describe an open video stream by its headers and its first decoded frame."""
    if not (0 < frame.width <= MAX_SIDE and 0 < frame.height <= MAX_SIDE):
        raise InputError(
            f"{path}: sharpreel does not support the size {frame.width}x{frame.height}."
        )
    time_base = stream.time_base or Fraction(1, 1000)
    seconds = _duration_seconds(container, stream, time_base)
    rate, num_frames = _rate_and_frames(container, stream, frame, seconds)
    side_data = side_data_of(frame)
    return VideoInfo(
        path=path,
        container=container.format.name,
        stream_index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=frame.format.name,
        width=frame.width,
        height=frame.height,
        time_base=time_base,
        rate=rate,
        start_pts=frame.pts or 0,
        num_frames=num_frames,
        duration_seconds=seconds,
        color=color_of(frame, path),
        bits=max(c.bits for c in frame.format.components),
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
        display_matrix=display_matrix_of(side_data),
        interlaced=bool(frame.interlaced_frame),
        alpha=_has_alpha(container, stream, frame),
        hdr10=hdr10_of(side_data),
        origin=_origin(container),
        dynamic_hdr=tuple(dict.fromkeys(DYNAMIC_HDR[k] for k in side_data if k in DYNAMIC_HDR)),
    )


def _duration_seconds(
    container: InputContainer, stream: VideoStream, time_base: Fraction
) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * time_base)
    if tagged := _tagged_seconds(stream):
        return tagged
    return None if container.duration is None else container.duration / 1e6


def _rate_and_frames(
    container: InputContainer, stream: VideoStream, frame: VideoFrame, seconds: float | None
) -> tuple[Fraction, int | None]:
    """Average frames per second, and the number of frames as stated or estimated."""
    rate = stream.average_rate or stream.base_rate or Fraction(25)
    if frame.pts is None:  # an elementary stream: FFmpeg assumes 25, its headers may know better
        rate = stream.guessed_rate or rate
    num_frames = stream.frames or int(stream.metadata.get("NUMBER_OF_FRAMES", 0)) or None
    if seconds and num_frames and rate > 2 * num_frames / seconds:
        # A rate of 1000 is a clock, not a frame rate.
        rate = Fraction(num_frames / seconds).limit_denominator(1001)
    if seconds:
        estimate = max(round(seconds * rate), 1)
        # Fragmented files state the frames of their first fragment only.
        if num_frames is None or (num_frames < estimate // 2 and "mp4" in container.format.name):
            num_frames = estimate
    return Fraction(rate), num_frames


def _has_alpha(container: InputContainer, stream: VideoStream, frame: VideoFrame) -> bool:
    if stream.metadata.get("alpha_mode") == "1":
        return True
    if container.format.name == "gif":
        return not is_opaque(frame)  # GIF is decoded as BGRA, transparent or not
    return any(c.is_alpha for c in frame.format.components)


def _tagged_seconds(stream: VideoStream) -> float | None:
    """The stream's own duration in the tag that Matroska files have: 00:01:02.345000000."""
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _origin(container: InputContainer) -> Fraction:
    """The clock at the beginning of the file, for formats whose clock may start anywhere."""
    anywhere = bool(int(container.format.flags) & AVFMT_TS_DISCONT)
    start = container.start_time
    return Fraction(start, 1_000_000) if anywhere and start and start > 0 else Fraction(0)


def is_opaque(frame: VideoFrame) -> bool:
    """Is no pixel of the frame transparent?"""
    return bool((frame.to_ndarray(format="rgba")[..., 3] == 255).all())


def transparent(path: str) -> str:
    """The message for a video whose transparency a video output would lose."""
    return (
        f"{path}: the video has transparency, which video files of this kind cannot keep. "
        "Choose an output folder, such as output='frames/', to get PNG images with alpha."
    )
