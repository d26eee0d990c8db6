"""Bring several videos of the same content into step: find their offset, check times and order.

a          0  1  2  3  4  5 ...
b    0  1  2  3  4  5  6  7 ...        offset 2: frame t of a is frame t + 2 of b
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.data.degrade.resample import area_resize
from sharpreel.errors import InputError
from sharpreel.media import reader as video_reader
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.probe import probe
from sharpreel.ops import Pixels

Signature = npt.NDArray[np.float64]  # luma of a frame, reduced to SIGNATURE_SIZE

MAX_OFFSET = 30  # frames that one video may begin later than the other
SEARCH_FRAMES = 300  # frames of each video that are read to find the offset
MIN_SHARED = 8  # steps that two videos must share for an offset to be accepted
MIN_CORRELATION = 0.5  # of two videos of the same content
SIGNATURE_SIZE = (18, 32)  # height and width


@dataclass(frozen=True)
class AlignedInputs:
    """Videos that are read in step.

    Attributes:
        offsets: For each video, the frames by which its content comes later than the first's.
        may_differ: The videos may end at different frames.
    """

    paths: tuple[Path, ...]
    infos: tuple[VideoInfo, ...]
    offsets: tuple[int, ...]
    may_differ: bool

    @property
    def skipped(self) -> list[int]:
        """Frames of each video before the first frame that all have."""
        return [offset - min(self.offsets) for offset in self.offsets]

    @property
    def num_frames(self) -> int | None:
        """Frames that all have, as far as the containers state their lengths."""
        lengths = [
            info.num_frames - skip
            for info, skip in zip(self.infos, self.skipped, strict=True)
            if info.num_frames is not None
        ]
        return max(min(lengths), 1) if lengths else None


def open_inputs(paths: list[Path], align: bool, notes: list[str]) -> AlignedInputs:
    """Probe videos of one size and, with `align`, find their offsets, which the notes mention.

    Raises:
        InputError: A file is not a video, the sizes differ, or no offset matches.
    """
    infos = [probe(path) for path in paths]
    for info, path in zip(infos[1:], paths[1:], strict=True):
        if (info.width, info.height) != (infos[0].width, infos[0].height):
            raise InputError(
                f"frame 0: {infos[0].width}x{infos[0].height} in {paths[0]} against "
                f"{info.width}x{info.height} in {path}. Scale one to the size of the other first."
            )
    offsets = [0] * len(paths)
    if align:
        for k in range(1, len(paths)):
            offsets[k] = find_offset(paths[0], paths[k])
            notes.append(f"{paths[k]}: {_offset_text(offsets[k])}")
    return AlignedInputs(tuple(paths), tuple(infos), tuple(offsets), may_differ=align)


def _offset_text(offset: int) -> str:
    if offset == 0:
        return "begins at the same frame"
    when = "later" if offset > 0 else "earlier"
    return f"the same content comes {abs(offset)} frame{'s' * (abs(offset) != 1)} {when}"


def find_offset(a: Path, b: Path, most: int = MAX_OFFSET) -> int:
    """Find how many frames later b's content comes: frame t of a is frame t + offset of b.

    Both are reduced to 32x18 pixels of luma. The changes from frame to frame are correlated at
    each offset, which is robust to differences in brightness, sharpness and size. Only the first
    300 frames are read.

    Raises:
        InputError: The videos do not correlate at any offset.
    """
    a_steps, b_steps = (_steps(path) for path in (a, b))
    correlations: dict[int, float] = {}
    for offset in range(-most, most + 1):
        begin = max(0, -offset)
        count = min(len(a_steps) - begin, len(b_steps) - begin - offset)
        if count < min(MIN_SHARED, len(a_steps), len(b_steps)) or count < 1:
            continue
        x = a_steps[begin : begin + count].ravel()
        y = b_steps[begin + offset : begin + offset + count].ravel()
        length = math.sqrt(float(x @ x) * float(y @ y))
        correlations[offset] = float(x @ y) / length if length else 0.0
    best = max(correlations, key=lambda k: (correlations[k], -abs(k)), default=0)
    if correlations.get(best, 0.0) < MIN_CORRELATION:
        raise InputError(
            f"{a} and {b}: no offset of up to {most} frames aligns them (the best, {best}, "
            f"correlates by {correlations.get(best, 0.0):.2f}). Do they have the same content and "
            "frame rate?"
        )
    return best


def _steps(path: Path) -> Signature:
    """Changes from frame to frame at the beginning of a video, (T - 1, h, w)."""
    frames = itertools.islice(video_reader.VideoReader(probe(path)), SEARCH_FRAMES)
    signatures = [_signature(frame.pixels) for frame in frames]
    return np.diff(np.stack(signatures), axis=0)


def _signature(pixels: Pixels) -> Signature:
    """A frame's luma, averaged over areas: small, yet it distinguishes frames of one video."""
    height, width = (min(s, p) for s, p in zip(SIGNATURE_SIZE, pixels.shape[:2], strict=True))
    # A large frame need not be read completely.
    step = max(min(pixels.shape[0] // (4 * height), pixels.shape[1] // (4 * width)), 1)
    small = area_resize(pixels[None, ::step, ::step], height, width)[0]
    return ops.luma(small)


def read_in_step(inputs: AlignedInputs, notes: list[str]) -> Iterator[list[Frame]]:
    """Yield one frame of each video at a time, after checking count, time and order.

    If the ends may differ, the notes mention which videos are longer.

    Raises:
        InputError: A frame has no counterpart, another time, or another order.
    """
    streams = [
        itertools.islice(video_reader.VideoReader(info), skip, None)
        for info, skip in zip(inputs.infos, inputs.skipped, strict=True)
    ]
    order = _OrderCheck(inputs.paths)
    starts: list[Fraction] | None = None
    for index in itertools.count():
        row = [next(stream, None) for stream in streams]
        frames = [frame for frame in row if frame is not None]
        if len(frames) < len(row):
            _check_ends(inputs, index, [frame is None for frame in row], notes)
            return
        seconds = [f.pts * i.time_base for f, i in zip(frames, inputs.infos, strict=True)]
        starts = starts or seconds
        _check_times(index, inputs, [s - t for s, t in zip(seconds, starts, strict=True)])
        order.check(index, frames)
        yield frames
        del frames, row


def _check_ends(inputs: AlignedInputs, index: int, ended: list[bool], notes: list[str]) -> None:
    """Some or all videos have ended before frame `index`."""
    shorter = [path for path, over in zip(inputs.paths, ended, strict=True) if over]
    longer = [path for path, over in zip(inputs.paths, ended, strict=True) if not over]
    if longer and not inputs.may_differ:
        raise InputError(
            f"frame {index}: only in {_names(longer)}; {_names(shorter)} "
            f"{'ends' if len(shorter) == 1 else 'end'} after {index} frames. "
            "With align=True, the frames that all have are compared."
        )
    if longer:
        notes.append(f"{_names(longer)} continues after the {index} frames that all have")


def _names(paths: list[Path]) -> str:
    return " and ".join(map(str, paths))


def _check_times(index: int, inputs: AlignedInputs, times: list[Fraction]) -> None:
    """Raise InputError unless this frame has one time in all videos, from their beginnings."""
    paths, infos = inputs.paths, inputs.infos
    for path, info, seconds in zip(paths[1:], infos[1:], times[1:], strict=True):
        if abs(seconds - times[0]) * max(infos[0].rate, info.rate) * 2 > 1:
            raise InputError(
                f"frame {index}: shown at {float(times[0]):.3f} s in {paths[0]} "
                f"({_rate(infos[0])} frames per second) against {float(seconds):.3f} s in {path} "
                f"({_rate(info)}). Convert one to the frame rate of the other first."
            )


def _rate(info: VideoInfo) -> str:
    return f"{float(info.rate):.6g}"


class _OrderCheck:
    """Finds two neighbouring frames that are swapped in one of the videos."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._before: list[Signature] = []

    def check(self, index: int, frames: list[Frame]) -> None:
        """Raise InputError when each of the last two frames resembles the other's counterpart."""
        now = [_signature(frame.pixels) for frame in frames]
        before, self._before = self._before, now
        for path, first, second in zip(self._paths[1:], before[1:], now[1:], strict=False):
            straight = _distance(before[0], first), _distance(now[0], second)
            crossed = _distance(before[0], second), _distance(now[0], first)
            if min(straight) > 3 and max(crossed) * 3 < min(straight):
                raise InputError(
                    f"frame {index - 1}: frames {index - 1} and {index} of {path} are in the "
                    f"other order than in {self._paths[0]}."
                )


def _distance(x: Signature, y: Signature) -> float:
    """Mean absolute difference in levels."""
    return float(np.mean(np.abs(x - y)))
