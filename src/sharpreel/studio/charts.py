"""Curves as Vega-Lite, which Streamlit draws: points in, a specification out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sharpreel.studio.progress import Point

COLOURS = {
    "network": "#2f7ed8",
    "training": "#2f7ed8",
    "validation": "#e0742c",
    "bicubic": "#8a8f98",
}
OTHERS = ("#2f7ed8", "#e0742c", "#2a9d6f", "#b452c4", "#c9a227", "#5c6470")
ROW, LEGEND_ROW = 3, 15  # lines that a legend has beside each other; pixels of a row of it
FEW = 40  # points of a curve that are marked one by one


def chart(
    points: Sequence[Point], x: str, height: int = 220, lines: Sequence[str] = ()
) -> dict[str, Any]:
    """One chart: a curve for each `line`; bicubic's is dashed, a line to cross.

    Args:
        x: Title of the axis.
        height: In pixels, with axis and a legend of one row; the width is the page's.
        lines: Whose curves there may be, where several charts are to have the same colours; by
            default those of the points. More than ROW of them stand below each other.
    """
    values = [{"x": p.x, "y": p.y, "line": p.line} for p in points if math.isfinite(p.y)]
    names = list(lines or dict.fromkeys(p.line for p in points))
    below = len(names) > ROW
    others = [name for name in names if name not in COLOURS]
    palette = COLOURS | {name: OTHERS[k % len(OTHERS)] for k, name in enumerate(others)}
    most = max((sum(v["line"] == name for v in values) for name in names), default=0)
    legend = {"title": None, "orient": "top", "symbolType": "stroke", "symbolStrokeWidth": 3,
              "columnPadding": 8, "labelFontSize": 11, "offset": 4, "padding": 0,
              "labelLimit": 300, **({"columns": 1} if below else {})}  # fmt: skip
    dashes = [[4, 3] if name == "bicubic" else [1, 0] for name in names]
    return {
        "data": {"values": values},
        "height": height + (LEGEND_ROW * (len(names) - 1) if below else 0),
        "mark": {"type": "line", "point": {"size": 22} if most <= FEW else False,
                 "strokeWidth": 1.8},
        "encoding": {
            "x": {"field": "x", "type": "quantitative",
                  "axis": {"title": x, "titlePadding": 4, "grid": False, "tickMinStep": 1,
                           "format": "d"}},
            "y": {"field": "y", "type": "quantitative", "scale": {"zero": False},
                  "axis": {"title": None, "tickCount": 4}},
            "color": {"field": "line", "type": "nominal", "legend": legend,
                      "scale": {"domain": names, "range": [palette[name] for name in names]}},
            "strokeDash": {"field": "line", "type": "nominal", "legend": None,
                           "scale": {"domain": names, "range": dashes}},
            "tooltip": [{"field": "line", "title": "whose"}, {"field": "x", "title": x},
                        {"field": "y", "title": "value", "format": ".5~g"}],
        },
    }  # fmt: skip
