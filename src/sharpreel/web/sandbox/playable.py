"""Videos that a browser plays, made of ones it may not. Run as a child process.

    python -m sharpreel.web.play SECONDS SOURCE TARGET_STEM SUM ...

A file that browsers play already gets a second name; H.264 in another container is packed anew;
everything else is encoded anew, in at most 1920x1080. What has to be made is made of the first
SECONDS only. One JSON object is printed for each source: its `bytes`, its `width` and `height` as
shown, its `sha256` where SUM is 1, and `play`, the name of the playable file, or `why` there is
none. `plays_seconds` is how much of it plays where that is not all.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from sharpreel.errors import InputError
from sharpreel.media.frame import VideoInfo
from sharpreel.media.mux import early_dts
from sharpreel.media.probe import open_input, probe, video_stream
from sharpreel.system import download

PLAYABLE_AUDIO = frozenset({"aac", "mp3"})
LARGEST = (1920, 1080)


def describe(source: Path, stem: Path, with_sum: bool, seconds: float) -> dict[str, Any]:
    """What the module prints for one source, with the playable file made.

    Raises:
        InputError: The source is no video.
    """
    info = probe(source)
    width, height = info.shown_size
    facts: dict[str, Any] = {
        "bytes": source.stat().st_size,
        "width": width,
        "height": height,
    }
    if with_sum:
        facts["sha256"] = download.sha256_of(source)
    try:
        path, whole = make(info, source, stem, seconds)
        facts["play"] = path.name
        if not whole:
            facts["plays_seconds"] = seconds
    except (av.FFmpegError, OSError, InputError) as e:
        facts["why"] = str(e)
    return facts


def make(info: VideoInfo, source: Path, stem: Path, seconds: float) -> tuple[Path, bool]:
    """The playable file `stem`.mp4 or .webm, and is it whole? See the top of this file."""
    suffix = played_as_is(info)
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
        make_it = _pack if _is_plain_h264(info) else _encode
        whole = make_it(before, after, info, seconds)
    os.replace(part, target)
    return target, whole


def _is_plain_h264(info: VideoInfo) -> bool:
    return info.codec == "h264" and info.pix_fmt in ("yuv420p", "yuvj420p")


def played_as_is(info: VideoInfo) -> str | None:
    """The suffix under which every browser plays this file, or None."""
    if "mp4" in info.container and _is_plain_h264(info):
        return ".mp4"
    if "webm" in info.container and info.codec in ("vp8", "vp9") and info.pix_fmt == "yuv420p":
        return ".webm"
    return None


def _zero(container: InputContainer, info: VideoInfo) -> Fraction:
    return info.start_pts * info.time_base


def _pack(before: InputContainer, after: OutputContainer, info: VideoInfo, seconds: float) -> bool:
    """Copy the picture's packets and the sound's, from zero on; was that all?"""
    stream = video_stream(before, info.path)
    early = early_dts(before, stream)
    pairs: dict[int, Any] = {stream.index: after.add_stream_from_template(stream)}
    if info.rotation:
        pairs[stream.index].set_display_rotation(-info.rotation)
    sound = next((s for s in before.streams.audio if s.codec_context.name in PLAYABLE_AUDIO), None)
    if sound is not None:
        pairs[sound.index] = after.add_stream_from_template(sound)
    zero = _zero(before, info)
    for packet in before.demux([before.streams[index] for index in pairs]):
        if packet.dts is None and packet.size and early:
            packet.dts = early.pop(0)
        if packet.dts is None or packet.pts is None:
            continue
        shift = round(zero / packet.time_base)
        packet.pts -= shift
        packet.dts -= shift
        if packet.pts * packet.time_base > seconds:
            return False
        packet.stream = pairs[packet.stream.index]
        after.mux(packet)
    return True


def _encode(
    before: InputContainer, after: OutputContainer, info: VideoInfo, seconds: float
) -> bool:
    """Decode the picture and encode it as H.264, small enough, with its own times; was that all?"""
    source = video_stream(before, info.path)
    source.thread_type = "AUTO"
    shrink = min(LARGEST[0] / info.width, LARGEST[1] / info.height, 1)
    width, height = (max(round(side * shrink / 2) * 2, 2) for side in (info.width, info.height))
    target: Any = after.add_stream("libx264", options={"preset": "veryfast", "crf": "20"})
    context = target.codec_context
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = target.time_base = info.time_base
    context.framerate = info.rate
    context.sample_aspect_ratio = info.sample_aspect_ratio
    if info.rotation:
        target.set_display_rotation(-info.rotation)
    sound = next((s for s in before.streams.audio if s.codec_context.name in PLAYABLE_AUDIO), None)
    copied: Any = None if sound is None else after.add_stream_from_template(sound)
    last, zero = -1, _zero(before, info)
    for packet in before.demux([source] if sound is None else [source, sound]):
        shift = round(zero / packet.time_base)
        if packet.stream is not source:
            if packet.pts is not None and packet.dts is not None:
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = copied
                if packet.pts * packet.time_base <= seconds:
                    after.mux(packet)
            continue
        try:
            frames: list[Any] = list(packet.decode())
        except av.FFmpegError:  # the film leaves this frame out, too
            continue
        for frame in frames:
            at = max((frame.pts or 0) - shift, last + 1)
            if at * info.time_base > seconds:
                after.mux(target.encode(None))
                return False
            small = frame.reformat(width, height, "yuv420p")
            small.pts, small.time_base, last = at, info.time_base, at
            after.mux(target.encode(small))
    after.mux(target.encode(None))
    return True


def main() -> int:
    seconds, words = float(sys.argv[1]), sys.argv[2:]
    for source, stem, with_sum in zip(words[::3], words[1::3], words[2::3], strict=True):
        facts = describe(Path(source), Path(stem), with_sum == "1", seconds)
        print(json.dumps({"event": "play", **facts}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
