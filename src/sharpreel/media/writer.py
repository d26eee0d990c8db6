"""Encodes frames to a video file: `SegmentWriter` writes one segment of a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.sidedata.sidedata
from av.video.frame import VideoFrame

from sharpreel.errors import SharpreelError, write_error
from sharpreel.media.convert import from_rgb, to_video_frame
from sharpreel.media.encoders import EncodeSettings, add_video_stream, own_priority
from sharpreel.media.frame import Frame


class SegmentWriter:
    """Encodes one segment of video to a Matroska file of its own.

    Matroska counts in milliseconds, so its timestamps only keep order; `pts` and `order` hold the
    exact ones: `order[k]` is the display rank of the k-th packet in the file.

    Raises:
        DiskFullError, UsageError: The file cannot be written.
    """

    def __init__(self, path: Path, settings: EncodeSettings) -> None:
        self.path, self.settings = path, settings
        self.pts: list[int] = []
        self.order: list[int] = []
        self._shown: list[int] = []  # milliseconds of each rank, strictly increasing
        self._rank: dict[int, int] = {}
        self._converter = from_rgb(settings)
        try:
            self._file = av.open(
                os.path.abspath(path),
                "w",
                format="matroska",
                options={"fflags": "+bitexact", "avoid_negative_ts": "disabled"},
            )
        except OSError as e:
            raise write_error(path, e) from e
        self._stream = add_video_stream(self._file, settings)

    def write(self, frame: Frame) -> None:
        """Encode one frame; frames arrive in display order."""
        self._rank[frame.pts] = len(self.pts)
        self.pts.append(frame.pts)
        shown = round((frame.pts - self.pts[0]) * self.settings.time_base * 1000)
        self._shown.append(max(shown, self._shown[-1] + 1) if self._shown else 0)
        raw = to_video_frame(frame.pixels)
        raw.pts, raw.time_base = frame.pts, self.settings.time_base
        self._converter.push(raw)
        self._encode(self._converter.pull())

    def _encode(self, converted: Iterator[VideoFrame]) -> None:
        for frame in converted:
            frame.pict_type = 0
            # ProRes takes these from the frame, the others from the encoder.
            frame.color_primaries = self.settings.color.primaries
            frame.color_trc = self.settings.color.transfer
            with own_priority():
                packets = self._stream.encode(frame)
            self._mux(packets)

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            assert packet.pts is not None
            assert packet.time_base is not None
            exact = round(packet.pts * packet.time_base / self.settings.time_base)
            rank = self._rank.pop(exact)
            self.order.append(rank)
            packet.time_base = Fraction(1, 1000)
            packet.pts = self._shown[rank]
            packet.dts = len(self.order) - 1000  # not stored; must only increase and stay below pts
            packet.duration = 0
            try:
                self._file.mux_one(packet)
            except OSError as e:
                raise write_error(self.path, e) from e

    def close(self) -> None:
        """Flush the encoder and finish the file.

        Raises:
            SharpreelError: The encoder returned another number of packets than frames were written.
        """
        self._encode(self._converter.finish())
        try:
            self._mux(self._stream.encode(None))
            self._file.close()
        except OSError as e:
            raise write_error(self.path, e) from e
        if sorted(self.order) != list(range(len(self.pts))):
            raise SharpreelError(
                f"{self.path}: the encoder returned {len(self.order)} packets "
                f"for {len(self.pts)} frames."
            )

    def abandon(self) -> None:
        """Close without finishing: the file will not be used."""
        with contextlib.suppress(OSError, av.FFmpegError):
            self._file.close()
