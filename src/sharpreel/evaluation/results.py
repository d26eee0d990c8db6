"""The results of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sharpreel.data.store import Clip
from sharpreel.evaluation.metrics import fidelity
from sharpreel.evaluation.scores import ModelResult, mean, plain
from sharpreel.ops import Pixels

Measure = Callable[[Pixels, Pixels], float]  # of one frame: sr, hr

PROTOCOL = "P1: PSNR on Y (BT.601 studio, not rounded), BI, no border crop, all frames"
BICUBIC = "bicubic"
CROP = (120, 160)  # height and width of the pieces that are kept to be looked at


# Clips in memory -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One clip's mean PSNR on Y over its frames, in dB, and the same for bicubic.

    `more` has other measures by name: the engine's mean and bicubic's.
    """

    clip: str
    psnr: float
    bicubic: float
    more: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        return self.psnr - self.bicubic


def mean_scores(
    sr: Iterator[Pixels], clip: Clip, measures: Mapping[str, Measure]
) -> dict[str, float]:
    found = [
        [measure(made, truth) for measure in measures.values()]
        for made, truth in zip(sr, clip.hr, strict=True)
    ]
    return dict(zip(measures, map(float, np.mean(found, axis=0)), strict=True))


def mean_gain(scores: list[Score]) -> float:
    """Mean over clips of the gain over bicubic, dB."""
    return float(np.mean([score.gain for score in scores]))


def markdown(title: str, scores: list[Score]) -> str:
    """The scores as a Markdown table with the protocol in its caption."""
    rows = [f"| {s.clip} | {s.bicubic:.2f} | {s.psnr:.2f} | {s.gain:+.2f} |" for s in scores]
    bicubic, psnr = (float(np.mean([getattr(s, k) for s in scores])) for k in ("bicubic", "psnr"))
    rows.append(f"| **mean** | {bicubic:.2f} | {psnr:.2f} | {mean_gain(scores):+.2f} |")
    head = ["| clip | bicubic | " + title + " | gain |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{PROTOCOL}; dB."])


# What a benchmark finds ----------------------------------------------------------------------


@dataclass(frozen=True)
class ClipResult:
    """One clip: its sizes in pixels, its frames in all and those that count, and every model."""

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
        return next(result for result in self.results if result.model == model)


@dataclass(frozen=True)
class ModelInfo:
    """A model that was measured: what ran, on which engine, and the sum of its weights."""

    name: str
    source: str  # as it was asked for
    engine: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Crop:
    """A piece of one frame to be looked at, in every version, about where most detail is.

    Attributes:
        kind: "best" or "worst" frame of its clip, by `gain`; "only" of a single one.
        gain: Of `model` over bicubic in this whole frame, dB; of bicubic alone, its PSNR.
        top, left: Of the piece in the truth, pixels.
        lr, truth: RGB, (H, W, 3).
        pictures: One for each model, of the size and type of the truth.
    """

    clip: str
    frame: int
    kind: str
    model: str
    gain: float
    top: int
    left: int
    lr: Pixels = field(repr=False)
    truth: Pixels = field(repr=False)
    pictures: Mapping[str, Pixels] = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything that `benchmark` found, and how; `notes` say what no mean tells.

    `peak_memory_mb` is the whole process's, all models and measures in it.
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
        found = [getattr(clip.of(model), measure) for clip in self.clips]
        return mean(found)

    def gain(self, model: str) -> float:
        """The mean over clips of PSNR above bicubic's, dB."""
        edges = [clip.of(model).psnr - clip.of(BICUBIC).psnr for clip in self.clips]
        return float(np.mean(edges))

    def score(self, model: str) -> float:
        """The share of clips whose QM is above bicubic's (`fidelity.score`)."""
        return fidelity.score([clip.of(model).qm - clip.of(BICUBIC).qm for clip in self.clips])

    @property
    def title(self) -> str:
        """How the numbers were taken, in a line; it belongs under every table of them."""
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
        places = ("clip", "frame", "kind", "model", "gain", "top", "left")
        content["crops"] = [
            {name: plain(getattr(crop, name)) for name in places} for crop in self.crops
        ]
        return content
