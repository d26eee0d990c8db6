"""Vega-Lite specifications."""

from __future__ import annotations

from sharpreel.studio import (
    charts,
    curves,
)


def test_a_chart_skips_infinite_values_and_dashes_bicubic() -> None:
    points = [
        curves.Point(1, 2.0, "network"),
        curves.Point(2, float("inf"), "network"),
        curves.Point(1, 1.0, "bicubic"),
    ]
    spec = charts.chart(points, "step")
    assert len(spec["data"]["values"]) == 2
    assert spec["encoding"]["strokeDash"]["scale"] == {
        "domain": ["network", "bicubic"],
        "range": [[1, 0], [4, 3]],
    }


def test_charts_of_many_runs_have_one_legend_and_the_same_colours() -> None:
    runs = [f"trial-{k:05d} (abc12{k})" for k in range(6)]
    whole = [curves.Point(1, float(k), run) for k, run in enumerate(runs)]
    one, other = (charts.chart(points, "step", lines=runs) for points in (whole, whole[3:]))
    colours = one["encoding"]["color"]
    assert colours["scale"] == other["encoding"]["color"]["scale"]
    assert len(set(colours["scale"]["range"])) == 6
    assert colours["legend"]["columns"] == 1  # vertical, so that the page cuts none off
    assert one["height"] > charts.chart(whole[:1], "step")["height"]
