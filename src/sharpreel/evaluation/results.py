"""Results of an evaluation: scores of frames, of models on clips, and of a complete benchmark.

FrameScore ──mean over frames──> ModelResult ──one per model──> ClipResult ──> Evaluation
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.evaluation.metrics import fidelity
from sharpreel.ops import Pixels

BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class FrameScore:
    """Scores of one frame of one model. `frame` counts from 0 at the beginning of the clip."""

    frame: int
    psnr: float
    ssim: float
    constant: bool = False  # one colour everywhere, while the reference is not
    lpips: float | None = None
    niqe: float | None = None

    @property
    def qm(self) -> float:
        return fidelity.qm(self.psnr, self.ssim)


@dataclass(frozen=True)
class ModelResult:
    """One model on one clip: means over the frames that the protocol counts.

    Motion and flicker are means over pairs of neighbouring frames, seams over positions; None: not
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
    seam_time: float | None  # 1: not visible
    seam_space: float | None
    vmaf: float | None
    vmaf_neg: float | None
    fps: float  # of the network alone, without one frame of warm-up
    frames: tuple[FrameScore, ...] = field(repr=False)


@dataclass(frozen=True)
class ClipResult:
    """One clip: its sizes in pixels, its frames in total and those that count, and every model.

    `truth_warping_error` and `truth_niqe` are those of the reference itself.
    """

    clip: str
    width: int
    height: int
    lr_width: int
    lr_height: int
    frames: int
    counted: int
    truth_warping_error: float | None
    truth_niqe: float | None
    results: tuple[ModelResult, ...]

    def of(self, model: str) -> ModelResult:
        """The result of the model of this name."""
        return next(result for result in self.results if result.model == model)


@dataclass(frozen=True)
class ModelInfo:
    """A model that was measured: its name, its engine, and the SHA-256 of its weights."""

    name: str
    source: str  # as the caller named it
    engine: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Crop:
    """A textured piece of one frame in every version, to be shown in the report.

    Attributes:
        kind: "best" or "worst" frame of its clip, by `gain`; "only" of a single one.
        gain: Of `model` over bicubic in the complete frame, dB; for bicubic alone, its PSNR.
        top, left: Position of the piece in the reference, pixels.
        lr, hr: RGB, (H, W, 3).
        srs: One for each model by name, of the size and type of hr.
    """

    clip: str
    frame: int
    kind: str
    model: str
    gain: float
    top: int
    left: int
    lr: Pixels = field(repr=False)
    hr: Pixels = field(repr=False)
    srs: Mapping[str, Pixels] = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything that `benchmark` measured, and how; `notes` list what the means hide.

    `peak_memory_mb` is that of the process, including all models and metrics.
    """

    protocol: str
    protocol_text: str
    degradation: str
    scale: float
    models: tuple[ModelInfo, ...]  # bicubic first
    clips: tuple[ClipResult, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: float
    peak_memory_mb: int | None
    gpu_memory_mb: int | None = None
    crops: tuple[Crop, ...] = field(default=(), repr=False)

    def mean(self, model: str, measure: str) -> float | None:
        """The mean over clips of a field of `ModelResult`; None where it was not measured."""
        return mean([getattr(clip.of(model), measure) for clip in self.clips])

    def gain(self, model: str) -> float:
        """The mean over clips of PSNR above bicubic's, dB."""
        edges = [clip.of(model).psnr - clip.of(BICUBIC).psnr for clip in self.clips]
        return float(np.mean(edges))

    def score(self, model: str) -> float:
        """The share of clips whose QM is above bicubic's (`fidelity.score`)."""
        return fidelity.score([clip.of(model).qm - clip.of(BICUBIC).qm for clip in self.clips])

    @property
    def title(self) -> str:
        """Scale, degradation and protocol in one line; every table of the numbers needs it."""
        return f"x{self.scale:g}, degradation {self.degradation}, protocol {self.protocol}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with all digits; "inf", "-inf" and "nan" are strings that `float` reads."""
        content = {
            f.name: plain(getattr(self, f.name))
            for f in dataclasses.fields(self)
            if f.name != "crops"
        }
        measures = [f.name for f in dataclasses.fields(ModelResult)][1:-1]
        content["means"] = {
            model.name: {
                **{name: plain(self.mean(model.name, name)) for name in measures},
                "gain_db": plain(self.gain(model.name)),
                "score": self.score(model.name),
            }
            for model in self.models
        }
        positions = ("clip", "frame", "kind", "model", "gain", "top", "left")
        content["crops"] = [
            {name: plain(getattr(crop, name)) for name in positions} for crop in self.crops
        ]
        return content


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the measured values, or None; a NaN or an infinity makes the mean the same."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_of_numbers(values: Sequence[float]) -> float | None:
    """The mean of all values except NaN, which some metrics return after a scene cut."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else (math.nan if values else None)


def plain(value: Any) -> Any:
    """Convert results to values that JSON can hold; the scores of frames become columns."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple) and value and isinstance(value[0], FrameScore):
        names = [f.name for f in dataclasses.fields(FrameScore)]
        return {name: [plain(getattr(score, name)) for score in value] for name in names}
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
