"""Charts of an evaluation as SVG: bars of the gain of each clip, curves of PSNR over frames.

Charts are drawn by matplotlib. Their ink is the colour of the page's text, so that they are
readable on a light and on a dark page.
"""

from __future__ import annotations

import html
import io
import math
import re
from typing import Any

import numpy as np

from sharpreel.errors import MissingExtra
from sharpreel.evaluation import tables
from sharpreel.evaluation.results import BICUBIC, ClipResult, Evaluation

INK = "#010203"  # colour of lines and text in matplotlib, replaced by that of the page
COLOURS = ("#8a8f98", "#2f7ed8", "#e0742c", "#2a9d6f", "#b452c4", "#c9a227")  # bicubic's first
MAX_POINTS = 600  # of a curve; longer ones are drawn as means


def gain_bars(evaluation: Evaluation, clips: list[ClipResult]) -> str:
    """Bars of each model's gain over bicubic on each clip.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    models = [m.name for m in evaluation.models if m.name != BICUBIC]
    gains = {
        name: [clip.of(name).psnr - clip.of(BICUBIC).psnr for clip in clips] for name in models
    }
    bars = len(clips) * len(models)
    figure, axes = _new_figure(8, 0.9 + max(0.24 * bars, 0.34 * len(clips)))
    height = 0.8 / len(models)
    for k, name in enumerate(models):
        positions = np.arange(len(clips)) + (k - (len(models) - 1) / 2) * height
        finite = [g if math.isfinite(g) else 0.0 for g in gains[name]]
        drawn = axes.barh(positions, finite, height * 0.9, color=_colour(k + 1), label=name)
        labels = [tables.number(g, 2, sign=True) for g in gains[name]]
        axes.bar_label(drawn, labels, padding=4, color=INK, fontsize=8)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_ylim(len(clips) - 0.5, -0.5)
    axes.set_yticks(range(len(clips)), [_tick_label(clip.clip) for clip in clips])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("gain over bicubic, dB", color=INK)
    if len(models) > 1:
        _legend(figure, axes)
    means = "; ".join(f"{n} {evaluation.gain(n):+.2f} dB on average" for n in models)
    return _svg(figure, f"Bars: gain over bicubic of each clip; {means}")


def psnr_curves(evaluation: Evaluation, clip: ClipResult) -> str:
    """Curves of PSNR over the frames of a clip, one for each model.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _new_figure(5.4, 2.4)
    for k, model in enumerate(evaluation.models):
        scores = clip.of(model.name).frames
        step = frames_per_point(len(scores))
        parts = [scores[first : first + step] for first in range(0, len(scores), step)]
        x = [part[0].frame for part in parts]
        y = [float(np.mean([score.psnr for score in part])) for part in parts]
        axes.plot(
            x,
            [v if math.isfinite(v) else math.nan for v in y],
            color=_colour(k),
            linewidth=1.6,
            marker="o" if len(x) <= 30 else None,
            markersize=3.5,
            label=model.name,
        )
    axes.set_xlabel("frame", color=INK)
    axes.set_ylabel("PSNR, dB", color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.6)
    _legend(figure, axes)
    return _svg(figure, f"Curves: PSNR of each frame of {clip.clip}")


def frames_per_point(frames: int) -> int:
    """How many frames one point of a curve is the mean of."""
    return -(-frames // MAX_POINTS)


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of this size in inches, and its axes."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtra("Drawing charts (matplotlib)", "train") from e
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK)
    axes.set_facecolor("none")
    return figure, axes


def _legend(figure: Any, axes: Any) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=4,
        frameon=False,
        labelcolor=INK,
    )


def _colour(number: int) -> str:
    return COLOURS[number] if number == 0 else COLOURS[1 + (number - 1) % (len(COLOURS) - 1)]


def _tick_label(name: str, longest: int = 40) -> str:
    """A shortened name, without the dollar signs that matplotlib reads as mathematics."""
    short = name if len(name) <= longest else f"{name[: longest // 2]}…{name[-longest // 2 :]}"
    return short.replace("$", r"\$")


def _svg(figure: Any, label: str) -> str:
    """The figure as an element of the page, in the colour of the page's text."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace(INK, "currentColor")
    # Unused ids are the same in every chart, which is invalid in one page.
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    # Text uses the page's font; without a colour of its own it would be black.
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return svg.replace(
        "<svg", f'<svg role="img" fill="currentColor" aria-label="{html.escape(label)}"', 1
    )
