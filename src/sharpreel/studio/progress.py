"""What the files of a run say: how far it is, and its nine curves.

    rows      training batches, validation batches, epochs
    columns   PSNR, SSIM, loss

A point of the first row is a training batch (of a long training the mean of several), one of the
second row a validation clip, numbered through all validations; one of the third row the mean
between two validations of the first, or of one validation. Bicubic's are of the very same batches
and clips.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sharpreel.system.text import format_duration

Row = Mapping[str, Any]
ROWS = ("training batches", "validation batches", "epochs")
COLUMNS = {"psnr": "PSNR, dB", "ssim": "SSIM", "loss": "loss"}
MOST_POINTS = 400  # of a curve; more are drawn as means
RECENT = 30  # lines whose times tell the speed


@dataclass(frozen=True)
class Point:
    """`line` is whose curve it lies on: "network", "bicubic", "training" or "validation"."""

    x: float
    y: float
    line: str


Curves = dict[tuple[str, str], list[Point]]  # (row, column) -> points


def latest(rows: Sequence[Row]) -> list[Row]:
    """The rows without those that a training which was killed has done once more."""
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
    """The nine charts of a run, of the rows of its batches.jsonl."""
    rows = latest(rows)
    batches = [row for row in rows if "clip" not in row]
    clips = [row for row in rows if "clip" in row]
    made: Curves = {}
    for column in COLUMNS:
        made[ROWS[0], column] = _both(column, [(row["step"], row) for row in batches])
        made[ROWS[1], column] = _both(column, list(enumerate(clips, 1)))
        made[ROWS[2], column] = _epochs(column, rows)
    return made


def _both(column: str, rows: Sequence[tuple[int, Row]]) -> list[Point]:
    points: list[Point] = []
    for line, key in (("network", column), ("bicubic", f"bicubic_{column}")):
        known = [(x, row[key]) for x, row in rows if row.get(key) is not None]
        points += [Point(x, y, line) for x, y in thinned(known)]
    return points


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS of them: means of neighbours, where the last of each lies."""
    step = -(-len(points) // MOST_POINTS)
    parts = [points[at : at + step] for at in range(0, len(points), max(step, 1))]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _epochs(column: str, rows: Sequence[Row]) -> list[Point]:
    """A point for each validation, and one for the batches that led to it; 0 is before training."""
    points: list[Point] = []
    number = -1
    learnt: list[Row] = []
    scored: list[Row] = []

    def close() -> None:
        for line, key, of in (
            ("training", column, learnt),
            ("validation", column, scored),
            ("bicubic", f"bicubic_{column}", scored),
        ):
            known = [(row[key], row.get("steps", 1)) for row in of if row.get(key) is not None]
            if known:
                mean = sum(y * n for y, n in known) / sum(n for _, n in known)
                points.append(Point(number, mean, line))

    for row in rows:
        if "clip" in row:
            number += not scored
            scored.append(row)
        else:
            if scored:
                close()
                learnt, scored = [], []
            learnt.append(row)
    if scored:
        close()
    return points


# How far it is -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """A progress bar: so much of it is done, in [0, 1], and what it says."""

    done: float
    text: str


def loading(events: Sequence[Row], seen: Sequence[float]) -> Share:
    """How many clips are decoded and made small.

    Args:
        seen: When each event was seen first, in seconds; events that came together say nothing
            about the pace.
    """
    clips = [(e, at) for e, at in zip(events, seen, strict=True) if e["event"] == "clip"]
    if not clips:
        return Share(0.0, "Clips: not begun")
    last, now = clips[-1]
    done, total = last["done"], last["total"]
    same = clips[-done:]  # each round counts from 1
    before = next((e["done"] for e, at in reversed(same) if at == same[0][1]), done)
    pace = None if before == done else (now - same[0][1]) / (done - before)
    return Share(_of(done, total), f"Clips {last['what']}: {done} of {total}"
                                   f"{_left(total - done, pace)}")  # fmt: skip


def bars(rows: Sequence[Row], steps: int, epoch: int, loaded: Share) -> list[Share]:
    """The bars of loading, epochs, training batches and validation batches.

    Args:
        rows: Of batches.jsonl.
        steps: Of the whole training.
        epoch: Steps from one validation to the next; 0: it is validated in the end alone.
    """
    if not rows:
        waiting = [
            f"{what}: not begun" for what in ("Epochs", "Training batches", "Validation batches")
        ]
        return [loaded, *(Share(0.0, text) for text in waiting)]
    rows = latest(rows)
    epoch = min(epoch or steps, steps)
    epochs = math.ceil(steps / epoch)
    batches = [row for row in rows if "clip" not in row]
    clips = [row for row in rows if "clip" in row]
    step = batches[-1]["step"] if batches else 0
    ended = {row["step"] for row in clips if row["number"] == row["of"]} - {0}
    done = len(ended) if clips else step // epoch
    begin = min(done, epochs - 1) * epoch
    end = min(begin + epoch, steps)
    pace = seconds_a_step(batches)
    here = min(step, end) - begin
    return [
        Share(1.0, "Clips: loaded"),
        Share(_of(done, epochs), f"Epochs: {done} of {epochs}{_left(steps - step, pace)}"),
        Share(
            _of(here, end - begin),
            f"Training batches: {here} of {end - begin}{_left(end - begin - here, pace)}",
        ),
        _validating(rows, clips),
    ]


def _validating(rows: Sequence[Row], clips: Sequence[Row]) -> Share:
    if not clips:
        return Share(0.0, "Validation batches: none yet")
    last = clips[-1]
    done = last["number"] if rows[-1] is last else 0  # else it is learning again
    paces = [
        after["time"] - before["time"]
        for before, after in itertools.pairwise(clips[-RECENT:])
        if before["step"] == after["step"]
    ]
    pace = median(paces) if paces else None
    text = f"Validation batches: {done} of {last['of']}{_left(last['of'] - done, pace)}"
    return Share(_of(done, last["of"]), text)


def _left(count: int, pace: float | None) -> str:
    return left(count * pace) if count and pace is not None else ""


def left(seconds: float | None) -> str:
    """What is left, to stand behind a count; nothing where nobody knows."""
    return "" if seconds is None else f", {format_duration(seconds)} left"


def seconds_a_step(batches: Sequence[Row]) -> float | None:
    """By the times of the last lines; breaks (validations, a stop overnight) do not count."""
    recent = batches[-RECENT:]
    paces = [
        (after["time"] - before["time"]) / (after["step"] - before["step"])
        for before, after in itertools.pairwise(recent)
    ]
    return median(paces) if paces else None


def _of(done: float, whole: float) -> float:
    return min(max(done / whole, 0.0), 1.0) if whole else 0.0
