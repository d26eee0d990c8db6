"""Benchmark in, table out: what a network gains over bicubic on clips whose truth is known.

A clip is reduced by MATLAB's bicubic (BI) and enlarged again by `upscale_frames`, the very function
that users call, so the numbers are about the product and not about a training graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sharpreel import metrics, ops
from sharpreel.data import Clip
from sharpreel.engine import Engine, OpenVinoEngine
from sharpreel.upscale import upscale_frames
from sharpreel.weights import available_scales, load_model

PROTOCOL = "P1: PSNR on Y (BT.601 studio, not rounded), BI, no border crop, all frames"


@dataclass(frozen=True)
class Score:
    """One clip's mean PSNR on Y over its frames, in dB, and the same for bicubic."""

    clip: str
    psnr: float
    bicubic: float

    @property
    def gain(self) -> float:
        return self.psnr - self.bicubic


def evaluate(engine: Engine, clips: Iterable[Clip]) -> list[Score]:
    """Score an engine on clips; each clip begins with an empty state."""
    bundled = engine.scale in available_scales("bicubic")
    baseline = OpenVinoEngine(load_model("bicubic", engine.scale)) if bundled else None
    return [
        Score(
            clip.name,
            _mean_psnr(engine, clip),
            _resized_psnr(clip) if baseline is None else _mean_psnr(baseline, clip),
        )
        for clip in clips
    ]


def _resized_psnr(clip: Clip) -> float:
    """As `_mean_psnr`, of bicubic by a factor that no bundled network has."""
    size = clip.hr.shape[1:3]
    sr = (ops.resize(frame, *size) for frame in clip.lr)
    return float(np.mean([metrics.psnr_y(a, b) for a, b in zip(sr, clip.hr, strict=True)]))


def _mean_psnr(engine: Engine, clip: Clip) -> float:
    engine.reset()
    sr = upscale_frames(clip.lr, engine=engine)
    return float(np.mean([metrics.psnr_y(a, b) for a, b in zip(sr, clip.hr, strict=True)]))


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
