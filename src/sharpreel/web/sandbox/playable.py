"""Convert videos so that browsers can play them. Run as a child process.

    python -m sharpreel.web.sandbox.playable SECONDS SOURCE TARGET_STEM HASH ...

A file that browsers play already gets a second name; H.264 in another container is remuxed;
everything else is transcoded, to at most 1920x1080. Only the first SECONDS are converted.
One JSON object is printed for each source, see `PlayableEvent`; HASH is 1 to compute its SHA-256.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame

from sharpreel.errors import InputError
from sharpreel.media.frame import VideoInfo
from sharpreel.media.mux import early_dts
from sharpreel.media.probe import open_input, probe, video_stream
from sharpreel.system import download

PLAYABLE_AUDIO = frozenset({"aac", "mp3"})
MAX_WIDTH, MAX_HEIGHT = 1920, 1080


class PlayableEvent(TypedDict):
    """What this module prints for one source.

    `width` and `height` are the size as shown. Either `play`, the name of the playable file, or
    `why`, the reason that there is none, is present; `plays_seconds` if not all of it plays.
    """

    event: Literal["play"]
    bytes: int
    width: int
    height: int
    sha256: NotRequired[str]
    play: NotRequired[str]
    plays_seconds: NotRequired[float]
    why: NotRequired[str]


def convert(source: Path, stem: Path, with_hash: bool, max_seconds: float) -> PlayableEvent:
    """Write a playable version of a video next to `stem`, and describe the video.

    Raises:
        InputError: The source is not a video.
    """
    info = probe(source)
    width, height = info.shown_size
    event: PlayableEvent = {
        "event": "play",
        "bytes": source.stat().st_size,
        "width": width,
        "height": height,
    }
    if with_hash:
        event["sha256"] = download.sha256_of(source)
    try:
        path, complete = make_playable(info, source, stem, max_seconds)
        event["play"] = path.name
        if not complete:
            event["plays_seconds"] = max_seconds
    except (av.FFmpegError, OSError, InputError) as e:
        event["why"] = str(e)
    return event


def make_playable(
    info: VideoInfo, source: Path, stem: Path, max_seconds: float
) -> tuple[Path, bool]:
    """Write `stem`.mp4 or `stem`.webm; returns the file, and whether it is the complete video."""
    suffix = native_suffix(info)
    if suffix is not None:
        target = stem.with_name(stem.name + suffix)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
        return target, True
    target = stem.with_name(f"{stem.name}.mp4")
    part = stem.with_name(f"{stem.name}.part.mp4")
    with (
        open_input(source) as before,
        av.open(str(part), "w", options={"movflags": "+faststart"}) as after,
    ):
        write = _remux if _is_plain_h264(info) else _transcode
        complete = write(before, after, info, max_seconds)
    os.replace(part, target)
    return target, complete


def _is_plain_h264(info: VideoInfo) -> bool:
    return info.codec == "h264" and info.pix_fmt in ("yuv420p", "yuvj420p")


def native_suffix(info: VideoInfo) -> str | None:
    """The suffix under which every browser plays this file, or None."""
    if "mp4" in info.container and _is_plain_h264(info):
        return ".mp4"
    if "webm" in info.container and info.codec in ("vp8", "vp9") and info.pix_fmt == "yuv420p":
        return ".webm"
    return None


def _start_time(info: VideoInfo) -> Fraction:
    return info.start_pts * info.time_base


def _playable_audio(container: InputContainer) -> AudioStream | None:
    """The first audio stream that browsers play."""
    streams = container.streams.audio
    return next((s for s in streams if s.codec_context.name in PLAYABLE_AUDIO), None)


def _shift(packet: Any, start: Fraction) -> None:
    """Move the timestamps of a packet, so that the video starts at zero."""
    ticks = round(start / packet.time_base)
    packet.pts -= ticks
    packet.dts -= ticks


def _remux(
    before: InputContainer, after: OutputContainer, info: VideoInfo, max_seconds: float
) -> bool:
    """Copy the packets of video and audio, starting at zero; was that the complete video?"""
    video = video_stream(before, info.path)
    early = early_dts(before, video)
    copies: dict[int, Any] = {video.index: after.add_stream_from_template(video)}
    if info.rotation:
        copies[video.index].set_display_rotation(-info.rotation)
    if audio := _playable_audio(before):
        copies[audio.index] = after.add_stream_from_template(audio)
    start = _start_time(info)
    for packet in before.demux([before.streams[index] for index in copies]):
        if packet.dts is None and packet.size and early:
            packet.dts = early.pop(0)
        if packet.dts is None or packet.pts is None:
            continue
        _shift(packet, start)
        if packet.pts * packet.time_base > max_seconds:
            return False
        packet.stream = copies[packet.stream.index]
        after.mux(packet)
    return True


class _PreviewEncoder:
    """Encodes frames as H.264 of at most 1920x1080, with their own timestamps starting at zero."""

    def __init__(self, after: OutputContainer, info: VideoInfo, max_seconds: float) -> None:
        self._after, self._info, self._max_seconds = after, info, max_seconds
        shrink = min(MAX_WIDTH / info.width, MAX_HEIGHT / info.height, 1)
        self._width, self._height = (
            max(round(side * shrink / 2) * 2, 2) for side in (info.width, info.height)
        )
        stream: Any = after.add_stream("libx264", options={"preset": "veryfast", "crf": "20"})
        context = stream.codec_context
        context.width, context.height = self._width, self._height
        context.pix_fmt = "yuv420p"
        context.time_base = stream.time_base = info.time_base
        context.framerate = info.rate
        context.sample_aspect_ratio = info.sample_aspect_ratio
        if info.rotation:
            stream.set_display_rotation(-info.rotation)
        self._stream = stream
        self._last_pts = -1

    def write(self, frame: VideoFrame, shift: int) -> bool:
        """Encode a frame, `shift` ticks earlier; False: it is after the last second to convert."""
        pts = max((frame.pts or 0) - shift, self._last_pts + 1)
        if pts * self._info.time_base > self._max_seconds:
            return False
        small: Any = frame.reformat(self._width, self._height, "yuv420p")
        small.pts, small.time_base, self._last_pts = pts, self._info.time_base, pts
        self._after.mux(self._stream.encode(small))
        return True

    def flush(self) -> None:
        self._after.mux(self._stream.encode(None))


def _transcode(
    before: InputContainer, after: OutputContainer, info: VideoInfo, max_seconds: float
) -> bool:
    """Decode the video and encode it as H.264, and copy the audio; was that the complete video?"""
    video = video_stream(before, info.path)
    video.thread_type = "AUTO"
    encoder = _PreviewEncoder(after, info, max_seconds)
    audio = _playable_audio(before)
    copy: Any = None if audio is None else after.add_stream_from_template(audio)
    start = _start_time(info)
    for packet in before.demux([video] if audio is None else [video, audio]):
        if packet.stream is not video:
            _copy_audio(packet, after, copy, start, max_seconds)
            continue
        try:
            frames: list[Any] = list(packet.decode())
        except av.FFmpegError:  # the result skips this frame, too
            continue
        shift = round(start / packet.time_base)
        if not all(encoder.write(frame, shift) for frame in frames):
            encoder.flush()
            return False
    encoder.flush()
    return True


def _copy_audio(
    packet: Any, after: OutputContainer, copy: Any, start: Fraction, max_seconds: float
) -> None:
    if packet.pts is None or packet.dts is None:
        return
    _shift(packet, start)
    packet.stream = copy
    if packet.pts * packet.time_base <= max_seconds:
        after.mux(packet)


def main() -> int:
    max_seconds, arguments = float(sys.argv[1]), sys.argv[2:]
    sources = zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)
    for source, stem, with_hash in sources:
        event = convert(Path(source), Path(stem), with_hash == "1", max_seconds)
        print(json.dumps(event), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
