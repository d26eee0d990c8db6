"""Decide whether a stretch of video is worth training on: motion, detail, blocking, combing.

`HarvestSettings` holds the limits, `ClipMeasures` the measures of a stretch; the functions compute
single measures from luma in 8-bit levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.ops import Pixels


@dataclass(frozen=True)
class HarvestSettings:
    """Settings of a harvest: length and size of clips, limits of their quality, encoder.

    Differences and levels are in 8-bit units (0 to 255); luma is BT.601's 16 to 235.

    Attributes:
        clip_len: Frames of a clip.
        height: Pixels of a clip's shorter side, which is its height unless the video is upright;
            even. Smaller sources are not enlarged.
        least_shrink: Sources whose shorter side is less than this many times `height` are rejected.
        allow_small: Accept those too, at their own size if they are no larger than `height`.
        per_scene, per_video: At most N clips of one scene, and of one source.
        most_rate: Frames per second; of faster sources every second frame (or third, ...) is
            skipped.
        repeat_below: Mean absolute difference below which a frame repeats the one before it.
        repeat_share: A frame also repeats the one before it when their difference is below this
            share of the recent median, and below one level: compression makes repeats differ a
            little.
        cut_threshold: Of `SceneCutDetector`; lower than its default, since a missed cut spoils a
            clip and a false one loses little.
        least_motion: Mean absolute difference of neighbouring luma frames; less is static.
        most_jump: See `jump`; more is a flash or a hidden cut.
        least_detail: See `detail`; less is blurred.
        most_blockiness: See `blockiness`.
        most_combing: See `combing`.
        least_brightness: Mean luma; less is dark.
        least_contrast: Standard deviation of luma; less is flat.
        crf, preset: Of the H.264 encoder.
        rights: Recorded in the manifest for all clips of this harvest.
    """

    clip_len: int = 20
    height: int = 360
    least_shrink: float = 1.5
    allow_small: bool = False
    per_scene: int = 2
    per_video: int = 8
    most_rate: float = 40.0
    repeat_below: float = 0.1
    repeat_share: float = 0.15
    cut_threshold: float = 7.0
    least_motion: float = 0.5
    most_jump: float = 3.0
    least_detail: float = 20.0
    most_blockiness: float = 1.3
    most_combing: float = 0.3
    least_brightness: float = 30.0
    least_contrast: float = 8.0
    crf: int = 13
    preset: str = "slow"
    rights: str = "unknown"

    def __post_init__(self) -> None:
        if self.clip_len < 2 or self.per_scene < 1 or self.per_video < 1:
            raise ValueError(
                "clip_len must be 2 or more, per_scene and per_video 1 or more, got "
                f"{self.clip_len}, {self.per_scene} and {self.per_video}."
            )
        if self.height < 16 or self.height % 2:
            raise ValueError(f"height must be even and 16 or more, got {self.height}.")
        if self.least_shrink < 1 or self.most_rate <= 0:
            raise ValueError(
                "least_shrink must be 1 or more and most_rate above 0, got "
                f"{self.least_shrink} and {self.most_rate}."
            )


COMB_STEP = 6  # 8-bit levels by which lines of different fields differ at least
LEAST_JUMP = 5.0  # 8-bit levels; less is not a jump, however static the rest of a window
Luma = npt.NDArray[np.float64]
DEFAULTS = HarvestSettings()


@dataclass(frozen=True)
class ClipMeasures:
    """Quality of a window of frames; units as in `HarvestSettings`.

    `blockiness` and `combing` are measured on the source's own pixels, the others on the scaled
    frames.
    """

    motion: float
    jump: float
    detail: float
    blockiness: float
    combing: float
    brightness: float
    contrast: float

    @property
    def score(self) -> float:
        """Rank of a window, 0 to 1: motion and detail, both saturating; lower with blocking."""
        motion, detail = min(self.motion / 6, 1.0), min(self.detail / 150, 1.0)
        return math.sqrt(motion * detail) / max(self.blockiness, 1.0)

    def reason(self, settings: HarvestSettings) -> str:
        """Why a window is rejected, in one word; "" for a good one."""
        checks = {
            "dark": self.brightness < settings.least_brightness,
            "flat": self.contrast < settings.least_contrast,
            "static": self.motion < settings.least_motion,
            "jump": self.jump > settings.most_jump,
            "combed": self.combing > settings.most_combing,
            "blocky": self.blockiness > settings.most_blockiness,
            "blurred": self.detail < settings.least_detail,
        }
        return next((word for word, bad in checks.items() if bad), "")


def detail(luma: Luma) -> float:
    """Mean squared difference between luma, (H, W), and the same downscaled and upscaled 4x."""
    height, width = luma.shape
    levels = np.rint(luma).astype(np.uint8)[..., None]
    small = ops.resize(levels, max(height // 4, 1), max(width // 4, 1))
    smooth = ops.resize(small, height, width)
    return float(np.mean((levels.astype(np.float32) - smooth) ** 2))


def blockiness(luma: Luma) -> float:
    """How much larger luma's steps are across multiples of 8 than elsewhere; 1 without blocks.

    Codecs divide frames into blocks of 8 pixels or a multiple of it. A quarter of a level is added
    to both means, so that a flat frame has no blocks. The result is the mean over both directions.

    Args:
        luma: (H, W), in 8-bit levels.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)  # (H - 1,) or (W - 1,)
        border = np.arange(1, len(steps) + 1) % 8 == 0
        if border.any():
            ratios.append((steps[border].mean() + 0.25) / (steps[~border].mean() + 0.25))
    return float(np.mean(ratios)) if ratios else 1.0


def combing(luma: Luma) -> float:
    """Share of pixels, in percent, where the lines of two fields alternate; 0 if progressive.

    A pixel counts where luma alternately rises and falls over five lines. Fine texture does so too,
    but no more across lines than along them: twice the share along them is subtracted.

    Args:
        luma: (H, W), in 8-bit levels.
    """
    levels = np.rint(luma).astype(np.int16)
    return max(_alternating(levels) - 2 * _alternating(levels.T), 0.0)


def _alternating(levels: npt.NDArray[np.int16]) -> float:
    """Share of pixels, in percent, that begin five rows which alternately rise and fall."""
    steps = np.diff(levels, axis=0)
    if len(steps) < 4:
        return 0.0
    signs = (steps > COMB_STEP).astype(np.int8) - (steps < -COMB_STEP).astype(np.int8)
    signs[1::2] *= -1  # now alternating means staying the same
    runs = signs[:-3] + signs[1:-2] + signs[2:-1] + signs[3:]
    return 100 * float(np.mean(np.abs(runs) == 4))


def jump(steps: list[float]) -> float:
    """Ratio of the largest step to the median of the steps around it; 1 without a jump.

    A camera that starts to move does not jump: the steps around the largest are large too.

    Args:
        steps: Differences of neighbouring frames, in 8-bit levels.
    """
    ratios = [1.0]
    for k, step in enumerate(steps):
        around = steps[max(k - 3, 0) : k] + steps[k + 1 : k + 4]
        if around and step > LEAST_JUMP:
            ratios.append(step / max(float(np.median(around)), 1e-6))
    return max(ratios)


def difference(a: Pixels, b: Pixels) -> float:
    """Mean absolute difference of two frames in 8-bit levels, on every fourth row and column."""
    top = np.iinfo(a.dtype).max
    change = a[::4, ::4].astype(np.float32) - b[::4, ::4].astype(np.float32)
    return float(np.abs(change).mean()) * 255 / top
