"""How far a training run is: progress bars from its events and the lines of its `batches.jsonl`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sharpreel.studio.curves import Row, without_repeats
from sharpreel.system.text import format_duration

RECENT = 30  # lines that the speed is estimated from


@dataclass(frozen=True)
class ProgressBar:
    """A progress bar: the share that is done, in [0, 1], and its text."""

    done: float
    text: str


def loading_bar(events: Sequence[Row], seen: Sequence[float]) -> ProgressBar:
    """Return the bar of decoding clips and making their LR versions.

    Args:
        seen: When each event was first read, in seconds; events that were read together carry no
            information about the speed.
    """
    clips = [(e, at) for e, at in zip(events, seen, strict=True) if e["event"] == "clip"]
    if not clips:
        return ProgressBar(0.0, "Clips: not started")
    last, now = clips[-1]
    done, total = last["done"], last["total"]
    this_pass = clips[-done:]  # each pass counts from 1
    first_seen = this_pass[0][1]
    before = next((e["done"] for e, at in reversed(this_pass) if at == first_seen), done)
    pace = None if before == done else (now - first_seen) / (done - before)
    left = _left(total - done, pace)
    return ProgressBar(_share(done, total), f"Clips {last['what']}: {done} of {total}{left}")


def bars(
    rows: Sequence[Row], steps: int, validate_every: int, loading: ProgressBar
) -> list[ProgressBar]:
    """Return the bars of loading, epochs, training batches and validation batches.

    Args:
        rows: Of batches.jsonl.
        steps: Of the whole run.
        validate_every: Steps of an epoch; 0: the run is validated only at the end.
        loading: Shown before the first row.
    """
    if not rows:
        names = ("Epochs", "Training batches", "Validation batches")
        return [loading, *(ProgressBar(0.0, f"{name}: not started") for name in names)]
    rows = without_repeats(rows)
    batches = [row for row in rows if "clip" not in row]
    clips = [row for row in rows if "clip" in row]
    return [
        ProgressBar(1.0, "Clips: loaded"),
        *_training_bars(batches, clips, steps, min(validate_every or steps, steps)),
        _validation_bar(rows, clips),
    ]


def _training_bars(
    batches: Sequence[Row], clips: Sequence[Row], steps: int, epoch: int
) -> tuple[ProgressBar, ProgressBar]:
    """Return the bars of epochs, and of training batches in the current epoch."""
    epochs = math.ceil(steps / epoch)
    step = batches[-1]["step"] if batches else 0
    validated = {row["step"] for row in clips if row["number"] == row["of"]} - {0}
    done = len(validated) if clips else step // epoch
    first = min(done, epochs - 1) * epoch
    size = min(first + epoch, steps) - first
    in_epoch = min(step, first + size) - first
    pace = seconds_per_step(batches)
    left = _left(steps - step, pace)
    left_in_epoch = _left(size - in_epoch, pace)
    return (
        ProgressBar(_share(done, epochs), f"Epochs: {done} of {epochs}{left}"),
        ProgressBar(
            _share(in_epoch, size), f"Training batches: {in_epoch} of {size}{left_in_epoch}"
        ),
    )


def _validation_bar(rows: Sequence[Row], clips: Sequence[Row]) -> ProgressBar:
    if not clips:
        return ProgressBar(0.0, "Validation batches: none yet")
    last = clips[-1]
    done = last["number"] if rows[-1] is last else 0  # else it trains again
    paces = [
        after["time"] - before["time"]
        for before, after in itertools.pairwise(clips[-RECENT:])
        if before["step"] == after["step"]
    ]
    left = _left(last["of"] - done, median(paces) if paces else None)
    text = f"Validation batches: {done} of {last['of']}{left}"
    return ProgressBar(_share(done, last["of"]), text)


def _left(count: int, pace: float | None) -> str:
    return time_left(count * pace) if count and pace is not None else ""


def time_left(seconds: float | None) -> str:
    """Return the remaining time as text that follows a count; "" when it is unknown."""
    return "" if seconds is None else f", {format_duration(seconds)} left"


def seconds_per_step(batches: Sequence[Row]) -> float | None:
    """Estimate the speed from the times of the last lines; breaks do not count."""
    recent = batches[-RECENT:]
    paces = [
        (after["time"] - before["time"]) / (after["step"] - before["step"])
        for before, after in itertools.pairwise(recent)
    ]
    return median(paces) if paces else None


def _share(done: float, total: float) -> float:
    return min(max(done / total, 0.0), 1.0) if total else 0.0
