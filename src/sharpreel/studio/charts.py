"""Curves as Vega-Lite specifications, which Streamlit draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sharpreel.studio.curves import Point

COLOURS = {
    "network": "#2f7ed8",
    "training": "#2f7ed8",
    "validation": "#e0742c",
    "bicubic": "#8a8f98",
}
OTHER_COLOURS = ("#2f7ed8", "#e0742c", "#2a9d6f", "#b452c4", "#c9a227", "#5c6470")
LEGEND_COLUMNS = 3  # lines next to each other; longer legends are vertical
LEGEND_ROW = 15  # pixels
MARKED_POINTS = 40  # curves with at most this many points mark each of them


def chart(
    points: Sequence[Point], x: str, height: int = 220, lines: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a chart with a curve for each `line`; bicubic's, the baseline, is dashed.

    Args:
        x: Title of the axis.
        height: In pixels, including the axis and a legend of one row; the width is the page's.
        lines: Names of the curves, for several charts with the same colours; by default those of
            the points.
    """
    values = [{"x": p.x, "y": p.y, "line": p.line} for p in points if math.isfinite(p.y)]
    names = list(lines or dict.fromkeys(p.line for p in points))
    vertical = len(names) > LEGEND_COLUMNS
    longest = max((sum(v["line"] == name for v in values) for name in names), default=0)
    mark_points = {"size": 22} if longest <= MARKED_POINTS else False
    return {
        "data": {"values": values},
        "height": height + (LEGEND_ROW * (len(names) - 1) if vertical else 0),
        "mark": {"type": "line", "point": mark_points, "strokeWidth": 1.8},
        "encoding": {
            "x": _x_axis(x),
            "y": {
                "field": "y",
                "type": "quantitative",
                "scale": {"zero": False},
                "axis": {"title": None, "tickCount": 4},
            },
            "color": _by_line(names, _palette(names), _legend(vertical)),
            "strokeDash": _by_line(names, [_dash(name) for name in names], None),
            "tooltip": [
                {"field": "line", "title": "curve"},
                {"field": "x", "title": x},
                {"field": "y", "title": "value", "format": ".5~g"},
            ],
        },
    }


def _x_axis(title: str) -> dict[str, Any]:
    axis = {"title": title, "titlePadding": 4, "grid": False, "tickMinStep": 1, "format": "d"}
    return {"field": "x", "type": "quantitative", "axis": axis}


def _by_line(names: list[str], values: list[Any], legend: dict[str, Any] | None) -> dict[str, Any]:
    scale = {"domain": names, "range": values}
    return {"field": "line", "type": "nominal", "legend": legend, "scale": scale}


def _palette(names: list[str]) -> list[str]:
    others = [name for name in names if name not in COLOURS]
    colours = {name: OTHER_COLOURS[k % len(OTHER_COLOURS)] for k, name in enumerate(others)}
    return [(COLOURS | colours)[name] for name in names]


def _dash(name: str) -> list[int]:
    return [4, 3] if name == "bicubic" else [1, 0]


def _legend(vertical: bool) -> dict[str, Any]:
    legend = {
        "title": None,
        "orient": "top",
        "symbolType": "stroke",
        "symbolStrokeWidth": 3,
        "columnPadding": 8,
        "labelFontSize": 11,
        "offset": 4,
        "padding": 0,
        "labelLimit": 300,
    }
    return {**legend, "columns": 1} if vertical else legend
