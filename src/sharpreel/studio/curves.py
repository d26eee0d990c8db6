"""The nine curves of a training run, from the lines of its `batches.jsonl`.

    rows      training batches, validation batches, epochs
    columns   PSNR, SSIM, loss

A point of the first row is a training batch (in long runs the mean of several), a point of the
second row a validation clip, numbered through all validations. A point of the third row is one
validation's mean, or that of the training batches between two validations. Bicubic's points are of
the same batches and clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
ROWS = ("training batches", "validation batches", "epochs")
COLUMNS = {"psnr": "PSNR, dB", "ssim": "SSIM", "loss": "loss"}
MAX_POINTS = 400  # of a curve; more points are averaged


@dataclass(frozen=True)
class Point:
    """A point of a curve; `line` names it: "network", "bicubic", "training", "validation"."""

    x: float
    y: float
    line: str


Curves = dict[tuple[str, str], list[Point]]  # (row, column) -> points


def without_repeats(rows: Sequence[Row]) -> list[Row]:
    """Remove rows of steps that a run has done again after a crash; the later ones stay."""
    kept: list[Row] = []
    for row in rows:
        is_batch = "clip" not in row
        while kept and (
            kept[-1]["step"] > row["step"] or (is_batch and kept[-1]["step"] == row["step"])
        ):
            kept.pop()
        kept.append(row)
    return kept


def curves(rows: Sequence[Row]) -> Curves:
    """Return the curves of a run by row and column."""
    rows = without_repeats(rows)
    batches = [(row["step"], row) for row in rows if "clip" not in row]
    clips = list(enumerate((row for row in rows if "clip" in row), 1))
    points: Curves = {}
    for column in COLUMNS:
        points[ROWS[0], column] = _with_bicubic(column, batches)
        points[ROWS[1], column] = _with_bicubic(column, clips)
        points[ROWS[2], column] = _epoch_points(column, rows)
    return points


def _with_bicubic(column: str, rows: Sequence[tuple[int, Row]]) -> list[Point]:
    points: list[Point] = []
    for line, key in (("network", column), ("bicubic", f"bicubic_{column}")):
        known = [(x, row[key]) for x, row in rows if row.get(key) is not None]
        points += [Point(x, y, line) for x, y in thinned(known)]
    return points


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most MAX_POINTS points: means of neighbours, at the last one's position."""
    step = -(-len(points) // MAX_POINTS)
    parts = [points[at : at + step] for at in range(0, len(points), max(step, 1))]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _epoch_points(column: str, rows: Sequence[Row]) -> list[Point]:
    """Return a point per validation, and one for the batches before it; 0 is before training."""
    points: list[Point] = []
    for number, (batches, clips) in enumerate(_epochs(rows)):
        for line, key, part in (
            ("training", column, batches),
            ("validation", column, clips),
            ("bicubic", f"bicubic_{column}", clips),
        ):
            known = [(row[key], row.get("steps", 1)) for row in part if row.get(key) is not None]
            if known:
                mean = sum(y * n for y, n in known) / sum(n for _, n in known)
                points.append(Point(number, mean, line))
    return points


def _epochs(rows: Sequence[Row]) -> list[tuple[list[Row], list[Row]]]:
    """Group rows by validation: the batches before it, and its clips."""
    epochs: list[tuple[list[Row], list[Row]]] = []
    batches: list[Row] = []
    validating = False
    for row in rows:
        if "clip" not in row:
            if validating:
                batches = []
            validating = False
            batches.append(row)
            continue
        if not validating:
            epochs.append((batches, []))
        validating = True
        epochs[-1][1].append(row)
    return epochs
