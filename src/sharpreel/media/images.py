"""Image files: PNG and JPEG are read, PNG is written, by FFmpeg's own codecs."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from sharpreel.errors import InputError, write_error
from sharpreel.media.color import color_of
from sharpreel.media.convert import split_alpha, to_rgb
from sharpreel.media.frame import VideoInfo
from sharpreel.media.probe import IMAGE_SUFFIXES
from sharpreel.media.side_data import display_matrix_of, side_data_of, upright
from sharpreel.ops import Pixels

HEADER_BYTES = 1 << 18  # a JPEG's size comes after its EXIF block, which holds a thumbnail
RATE = Fraction(25)  # of a folder of images: used only to compute scene lengths


def image_files(folder: Path) -> list[Path]:
    """PNG and JPEG files of a folder in the order of their names, numbers compared as numbers."""
    files = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    ]
    return sorted(files, key=lambda p: _natural_key(p.name))


def _natural_key(name: str) -> list[str | int]:
    """["a", 10, ".png"] from "a10.png", so that a9 sorts before a10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class Header:
    """The header of an image file: stored size, bits per sample, transparency."""

    width: int
    height: int
    bits: int
    alpha: bool


def header_of(path: Path) -> Header | None:
    """A PNG's or JPEG's header, read without decoding; None when the file is neither.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
    except OSError as e:
        raise InputError(f"{path}: not a readable image.") from e
    if start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) >= 26:
        width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
        alpha = kind in (4, 6) or b"tRNS" in start.partition(b"IDAT")[0]
        return Header(width, height, max(bits, 8), alpha)
    at = 2 if start.startswith(b"\xff\xd8") else len(start)
    while at + 9 <= len(start):
        marker, length = start[at + 1], int.from_bytes(start[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width = struct.unpack(">BHH", start[at + 4 : at + 9])
            return Header(width, height, bits, alpha=False)
        at += 2 + length
    return None


def read_image(path: Path) -> VideoFrame:
    """Decode a PNG or JPEG, without converting it.

    Raises:
        InputError: Not an image.
    """
    try:
        with av.open(io.BytesIO(path.read_bytes()), "r") as file:
            frame = next(file.decode(video=0), None)
    except (av.FFmpegError, OSError, IndexError) as e:
        raise InputError(f"{path}: not a readable image.") from e
    if frame is None:
        raise InputError(f"{path}: contains no image.")
    return frame


def orientation_of(frame: VideoFrame) -> tuple[int, ...] | None:
    """A decoded image's display matrix, from EXIF's orientation, for `side_data.upright`."""
    return display_matrix_of(side_data_of(frame))


def info_of(frame: VideoFrame, path: Path, location: Path, count: int) -> VideoInfo:
    """Describe `count` images like this one, in the folder or file `location`, as a video."""
    components = frame.format.components
    blank = np.broadcast_to(np.uint8(0), (frame.height, frame.width, 1))
    height, width, _ = upright(blank, orientation_of(frame)).shape
    alpha = any(c.is_alpha for c in components)
    if frame.format.name == "pal8":  # whose colours may be transparent
        header = header_of(path)
        alpha = header is not None and header.alpha
    return VideoInfo(
        path=str(location),
        container="pictures",
        stream_index=0,
        codec=path.suffix.lower().lstrip("."),
        pix_fmt=frame.format.name,
        width=width,
        height=height,
        time_base=1 / RATE,
        rate=RATE,
        start_pts=0,
        num_frames=count,
        duration_seconds=float(count / RATE),
        color=color_of(frame, str(path)),
        bits=max(c.bits for c in components),
        sample_aspect_ratio=Fraction(1),
        display_matrix=None,
        interlaced=False,
        alpha=alpha,
        hdr10=None,
        dynamic_hdr=(),
    )


def read_rgb(path: Path) -> Pixels:
    """Read a PNG or JPEG as RGB (H, W, 3), uint8, or uint16 if it is deeper; alpha is dropped."""
    raw = read_image(path)
    info = info_of(raw, path, path, 1)
    raw.pts, raw.time_base = 0, info.time_base
    convert = to_rgb(info, info.alpha)
    convert.push(raw)
    for converted in (*convert.pull(), *convert.finish()):
        return upright(split_alpha(converted, info.alpha)[0], orientation_of(raw))
    raise InputError(f"{path}: contains no image.")


def encode_png(pixels: Pixels) -> bytes:
    """The bytes of a PNG file of RGB or RGBA pixels, (H, W, 3 or 4), uint8 or uint16."""
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
    """Write an image file; see `encode_png`.

    Raises:
        DiskFullError, UsageError: The file cannot be written.
    """
    try:
        path.write_bytes(encode_png(pixels))
    except OSError as e:
        raise write_error(path, e) from e
