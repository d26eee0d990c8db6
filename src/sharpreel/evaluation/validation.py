"""Score one engine on clips in memory, as training does between its steps.

`benchmark` measures more, and streams clips of any length; this is the short form: PSNR on Y of an
engine and of bicubic, clip by clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from sharpreel import ops
from sharpreel.data.store import Clip
from sharpreel.engines.base import Engine
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.evaluation.runners import bicubic_engine
from sharpreel.ops import Pixels
from sharpreel.upscale import upscale_frames

Measure = Callable[[Pixels, Pixels], float]  # of one frame: sr, hr

PROTOCOL = "P1: PSNR on Y (BT.601 studio, not rounded), BI, no border crop, all frames"


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


def evaluate(engine: Engine, clips: Iterable[Clip]) -> list[Score]:
    """Score an engine on clips; its state is reset before each clip."""
    return list(scores(engine, clips))


def scores(
    engine: Engine, clips: Iterable[Clip], more: Mapping[str, Measure] | None = None
) -> Iterator[Score]:
    """Yield the score of each clip as soon as it is known.

    Args:
        more: Additional measures of one frame, (sr, hr) -> number, by name.
    """
    baseline = bicubic_engine(engine.scale)
    measures = {"psnr": psnr_y, **(more or {})}
    for clip in clips:
        own = _means(_upscaled(clip, engine), clip, measures)
        bicubic = _means(_upscaled(clip, baseline), clip, measures)
        both = {name: (own[name], bicubic[name]) for name in more or {}}
        yield Score(clip.name, own["psnr"], bicubic["psnr"], both)


def _upscaled(clip: Clip, engine: Engine | None) -> Iterator[Pixels]:
    """The clip upscaled by an engine; None: by bicubic, at a scale without a bundled graph."""
    if engine is None:
        return (ops.resize(frame, *clip.hr.shape[1:3]) for frame in clip.lr)
    engine.reset()
    return upscale_frames(clip.lr, engine=engine)


def _means(sr: Iterator[Pixels], clip: Clip, measures: Mapping[str, Measure]) -> dict[str, float]:
    values = [
        [measure(frame, hr) for measure in measures.values()]
        for frame, hr in zip(sr, clip.hr, strict=True)
    ]
    return dict(zip(measures, map(float, np.mean(values, axis=0)), strict=True))


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
