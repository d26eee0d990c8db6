"""Single pictures: PNG and JPEG files, read and written by FFmpeg's own codecs."""

from __future__ import annotations

import io
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from sharpreel import video
from sharpreel.errors import InputError, write_error
from sharpreel.ops import Frame as Pixels
from sharpreel.video import VideoInfo

RATE = Fraction(25)  # of a folder of pictures: only scene lengths are reckoned with it


def picture_files(folder: Path) -> list[Path]:
    """PNG and JPEG files of a folder in the order of their names, numbers counted as numbers."""
    files = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in video.IMAGE_SUFFIXES and not p.name.startswith(".")
    ]
    return sorted(files, key=lambda p: [int(x) if x.isdigit() else x for x in _parts(p.name)])


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)


def read_picture(path: Path) -> VideoFrame:
    """One PNG or JPEG as a decoded frame, not converted.

    Raises:
        InputError: Not a picture.
    """
    try:
        with av.open(io.BytesIO(path.read_bytes()), "r") as file:
            frame = next(file.decode(video=0), None)
    except (av.FFmpegError, OSError, IndexError) as e:
        raise InputError(f"{path}: not a readable picture.") from e
    if frame is None:
        raise InputError(f"{path}: holds no picture.")
    return frame


def info_of(frame: VideoFrame, path: Path, place: Path, count: int) -> VideoInfo:
    """Pictures like this one described as a video: `place` holds `count` of them."""
    components = frame.format.components
    return VideoInfo(
        path=str(place),
        container="pictures",
        stream_index=0,
        codec=path.suffix.lower().lstrip("."),
        pix_fmt=frame.format.name,
        width=frame.width,
        height=frame.height,
        time_base=1 / RATE,
        rate=RATE,
        start_pts=0,
        num_frames=count,
        duration_seconds=float(count / RATE),
        color=video.color_of(frame, str(path)),
        bits=max(c.bits for c in components),
        sample_aspect_ratio=Fraction(1),
        display_matrix=None,
        interlaced=False,
        alpha=any(c.is_alpha for c in components),
        hdr10=None,
        dynamic_hdr=(),
    )


def read_rgb(path: Path) -> Pixels:
    """One PNG or JPEG as RGB (H, W, 3), uint8, or uint16 where it is deeper; without its alpha."""
    raw = read_picture(path)
    info = info_of(raw, path, path, 1)
    raw.pts, raw.time_base = 0, info.time_base
    convert = video.to_rgb(info, info.alpha)
    convert.push(raw)
    for ready in (*convert.pull(), *convert.finish()):
        return video.split_alpha(ready, info.alpha)[0]
    raise InputError(f"{path}: holds no picture.")


def encode_png(pixels: Pixels) -> bytes:
    """RGB or RGBA (H, W, 3 or 4), uint8 or uint16, as the bytes of a PNG file."""
    height, width, channels = pixels.shape
    deep = pixels.dtype == np.uint16
    source = {3: "rgb48le", 4: "rgba64le"}[channels] if deep else {3: "rgb24", 4: "rgba"}[channels]
    target = {3: "rgb48be", 4: "rgba64be"}[channels] if deep else source
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), source)
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, target
    encoder.time_base = 1 / RATE
    if target != source:
        frame = frame.reformat(format=target)
    frame.pts = 0
    return b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])


def write_png(path: Path, pixels: Pixels) -> None:
    """Write one picture; see `encode_png`."""
    try:
        path.write_bytes(encode_png(pixels))
    except OSError as e:
        raise write_error(path, e) from e
