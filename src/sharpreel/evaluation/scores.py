"""What one model's pictures of a clip come to, frame by frame against the truth.

    truth ──> Truth: what moves in it, what LPIPS sees in it      once for each frame
    model ──> Tally ──> FrameScore for each frame, ModelResult    for each model

`benchmark` and `compare` count with it; neither holds more than the last pair of frames.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpreel.errors import UsageError
from sharpreel.evaluation.metrics import fidelity
from sharpreel.evaluation.metrics.fidelity import Region, is_constant, qm
from sharpreel.evaluation.metrics.niqe import Niqe
from sharpreel.evaluation.metrics.seams import Seams, error_step, prominence, seam_in_space
from sharpreel.evaluation.metrics.temporal import FLOW_SMALLEST, Motion
from sharpreel.evaluation.protocols import PROTOCOLS, Protocol, measure
from sharpreel.ops import Pixels

if TYPE_CHECKING:
    from torch import Tensor

    from sharpreel.evaluation.metrics.lpips import Lpips


SEEN = 1.5  # times the steps around it: a join that stands out more is noted


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame of one model. `frame` counts from 0 at the beginning of the clip."""

    frame: int
    psnr: float
    ssim: float
    constant: bool = False  # of one colour all over, where the truth is not
    lpips: float | None = None
    niqe: float | None = None

    @property
    def qm(self) -> float:
        return fidelity.qm(self.psnr, self.ssim)


@dataclass(frozen=True)
class ModelResult:
    """One model on one clip: means over the frames that the protocol counts.

    Motion and flicker are means over pairs of neighbouring frames, seams over joins; None: not
    measured.
    """

    model: str
    psnr: float  # dB
    ssim: float
    qm: float
    tof: float | None  # pixels
    warping_error: float | None  # of values in [0, 1]
    flicker: float | None  # levels of 255
    lpips: float | None
    niqe: float | None
    seam_time: float | None  # 1: does not stand out
    seam_space: float | None
    vmaf: float | None
    vmaf_neg: float | None
    fps: float  # of the network alone, one frame of warm-up aside
    frames: tuple[FrameScore, ...] = field(repr=False)


def to_protocol(protocol: str | Protocol) -> Protocol:
    """A key of PROTOCOLS, or a variant, as a protocol.

    Raises:
        UsageError: There is no such key.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[protocol]


def plain(value: Any) -> Any:
    """The same as JSON has it; frames' scores are written as columns."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple) and value and isinstance(value[0], FrameScore):
        names = [f.name for f in dataclasses.fields(FrameScore)]
        return {name: [plain(getattr(score, name)) for score in value] for name in names}
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def mean(values: Sequence[float | None]) -> float | None:
    """None where nothing was measured; a NaN or an infinity among the values stays one."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_of_numbers(values: Sequence[float]) -> float | None:
    """As `mean`, of those that are a number: some measures have none after a cut."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else (math.nan if values else None)


@dataclass(frozen=True)
class MetricSet:
    """What is measured of every frame: a protocol, and what else.

    LPIPS and NIQE look at the pixels that the protocol counts, joins and motion at whole frames.

    Attributes:
        temporal: tOF, warping error and flicker, which need OpenCV.
        seams: Where joins of segments and tiles may show.
    """

    protocol: Protocol
    temporal: bool = True
    lpips: Lpips | None = None
    niqe: Niqe | None = None
    seams: Seams | None = None


class ReferenceFrame:
    """One frame of the truth that counts, and what all that is measured against it shares.

    Args:
        index: Counted from 0 at the beginning of the clip.
        before: The frame that counts before it.
    """

    def __init__(self, measures: MetricSet, index: int, hr: Pixels, before: Pixels | None) -> None:
        self.index, self.hr, self.before = index, hr, before
        self._measures = measures
        self.motion: Motion | None = None
        if measures.temporal and before is not None:
            self.motion = Motion(before, hr)

    @property
    def region(self) -> Region:
        return self._measures.protocol.region(self.hr.shape[0], self.hr.shape[1])

    @cached_property
    def seen(self) -> list[Tensor]:
        """What LPIPS sees in it."""
        assert self._measures.lpips is not None
        return self._measures.lpips.seen(self.hr[self.region])

    def warping_error(self) -> float | None:
        """Its own; see `temporal.warping_error`."""
        if self.motion is None or self.before is None or not self.can_be_warped:
            return None
        return self.motion.warping_error(self.before, self.hr)

    @property
    def can_be_warped(self) -> bool:
        height, width = self.hr.shape[:2]
        return bool(min(height, width) >= FLOW_SMALLEST)

    def niqe(self) -> float | None:
        """Its own."""
        niqe = self._measures.niqe
        return None if niqe is None else niqe(self.hr[self.region])


class ScoreAccumulator:
    """What one model's pictures of a clip come to; it holds the last picture, and numbers."""

    def __init__(self, measures: MetricSet) -> None:
        self.measures = measures
        self.scores: list[FrameScore] = []
        self._before: Pixels | None = None
        self._tof: list[float] = []
        self._warping: list[float] = []
        self._flicker: list[float] = []
        self._steps: dict[int, float] = {}  # of the error, by the later frame
        self._bends: list[float] = []

    def add(self, sr: Pixels, truth: ReferenceFrame) -> None:
        """Measure the next frame that counts.

        Raises:
            ValueError: The frames are of two shapes or types, or too small for a measure.
            MissingExtra: OpenCV is not there.
        """
        hr, wanted = truth.hr, self.measures
        found = measure(sr, hr, wanted.protocol)
        broken = is_constant(sr) and not is_constant(hr)
        lpips = niqe = None
        if wanted.lpips is not None:
            lpips = wanted.lpips.between(wanted.lpips.seen(sr[truth.region]), truth.seen)
        if wanted.niqe is not None:
            niqe = wanted.niqe(sr[truth.region])
        self.scores.append(FrameScore(truth.index, found.psnr, found.ssim, broken, lpips, niqe))
        if self._before is not None and truth.motion is not None:
            self._tof.append(truth.motion.tof(self._before, sr, wanted.protocol))
            if truth.can_be_warped:
                self._warping.append(truth.motion.warping_error(self._before, sr))
            self._flicker.append(truth.motion.flicker(self._before, sr))
        if wanted.seams is not None:
            self._look_for_seams(wanted.seams, sr, truth)
        self._before = sr

    def _look_for_seams(self, seams: Seams, sr: Pixels, truth: ReferenceFrame) -> None:
        if self._before is not None and truth.before is not None and seams.has("t"):
            self._steps[truth.index] = error_step(self._before, sr, (truth.before, truth.hr))
        for y in seams.on("y", sr.shape[0]):
            self._bends.append(seam_in_space(sr, y, 0, truth.hr))
        for x in seams.on("x", sr.shape[1]):
            self._bends.append(seam_in_space(sr, x, 1, truth.hr))

    def joins(self) -> dict[int, float]:
        """How much each join of segments stands out, by its frame."""
        seams = self.measures.seams
        if seams is None or not self._steps:
            return {}
        found = seams.on("t", max(self._steps) + 1)
        return {t: prominence(self._steps, t) for t in found if t in self._steps}

    def result(
        self, model: str, fps: float, vmaf: Mapping[str, float] | None = None
    ) -> ModelResult:
        psnr, ssim = (
            float(np.mean([getattr(score, name) for score in self.scores]))
            for name in ("psnr", "ssim")
        )
        vmaf = vmaf or {}
        return ModelResult(
            model=model,
            psnr=psnr,
            ssim=ssim,
            qm=qm(psnr, ssim),
            tof=mean_of_numbers(self._tof),
            warping_error=mean_of_numbers(self._warping),
            flicker=mean_of_numbers(self._flicker),
            lpips=mean([score.lpips for score in self.scores]),
            niqe=mean_of_numbers([score.niqe for score in self.scores if score.niqe is not None]),
            seam_time=mean_of_numbers(list(self.joins().values())),
            seam_space=mean_of_numbers(self._bends),
            vmaf=vmaf.get("vmaf"),
            vmaf_neg=vmaf.get("vmaf_neg"),
            fps=fps,
            frames=tuple(self.scores),
        )

    def notes(self) -> list[str]:
        """What the means hide, or what made one infinite or no number."""
        notes = []
        for what, frames in (
            (
                "of one colour where the truth is not, and counted",
                [s.frame for s in self.scores if s.constant],
            ),
            ("equal to the truth", [s.frame for s in self.scores if s.psnr == math.inf]),
            (
                "without a number (NaN), which makes the mean one",
                [s.frame for s in self.scores if math.isnan(s.psnr) or math.isnan(s.ssim)],
            ),
            (
                "too flat for NIQE and not in its mean",
                [s.frame for s in self.scores if s.niqe is not None and math.isnan(s.niqe)],
            ),
        ):
            if frames:
                notes.append(f"{listed('frame', frames)} {what}")
        for name, values in (("warping error", self._warping), ("flicker", self._flicker)):
            empty = sum(map(math.isnan, values))
            if empty:
                notes.append(
                    f"{empty} of {len(values)} pairs of frames have no {name} (a cut, or nothing "
                    "that stands still) and are not in its mean"
                )
        joins = {frame: seam for frame, seam in self.joins().items() if seam > SEEN}
        if joins:
            frame = max(joins, key=lambda t: joins[t])
            notes.append(
                f"the join before frame {frame} stands out most, {joins[frame]:.2f} times the "
                "steps around it"
            )
        return notes


def listed(word: str, numbers: Sequence[int], most: int = 5) -> str:
    """ "frame 3 is", "frames 3, 4, 5, 6, 7 and 12 more are"."""
    if len(numbers) == 1:
        return f"{word} {numbers[0]} is"
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"{word}s {', '.join(map(str, numbers[:most]))}{more} are"
