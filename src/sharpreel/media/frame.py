"""The types of frame I/O: `Frame`, `VideoInfo`, `TimeRange` and the `FrameSink` protocol.

Between modules a frame is an integer RGB array with its timestamp; YUV never leaves `media`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from sharpreel.errors import InputError
from sharpreel.media.color import ColorInfo, Hdr10
from sharpreel.ops import Pixels


@dataclass(frozen=True)
class TimeRange:
    """The part of the input that is kept, in seconds of its timestamps; None is open-ended."""

    start: Fraction | None = None
    end: Fraction | None = None

    def holds(self, seconds: Fraction, lasts: Fraction = Fraction(0)) -> bool:
        """Does something that begins at `seconds` and lasts `lasts` seconds overlap the range?"""
        inside = self.start is None or seconds >= self.start or seconds + lasts > self.start
        return inside and (self.end is None or seconds < self.end)

    @property
    def shift(self) -> Fraction:
        """Seconds to subtract from every timestamp, so that a cut starts at zero."""
        return self.start or Fraction(0)


WHOLE_VIDEO = TimeRange()


def time_range_of(info: VideoInfo, start: Fraction | None, end: Fraction | None) -> TimeRange:
    """The range for a start and end that a user gives, who sees every file begin at zero."""
    begin, finish = (None if at is None else at + info.origin for at in (start, end))
    return TimeRange(begin, finish)


def validate_time_range(info: VideoInfo, window: TimeRange) -> None:
    """Raise InputError when the range begins after the end of the input."""
    if window.start is None or info.duration_seconds is None:
        return
    start = float(window.start - info.origin)
    end = float(info.start_pts * info.time_base - info.origin) + info.duration_seconds
    if start >= end:
        raise InputError(f"{info.path}: start={start:.2f} s is after its end ({end:.2f} s).")


class FrameSink(Protocol):
    """Writes the frames of one segment: `SegmentWriter`, `ImageFolderWriter`.

    Attributes:
        pts: Timestamps of the frames written so far.
        order: `order[k]` is the display rank of the k-th packet in the file.
    """

    pts: list[int]
    order: list[int]

    def write(self, frame: Frame) -> None:
        """Encode one frame; frames arrive in display order."""

    def close(self) -> None:
        """Finish the file; every frame written is in it now."""

    def abandon(self) -> None:
        """Close without finishing: the file will not be used."""


MIN_SIDE, MAX_SIDE = 16, 16384  # pixels of an output


@dataclass(frozen=True)
class Frame:
    """One decoded frame: RGB (H, W, 3), uint8 or uint16 (full range), and its timestamp.

    `pts` and `duration` are in the stream's time base; `key` means that decoding can start here;
    `alpha` is (H, W, 1) of the same type when the video has transparency that will be kept.
    """

    pixels: Pixels
    pts: int
    duration: int = 0
    key: bool = False
    alpha: Pixels | None = None


@dataclass(frozen=True)
class VideoInfo:
    """Description of a video stream, as `probe` reads it from headers and first frames."""

    path: str
    container: str  # libavformat's name, "mov,mp4,m4a,3gp,3g2,mj2"
    stream_index: int
    codec: str
    pix_fmt: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction  # average frames per second
    start_pts: int
    num_frames: int | None  # stated by the container or estimated; None when unknown
    duration_seconds: float | None
    color: ColorInfo
    bits: int
    sample_aspect_ratio: Fraction
    display_matrix: tuple[int, ...] | None
    interlaced: bool
    alpha: bool
    hdr10: Hdr10 | None
    dynamic_hdr: tuple[str, ...]  # kinds of per-frame HDR metadata, which cannot be kept
    origin: Fraction = Fraction(0)  # seconds that players show as zero, for transport streams

    @property
    def rotation(self) -> int:
        """Degrees by which players turn the frame clockwise: 0, 90, 180 or 270."""
        if self.display_matrix is None:
            return 0
        a, b = self.display_matrix[0], self.display_matrix[1]
        if abs(a) >= abs(b):
            return 0 if a >= 0 else 180
        return 90 if b > 0 else 270

    @property
    def sideways(self) -> bool:
        """Is the frame shown turned by a quarter?"""
        return self.rotation in (90, 270)

    @property
    def display_aspect_ratio(self) -> Fraction:
        """Width to height of the stored frame as it is shown, before rotation."""
        return self.sample_aspect_ratio * Fraction(self.width, self.height)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) after rotation."""
        return (self.height, self.width) if self.sideways else (self.width, self.height)
