"""Measurement protocols of published papers: which colours, pixels and frames count.

Published numbers are often not comparable because protocols differ. `PROTOCOLS` names those of the
best-known lines of papers; `measure` applies one to a frame.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from sharpreel.errors import UsageError
from sharpreel.evaluation.metrics.fidelity import (
    PEAK,
    Channel,
    Region,
    Window,
    channel_planes,
    inner_region,
    mean_ssim,
    to_decibels,
    validate_frames,
)
from sharpreel.ops import Pixels

T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    """How a line of papers compares: colours, borders, frames, and rounding.

    A variant is `dataclasses.replace(PROTOCOLS["P4"], crop_border=2)`.
    """

    name: str
    summary: str
    channel: Channel = "y"
    rounded_luma: bool = False  # Y to whole levels, before PSNR and SSIM
    crop_border: int = 0  # pixels; what `border` does with it:
    # "even": skipped at each side. "uneven": one more at the top and the left. "blocks": sides
    # are cropped around the middle to the largest multiple of 32 that skips 16 or more.
    border: Literal["even", "uneven", "blocks"] = "even"
    ssim_window: Window = "matlab"
    ssim_range: Literal["full", "prediction"] = "full"  # L = 255, or max - min of sr
    skip_first: int = 0  # frames of each clip
    skip_last: int = 0
    only_centre: bool = False
    mse_floor: float = 0.0  # added to the mean squared error of values in [0, 1]
    psnr_equal: float = math.inf  # dB of equal frames

    def region(self, height: int, width: int) -> Region:
        """The rows and columns of a frame that count; ValueError if there are none."""
        match self.border:
            case "even":
                return inner_region(height, width, self.crop_border)
            case "uneven":
                rows, columns = inner_region(height, width, self.crop_border)
                region = slice(rows.start + 1, rows.stop), slice(columns.start + 1, columns.stop)
            case "blocks":
                starts, sizes = [], []
                for side in (height, width):
                    sizes.append((side - 16) // 32 * 32)
                    starts.append((side - sizes[-1]) // 2)
                region = (
                    slice(starts[0], starts[0] + sizes[0]),
                    slice(starts[1], starts[1] + sizes[1]),
                )
        if any(s.stop <= s.start for s in region):
            raise ValueError(f"Protocol {self.name} leaves nothing of a frame of {width}x{height}.")
        return region

    def select(self, frames: Iterable[T]) -> Iterator[T]:
        """Yield the frames of a clip that count; at most `skip_last` frames are held back.

        The middle of a clip is known only at its end: with `only_centre` all are held.
        """
        if self.only_centre:
            clip = list(frames)
            yield from clip[len(clip) // 2 : len(clip) // 2 + 1]
            return
        held: deque[T] = deque()
        for index, frame in enumerate(frames):
            if index >= self.skip_first:
                held.append(frame)
            if len(held) > self.skip_last:
                yield held.popleft()


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "P1",
            "BasicVSR, BasicSR, VRT, RVRT, IART on Vid4 and UDM10: Y, full frames, all of them.",
        ),
        Protocol(
            "P1-RGB", "The same papers on REDS4: RGB, full frames, all of them.", channel="rgb"
        ),
        Protocol(
            "P1-Vimeo",
            "The same papers on Vimeo-90K-T: Y, only the middle one of seven frames.",
            only_centre=True,
        ),
        Protocol(
            "P2",
            "DUF, RRN, RSDN, ETDM, PFNL (blurred input): Y, 8 pixels off each side, all frames.",
            crop_border=8,
        ),
        # The script rounds colours to integers, which ours are, but not Y. Its SSIM is
        # scikit-image's with the defaults of 2020 and the range of the prediction.
        Protocol(
            "P3",
            "TecoGAN, EGVSR (official_metrics/metrics.py): Y, sides cut to a multiple of 32, "
            "without the first two and the last two frames.",
            border="blocks",
            ssim_window="uniform",
            ssim_range="prediction",
            skip_first=2,
            skip_last=2,
        ),
        # The script compares the network's floats, neither clamped nor rounded; we compare the
        # integers that are written to the file. It has no SSIM; ours uses the same pixels.
        Protocol(
            "P4",
            "RBPN and iSeeBetter's test script, x4: RGB, 5 pixels off the top and the left, 4 off "
            "the bottom and the right, frames with all six neighbours.",
            channel="rgb",
            crop_border=4,
            border="uneven",
            skip_first=3,
            skip_last=3,
            psnr_equal=100.0,
        ),
        # Their tables measure the network where its convolutions without padding leave pixels (6
        # or 9 fewer at each side) and bicubic everywhere; here both are measured everywhere. 80 dB
        # is the maximum that the floor allows.
        Protocol(
            "E",
            "Temporal Super Resolution (super-enhanced-resolution): RGB, full frames, all of "
            "them, PSNR of an error with 1e-8 added, SSIM with 7 taps; see qm and score.",
            channel="rgb",
            ssim_window="seven",
            mse_floor=1e-8,
        ),
    )
}


def to_protocol(protocol: str | Protocol) -> Protocol:
    """Return a protocol by its key in PROTOCOLS; a variant is returned as it is.

    Raises:
        UsageError: There is no such key.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UsageError(
            f"protocol={protocol!r} is not known; choose one of {', '.join(PROTOCOLS)}."
        )
    return PROTOCOLS[protocol]


@dataclass(frozen=True)
class Measured:
    """PSNR and SSIM of one frame by one protocol."""

    psnr: float  # dB
    ssim: float


def measure(sr: Pixels, hr: Pixels, protocol: Protocol) -> Measured:
    """Measure PSNR and SSIM of one frame as a line of papers does.

    `protocol.select` chooses the frames of a clip that count; a clip's number is the mean over
    them.

    Args:
        sr, hr: RGB, (H, W, 3), of one shape and type.
        protocol: One of PROTOCOLS, or a variant.

    Returns:
        By "P3", SSIM is NaN when the counted region of sr is flat: its range is 0.
    """
    validate_frames(sr, hr)
    region = protocol.region(hr.shape[0], hr.shape[1])
    rounded = protocol.rounded_luma and protocol.channel == "y"
    a, b = (channel_planes(frame[region], protocol.channel, rounded) for frame in (sr, hr))
    decibels = to_decibels(a, b, protocol.mse_floor)
    data_range = PEAK if protocol.ssim_range == "full" else float(np.ptp(a))
    return Measured(
        psnr=protocol.psnr_equal if decibels == math.inf else decibels,
        ssim=mean_ssim(a, b, protocol.ssim_window, data_range),
    )
