"""Curves of a run."""

from __future__ import annotations

from sharpreel.studio import (
    curves,
)
from tests.support.rows import batch, scored


def test_rows_become_nine_curves() -> None:
    rows = [scored(0, 1, 30), scored(0, 2, 32)]
    rows += [batch(1, 20), batch(2, 22), scored(2, 1, 33), scored(2, 2, 35)]
    drawn = curves.curves(rows)
    assert len(drawn) == 9

    def line(row: str, name: str) -> list[tuple[float, float]]:
        return [(p.x, p.y) for p in drawn[row, "psnr"] if p.line == name]

    assert line("training batches", "network") == [(1, 20), (2, 22)]
    assert line("training batches", "bicubic") == [(1, 19), (2, 21)]
    assert line("validation batches", "network") == [(1, 30), (2, 32), (3, 33), (4, 35)]
    assert line("epochs", "training") == [(1, 21)]
    assert line("epochs", "validation") == [(0, 31), (1, 34)]
    assert line("epochs", "bicubic") == [(0, 30), (1, 30)]
    assert drawn["epochs", "ssim"] == []


def test_repeated_steps_are_drawn_once() -> None:
    rows = [batch(1, 1), batch(2, 2), batch(3, 3), batch(2, 5), batch(3, 6)]
    assert [row["psnr"] for row in curves.without_repeats(rows)] == [1, 5, 6]


def test_long_curves_are_means() -> None:
    points = curves.thinned([(float(k), float(k % 2)) for k in range(2000)])
    assert len(points) == curves.MAX_POINTS
    assert {y for _, y in points} <= {0.4, 0.6}
    assert points[-1][0] == 1999
