"""Decode and encode the frames of the live socket; nothing is decoded before its size is checked.

The size is read from the image's header, so a small file cannot expand to a large frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from sharpreel.ops import Pixels
from sharpreel.web.http.live_protocol import (
    INVALID_IMAGE,
    MAX_PIXELS,
    MIN_SIDE,
    TOO_BIG,
    LiveError,
)

JPEG_QUALITY, WEBP_QUALITY = 90, 85


def image_size(data: bytes) -> tuple[str, int, int]:
    """(".jpg" or ".webp", width, height) from an image's header.

    Raises:
        LiveError: It is neither a baseline JPEG nor a still WebP. (Progressive JPEG lets a few
            bytes request another pass over the complete image, and no canvas writes it.)
    """
    if data[:2] == b"\xff\xd8":
        return ".jpg", *_jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp", *_webp_size(data)
    raise LiveError(INVALID_IMAGE, "a frame must be a JPEG or WebP image")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in (0xC0, 0xC1):  # start of a frame that is coded in one pass
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        elif 0xC2 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise LiveError(INVALID_IMAGE, "a JPEG frame must be baseline, not progressive")
        else:
            at += 2 + length
    raise LiveError(INVALID_IMAGE, "the JPEG is damaged: its header has no size")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind, body = data[12:16], data[20:]
    if len(body) >= 10 and kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return (
            int.from_bytes(body[6:8], "little") & 0x3FFF,
            int.from_bytes(body[8:10], "little") & 0x3FFF,
        )
    if len(body) >= 5 and kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(body) >= 10 and kind == b"VP8X" and not body[0] & 0x02:  # not an animation
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    raise LiveError(INVALID_IMAGE, "the WebP is damaged or animated")


def decode(data: bytes) -> tuple[str, Pixels]:
    """The format of an image, and its RGB pixels (H, W, 3), uint8.

    Raises:
        LiveError: It is not an image, or too large or too small.
    """
    kind, width, height = image_size(data)
    if width * height > MAX_PIXELS:
        raise LiveError(TOO_BIG, f"{width}x{height} is too large for a live frame")
    if min(width, height) < MIN_SIDE:
        raise LiveError(INVALID_IMAGE, f"{width}x{height} is too small for a frame")
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        bgr = None
    if bgr is None or bgr.shape != (height, width, 3):
        raise LiveError(INVALID_IMAGE, "the image cannot be decoded")
    return kind, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encode(kind: str, pixels: Pixels) -> bytes:
    """RGB pixels (H, W, 3), uint8, as an image in the format ".jpg" or ".webp"."""
    quality = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY],
    }[kind]
    ok, data = cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    assert ok
    return data.tobytes()
