"""Side data of streams and frames: rotation, HDR10, and types that PyAV does not know."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from fractions import Fraction
from typing import Any, cast

import av.sidedata.sidedata
import numpy as np
from av.video.frame import VideoFrame

from sharpreel.media.color import Hdr10
from sharpreel.ops import Pixels

DYNAMIC_HDR = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
}


def side_data_of(frame: VideoFrame) -> dict[str, bytes]:
    """The side data of a frame, by FFmpeg's names without their prefix."""
    return {d.type.name: bytes(d) for d in cast(Iterable[Any], frame.side_data)}


def display_matrix_of(side_data: dict[str, bytes]) -> tuple[int, ...] | None:
    """The nine numbers of the display matrix (rotation and mirroring); None without one."""
    matrix = side_data.get("DISPLAYMATRIX")
    return struct.unpack("<9i", matrix) if matrix else None


def upright(pixels: Pixels, matrix: tuple[int, ...] | None) -> Pixels:
    """A frame (H, W, C), rotated and mirrored as its display matrix requires."""
    if matrix is None:
        return pixels
    a, b, _, c, d, *_ = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _unknown_side_data(cls: type[Enum], value: object) -> Enum:
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return cast(Enum, member)


# PyAV refuses a frame with side data that is newer than PyAV, such as EXIF or a view's number.
setattr(av.sidedata.sidedata.Type, "_missing_", classmethod(_unknown_side_data))  # noqa: B010


def hdr10_of(side_data: dict[str, bytes]) -> Hdr10 | None:
    """HDR10 static metadata; None where there is none."""
    mastering = side_data.get("MASTERING_DISPLAY_METADATA")
    light = side_data.get("CONTENT_LIGHT_LEVEL")
    if mastering is None and light is None:
        return None
    hdr = Hdr10()
    if mastering is not None:
        # AVMasteringDisplayMetadata: rationals of R, G, B, white (x, y), min, max, two flags.
        numbers = struct.unpack("<20i", mastering[:80])
        values = [Fraction(n, d or 1) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
        pairs = tuple(zip(values[0:8:2], values[1:8:2], strict=True))
        hdr = replace(hdr, primaries=pairs, min_luminance=values[8], max_luminance=values[9])
    if light is not None:
        max_cll, max_fall = struct.unpack("<2I", light[:8])
        hdr = replace(hdr, max_cll=max_cll, max_fall=max_fall)
    return hdr
