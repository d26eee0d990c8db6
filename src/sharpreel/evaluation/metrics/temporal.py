"""Temporal metrics of neighbouring frames: tOF, warping error and flicker; they need OpenCV."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import zip_longest
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sharpreel.errors import MissingExtra
from sharpreel.evaluation.metrics.fidelity import PEAK, Plane, grey_levels, validate_frames
from sharpreel.ops import Pixels

if TYPE_CHECKING:
    from sharpreel.evaluation.protocols import Protocol

Flow = npt.NDArray[np.float32]  # (H, W, 2)
Grey = npt.NDArray[np.uint8]  # (H, W)
GreyPair = tuple[Grey, Grey]  # two frames in a row
FLOW_SMALLEST = 16  # pixels; OpenCV's inverse search accepts no smaller frames


def opencv() -> ModuleType:
    """Import OpenCV.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as e:
        raise MissingExtra("Measuring motion (OpenCV)", "torch") from e


def to_grey(frame: Pixels) -> Grey:
    """Convert a frame to grey with OpenCV, as all metrics of motion do."""
    cv2 = opencv()
    bytes_ = frame if frame.dtype == np.uint8 else np.rint(grey_levels(frame)).astype(np.uint8)
    grey: Grey = cv2.cvtColor(np.ascontiguousarray(bytes_), cv2.COLOR_RGB2GRAY)
    return grey


class Motion:
    """Motion between two frames of the reference, and metrics of results against it.

    Optical flow takes most of the time. It is computed once, when it is first needed, for any
    number of results: `tof`, `warping_error` and `flicker` are those of the functions of these
    names.

    Args:
        hr_prev, hr_next: RGB, (H, W, 3), of one shape and type.
    """

    def __init__(self, hr_prev: Pixels, hr_next: Pixels) -> None:
        validate_frames(hr_prev, hr_next)
        self.hr_prev, self.hr_next = hr_prev, hr_next

    @cached_property
    def _greys(self) -> GreyPair:
        return to_grey(self.hr_prev), to_grey(self.hr_next)

    @cached_property
    def _flow(self) -> Flow:
        return _farneback(*self._greys)

    @cached_property
    def _largest_change(self) -> Plane:
        """Change of each pixel in levels, in the colour that changes most, (H, W)."""
        change: Plane = np.abs(grey_levels(self.hr_next) - grey_levels(self.hr_prev)).max(axis=2)
        return change

    @cached_property
    def _samples(self) -> tuple[npt.NDArray[np.bool_], _Samples]:
        """The pixels that are visible in both frames, (H, W), and where they are in the next."""
        cv2 = opencv()
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)
        forward, backward = (
            search.calc(*pair, None).astype(np.float64) for pair in (self._greys, self._greys[::-1])
        )
        visible = _visible_in_both(forward, backward)
        x, y = _targets(forward)
        return visible, _Samples(x[visible], y[visible], visible.shape)

    def tof(self, sr_prev: Pixels, sr_next: Pixels, protocol: Protocol | None = None) -> float:
        validate_frames(sr_prev, sr_next, self.hr_next)
        difference = (_farneback(to_grey(sr_prev), to_grey(sr_next)) - self._flow).astype(
            np.float64
        )
        if protocol is not None:
            difference = difference[protocol.region(difference.shape[0], difference.shape[1])]
        return float(np.mean(np.hypot(difference[..., 0], difference[..., 1])))

    def warping_error(self, sr_prev: Pixels, sr_next: Pixels) -> float:
        validate_frames(sr_prev, sr_next, self.hr_next)
        if min(sr_next.shape[:2]) < FLOW_SMALLEST:
            raise ValueError(
                f"Warping needs sides of {FLOW_SMALLEST} pixels or more, got "
                f"{sr_next.shape[1]}x{sr_next.shape[0]}."
            )
        visible, samples = self._samples
        if not visible.any():
            return math.nan
        difference = (samples.of(grey_levels(sr_next)) - grey_levels(sr_prev)[visible]) / PEAK
        return float(np.mean(difference**2))

    def flicker(self, sr_prev: Pixels, sr_next: Pixels, still: float = 1.0) -> float:
        validate_frames(sr_prev, sr_next, self.hr_next)
        static = self._largest_change <= still
        if not static.any():
            return math.nan
        return float(np.mean(np.abs(grey_levels(sr_next) - grey_levels(sr_prev))[static]))


def tof_pair(
    sr_prev: Pixels,
    sr_next: Pixels,
    hr_prev: Pixels,
    hr_next: Pixels,
    protocol: Protocol | None = None,
) -> float:
    """How much the motion from one frame to the next differs from the reference's, in pixels.

    tOF of TecoGAN (Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based
    Video Generation", SIGGRAPH 2020; github.com/thunil/TecoGAN, metrics.py): the mean distance
    between the two optical flows, which are Farneback's on grey with levels .5 and 3, window 15, 3
    iterations, polynomials 5 and 1.2. Lower is better.

    Args:
        sr_prev, sr_next, hr_prev, hr_next: RGB, (H, W, 3), of one shape and type.
        protocol: Its border is excluded: "P3" is TecoGAN's. None: all pixels count.
    """
    return Motion(hr_prev, hr_next).tof(sr_prev, sr_next, protocol)


def _farneback(before: Grey, after: Grey) -> Flow:
    flow: Flow = opencv().calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    return flow


def tof(
    sr_frames: Iterable[Pixels], hr_frames: Iterable[Pixels], protocol: Protocol | None = None
) -> float:
    """The mean of `tof_pair` over a video, in pixels; the frames are read one by one.

    Args:
        sr_frames, hr_frames: The same number of RGB frames, (H, W, 3), two or more.
        protocol: Its border and its first and last frames are excluded: "P3" is TecoGAN's.
    """
    pairs = _paired(sr_frames, hr_frames)
    if protocol is not None:
        pairs = protocol.select(pairs)
    total, count = 0.0, 0
    before: tuple[Pixels, Pixels] | None = None
    for sr, hr in pairs:
        validate_frames(sr, hr)
        if before is not None:
            total += tof_pair(before[0], sr, before[1], hr, protocol)
            count += 1
        before = sr, hr
    if not count:
        raise ValueError("tOF needs two frames or more that the protocol counts.")
    return total / count


def _paired(
    sr_frames: Iterable[Pixels], hr_frames: Iterable[Pixels]
) -> Iterator[tuple[Pixels, Pixels]]:
    for index, (sr, hr) in enumerate(zip_longest(sr_frames, hr_frames)):
        if sr is None or hr is None:
            shorter = "sr" if sr is None else "hr"
            raise ValueError(
                f"sr and hr must have the same number of frames, but {shorter} ends after {index}."
            )
        yield sr, hr


def warping_error(sr_prev: Pixels, sr_next: Pixels, hr_prev: Pixels, hr_next: Pixels) -> float:
    """How much a point changes its colour from one frame to the next, along the true motion.

    Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018
    (github.com/phoenix104104/fast_blind_video_consistency, evaluate_WarpError.py): the next frame
    is warped to the previous one, and the mean squared difference is taken over the pixels that
    are visible in both. With f the flow from previous to next, and b the flow back, sampled
    where f points, a pixel is hidden in the next frame when

        |f + b|^2 > .01 (|f|^2 + |b|^2) + .5     the way back leads elsewhere, or
        |grad f|^2 > .01 |f|^2 + .002            it is on a border between motions.

    What we changed: the flow is OpenCV's inverse search (preset medium, down to the finest scale)
    between the reference frames, which avoids the weights of FlowNet2; and pixels that leave the
    frame also count as hidden.

    Args:
        sr_prev, sr_next, hr_prev, hr_next: RGB, (H, W, 3), of one shape and type, sides of 16
            pixels or more. A soft video changes less than a sharp one and so has less error than
            the reference itself, whose error is that of hr in place of sr: quote both.

    Returns:
        Mean over pixels and colours, of values in [0, 1]; 1e-3 is a common unit. NaN when no pixel
        is visible in both frames, as after a cut.
    """
    return Motion(hr_prev, hr_next).warping_error(sr_prev, sr_next)


def _visible_in_both(forward: Plane, backward: Plane) -> npt.NDArray[np.bool_]:
    """Which pixels of the first frame the second one shows, (H, W); flows are (H, W, 2)."""
    h, w = forward.shape[:2]
    x, y = _targets(forward)
    returned = _Samples(x, y, (h, w)).of(backward)
    length = (forward**2).sum(axis=2)
    astray = ((forward + returned) ** 2).sum(axis=2)
    elsewhere = astray > 0.01 * (length + (returned**2).sum(axis=2)) + 0.5
    slope = np.zeros((h, w))
    slope[:, :-1] += (np.diff(forward, axis=1) ** 2).sum(axis=2)
    slope[:-1] += (np.diff(forward, axis=0) ** 2).sum(axis=2)
    border = slope > 0.01 * length + 0.002
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    visible: npt.NDArray[np.bool_] = inside & ~elsewhere & ~border
    return visible


def _targets(flow: Plane) -> tuple[Plane, Plane]:
    """Where each pixel goes: x and y, (H, W), of a flow (H, W, 2)."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    return x + flow[..., 0], y + flow[..., 1]


class _Samples:
    """Bilinear sampling of an image at positions between its pixels; edge pixels repeat outside.

    Args:
        x, y: Positions, of one shape.
        size: Height and width of the image.
    """

    def __init__(self, x: Plane, y: Plane, size: tuple[int, ...]) -> None:
        h, w = size
        x, y = x.clip(0, w - 1), y.clip(0, h - 1)
        self._left, self._top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
        self._right = np.minimum(self._left + 1, w - 1)
        self._bottom = np.minimum(self._top + 1, h - 1)
        self._across, self._down = (x - self._left)[..., None], (y - self._top)[..., None]

    def of(self, image: Plane) -> Plane:
        """Bilinear samples of (H, W, C), (..., C)."""
        upper, lower = (
            image[line, self._left] * (1 - self._across) + image[line, self._right] * self._across
            for line in (self._top, self._bottom)
        )
        samples: Plane = upper * (1 - self._down) + lower * self._down
        return samples


def flicker(
    sr_prev: Pixels, sr_next: Pixels, hr_prev: Pixels, hr_next: Pixels, still: float = 1.0
) -> float:
    """How much sr changes where the reference is static: mean absolute change in 8-bit levels.

    Args:
        sr_prev, sr_next, hr_prev, hr_next: RGB, (H, W, 3), of one shape and type.
        still: The reference is static where none of its colours changes by more than this many
            levels. Flat parts of moving objects are static, too.

    Returns:
        Mean over pixels and colours; NaN when nothing is static.
    """
    return Motion(hr_prev, hr_next).flicker(sr_prev, sr_next, still)
