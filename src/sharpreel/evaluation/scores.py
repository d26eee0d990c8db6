"""Score versions of a clip frame by frame against a reference, for `benchmark` and `compare`.

    reference ──> ReferenceFrame: its motion, its LPIPS features       once for each frame
    version ────> ScoreAccumulator ──> FrameScores, ModelResult        for each version
    all ────────> score_frames / ClipScores                            the loop over a clip

At most the last pair of frames of each version is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from sharpreel.evaluation.metric_set import MetricSet
from sharpreel.evaluation.metrics.fidelity import Region, is_constant, qm
from sharpreel.evaluation.metrics.seams import Seams, error_step, prominence, seam_in_space
from sharpreel.evaluation.metrics.temporal import FLOW_SMALLEST, Motion
from sharpreel.evaluation.protocols import measure
from sharpreel.evaluation.results import FrameScore, ModelResult, mean, mean_of_numbers
from sharpreel.ops import Pixels

if TYPE_CHECKING:
    from torch import Tensor


VISIBLE_SEAM = 1.5  # prominence above which a seam is noted


class ReferenceFrame:
    """One counted frame of the reference, with everything that all versions share.

    Args:
        index: Counted from 0 at the beginning of the clip.
        before: The previous counted frame.
    """

    def __init__(self, metrics: MetricSet, index: int, hr: Pixels, before: Pixels | None) -> None:
        self.index, self.hr, self.before = index, hr, before
        self._metrics = metrics
        self.motion: Motion | None = None
        if metrics.temporal and before is not None:
            self.motion = Motion(before, hr)

    @property
    def region(self) -> Region:
        return self._metrics.protocol.region(self.hr.shape[0], self.hr.shape[1])

    @cached_property
    def lpips_features(self) -> list[Tensor]:
        assert self._metrics.lpips is not None
        return self._metrics.lpips.features(self.hr[self.region])

    def warping_error(self) -> float | None:
        """Of the reference itself; see `temporal.warping_error`."""
        if self.motion is None or self.before is None or not self.can_be_warped:
            return None
        return self.motion.warping_error(self.before, self.hr)

    @property
    def can_be_warped(self) -> bool:
        height, width = self.hr.shape[:2]
        return bool(min(height, width) >= FLOW_SMALLEST)

    def niqe(self) -> float | None:
        """Of the reference itself; None if NIQE is not measured."""
        niqe = self._metrics.niqe
        return None if niqe is None else niqe(self.hr[self.region])


class ScoreAccumulator:
    """Collects the scores of one version of a clip; it holds numbers, and the last frame."""

    def __init__(self, metrics: MetricSet) -> None:
        self.metrics = metrics
        self.scores: list[FrameScore] = []
        self._before: Pixels | None = None
        self._tof: list[float] = []
        self._warping: list[float] = []
        self._flicker: list[float] = []
        self._steps: dict[int, float] = {}  # of the error, by the later frame
        self._bends: list[float] = []

    def add(self, sr: Pixels, reference: ReferenceFrame) -> None:
        """Measure the next counted frame.

        Raises:
            ValueError: The frames differ in shape or type, or are too small for a metric.
            MissingExtra: OpenCV is not installed.
        """
        hr, metrics = reference.hr, self.metrics
        fidelity = measure(sr, hr, metrics.protocol)
        constant = is_constant(sr) and not is_constant(hr)
        lpips = niqe = None
        if metrics.lpips is not None:
            features = metrics.lpips.features(sr[reference.region])
            lpips = metrics.lpips.distance(features, reference.lpips_features)
        if metrics.niqe is not None:
            niqe = metrics.niqe(sr[reference.region])
        self.scores.append(
            FrameScore(reference.index, fidelity.psnr, fidelity.ssim, constant, lpips, niqe)
        )
        if self._before is not None and reference.motion is not None:
            self._tof.append(reference.motion.tof(self._before, sr, metrics.protocol))
            if reference.can_be_warped:
                self._warping.append(reference.motion.warping_error(self._before, sr))
            self._flicker.append(reference.motion.flicker(self._before, sr))
        if metrics.seams is not None:
            self._measure_seams(metrics.seams, sr, reference)
        self._before = sr

    def _measure_seams(self, seams: Seams, sr: Pixels, reference: ReferenceFrame) -> None:
        if self._before is not None and reference.before is not None and seams.has("t"):
            pair = (reference.before, reference.hr)
            self._steps[reference.index] = error_step(self._before, sr, pair)
        for y in seams.on("y", sr.shape[0]):
            self._bends.append(seam_in_space(sr, y, 0, reference.hr))
        for x in seams.on("x", sr.shape[1]):
            self._bends.append(seam_in_space(sr, x, 1, reference.hr))

    def seams_in_time(self) -> dict[int, float]:
        """The prominence of each seam between segments, by its frame."""
        seams = self.metrics.seams
        if seams is None or not self._steps:
            return {}
        positions = seams.on("t", max(self._steps) + 1)
        return {t: prominence(self._steps, t) for t in positions if t in self._steps}

    def result(
        self, model: str, fps: float, vmaf: Mapping[str, float] | None = None
    ) -> ModelResult:
        """Means over the frames so far.

        Args:
            fps: Frames per second, which is not measured here.
            vmaf: Result of `vmaf.vmaf`, if it was measured.
        """
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
            seam_time=mean_of_numbers(list(self.seams_in_time().values())),
            seam_space=mean_of_numbers(self._bends),
            vmaf=vmaf.get("vmaf"),
            vmaf_neg=vmaf.get("vmaf_neg"),
            fps=fps,
            frames=tuple(self.scores),
        )

    def notes(self) -> list[str]:
        """What the means hide, or why one is infinite or NaN."""
        return [*self._frame_notes(), *self._pair_notes(), *self._seam_notes()]

    def _frame_notes(self) -> Iterator[str]:
        scores = self.scores
        frames_by_note = {
            "of one colour where the reference is not, and counted": [
                s.frame for s in scores if s.constant
            ],
            "equal to the reference": [s.frame for s in scores if s.psnr == math.inf],
            "without a number (NaN), which makes the mean NaN": [
                s.frame for s in scores if math.isnan(s.psnr) or math.isnan(s.ssim)
            ],
            "too flat for NIQE and not in its mean": [
                s.frame for s in scores if s.niqe is not None and math.isnan(s.niqe)
            ],
        }
        for note, frames in frames_by_note.items():
            if frames:
                yield f"{listed('frame', frames)} {note}"

    def _pair_notes(self) -> Iterator[str]:
        for name, values in (("warping error", self._warping), ("flicker", self._flicker)):
            empty = sum(map(math.isnan, values))
            if empty:
                yield (
                    f"{empty} of {len(values)} pairs of frames have no {name} (a cut, or nothing "
                    "is static) and are not in its mean"
                )

    def _seam_notes(self) -> Iterator[str]:
        seams = {t: value for t, value in self.seams_in_time().items() if value > VISIBLE_SEAM}
        if seams:
            frame = max(seams, key=lambda t: seams[t])
            yield (
                f"the seam before frame {frame} is the most visible one, {seams[frame]:.2f} times "
                "the steps around it"
            )


def listed(word: str, numbers: Sequence[int], most: int = 5) -> str:
    """ "frame 3 is", "frames 3, 4, 5, 6, 7 and 12 more are"."""
    if len(numbers) == 1:
        return f"{word} {numbers[0]} is"
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"{word}s {', '.join(map(str, numbers[:most]))}{more} are"


class ClipScores:
    """Scores of all versions of one clip against its reference.

    Attributes:
        versions: One accumulator for each version.
        constant: Indices of the reference's frames that are of one colour.
    """

    def __init__(self, metrics: MetricSet, versions: int) -> None:
        self._metrics = metrics
        self.versions = [ScoreAccumulator(metrics) for _ in range(versions)]
        self.constant: list[int] = []
        self._warping: list[float] = []
        self._niqe: list[float] = []
        self._before: Pixels | None = None

    def add(self, index: int, hr: Pixels, srs: Sequence[Pixels]) -> None:
        """Measure the next counted frame of all versions; see `ScoreAccumulator.add`."""
        reference = ReferenceFrame(self._metrics, index, hr, self._before)
        for version, sr in zip(self.versions, srs, strict=True):
            version.add(sr, reference)
        warping, niqe = reference.warping_error(), reference.niqe()
        self._warping += [] if warping is None else [warping]
        self._niqe += [] if niqe is None else [niqe]
        if is_constant(hr):
            self.constant.append(index)
        self._before = hr

    @property
    def count(self) -> int:
        """Frames so far."""
        return len(self.versions[0].scores)

    @property
    def last(self) -> list[FrameScore]:
        """The scores of the last frame, one for each version."""
        return [version.scores[-1] for version in self.versions]

    @property
    def reference_warping_error(self) -> float | None:
        """Of the reference itself; see `temporal.warping_error`."""
        return mean_of_numbers(self._warping)

    @property
    def reference_niqe(self) -> float | None:
        """Of the reference itself."""
        return mean_of_numbers(self._niqe)


class ScorableFrame(Protocol):
    """A frame of a clip in all versions: its index, the reference, and what is compared with it."""

    @property
    def index(self) -> int: ...
    @property
    def hr(self) -> Pixels: ...
    @property
    def srs(self) -> Sequence[Pixels]: ...


F = TypeVar("F", bound=ScorableFrame)


def score_frames(frames: Iterable[F], scores: ClipScores) -> Iterator[F]:
    """Score each frame and pass it on; `scores.last` are its scores at that moment.

    Args:
        frames: Those that the protocol counts, in order.

    Raises:
        ValueError, MissingExtra: See `ScoreAccumulator.add`.
    """
    for frame in frames:
        scores.add(frame.index, frame.hr, frame.srs)
        yield frame
        del frame
