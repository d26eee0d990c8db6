"""Where the numbers of a training run go: JSON lines in the run folder, and other trackers.

    log.jsonl       a line for each save: means since the last one, and the validation's scores
    batches.jsonl   a line for each training batch and each validation clip, as they are done
    validation.png  bicubic, network and ground truth side by side, of the last validation

`mlflow_tracker.py` logs the same to MLflow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sharpreel.errors import ResumableError, write_error
from sharpreel.media import images
from sharpreel.ops import Pixels
from sharpreel.training.config import TrainConfig
from sharpreel.training.progress import TrainProgress, mean_terms

if TYPE_CHECKING:
    from sharpreel.evaluation.validation import Score

MOST_LINES = 2000  # of batches.jsonl: lines of long runs are means of several steps,
LINE_SECONDS = 5.0  # but never cover more than this time

Status = Literal["FINISHED", "KILLED", "FAILED"]


@dataclass(frozen=True)
class Validation:
    """A finished validation.

    Attributes:
        image: Bicubic, network and ground truth side by side, (H, 3 W, 3); None for tasks that
            have none.
        best: The model file with the best weights so far, if there is one.
    """

    step: int
    image: Pixels | None
    best: Path | None


class Tracker(Protocol):
    """Interface of experiment trackers: what a run reports."""

    def begin(self, config: TrainConfig, step: int) -> None:
        """The run starts, or resumes, at this step."""

    def step(self, step: int, terms: dict[str, float]) -> None:
        """A step is done; `terms` are those of its loss by name."""

    def progress(self, progress: TrainProgress) -> None:
        """Some steps are done and will be saved now."""

    def scored(self, step: int, number: int, count: int, score: Score) -> None:
        """Validation clip `number` of `count` is scored."""

    def validated(self, validation: Validation) -> None:
        """All validation clips are scored."""

    def finished(self, path: Path, card: dict[str, Any]) -> None:
        """The model file is written."""

    def close(self, status: Status = "FINISHED") -> None:
        """The run has ended: as planned, interrupted ("KILLED") or by an error ("FAILED")."""


class NullTracker:
    """A tracker that ignores everything; a base for trackers that need only some methods."""

    def begin(self, config: TrainConfig, step: int) -> None: ...
    def step(self, step: int, terms: dict[str, float]) -> None: ...
    def progress(self, progress: TrainProgress) -> None: ...
    def scored(self, step: int, number: int, count: int, score: Score) -> None: ...
    def validated(self, validation: Validation) -> None: ...
    def finished(self, path: Path, card: dict[str, Any]) -> None: ...
    def close(self, status: Status = "FINISHED") -> None: ...


class JsonlTracker(NullTracker):
    """Writes `log.jsonl`, `batches.jsonl` and `validation.png` in the run folder.

    A line of `batches.jsonl` has `step`, `time` (seconds since 1970), `psnr`, `ssim`, `loss`, and
    the same of bicubic with the prefix `bicubic_`. A training batch also has `steps`, the number
    of steps that the line is the mean of; a validation clip has `clip`, `number` and `of`. After a
    crash, the resumed run writes the steps since the last save a second time.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._pending: list[dict[str, float]] = []
        self._every, self._last_write, self._step = 1, 0.0, 0

    def begin(self, config: TrainConfig, step: int) -> None:
        self._every, self._last_write = max(config.steps // MOST_LINES, 1), time.monotonic()

    def step(self, step: int, terms: dict[str, float]) -> None:
        self._pending.append(terms)
        self._step = step
        overdue = time.monotonic() - self._last_write >= LINE_SECONDS
        if len(self._pending) >= self._every or overdue:
            self._write_batches()

    def progress(self, progress: TrainProgress) -> None:
        self._write_batches()
        fields = dataclasses.asdict(progress)
        self._write("log.jsonl", {k: v for k, v in fields.items() if v not in (None, "", {})})

    def scored(self, step: int, number: int, count: int, score: Score) -> None:
        self._write_batches()
        fields: dict[str, Any] = {"step": step, "time": time.time(), "clip": score.clip}
        fields |= {"number": number, "of": count}
        for name, both in {"psnr": (score.psnr, score.bicubic), **score.more}.items():
            fields[name], fields[f"bicubic_{name}"] = both
        self._write("batches.jsonl", fields)

    def validated(self, validation: Validation) -> None:
        if validation.image is not None:
            path = self._run / "validation.png"
            part = path.with_suffix(".part")
            images.write_png(part, validation.image)
            os.replace(part, path)

    def _write_batches(self) -> None:
        if self._pending:
            means = mean_terms(self._pending)
            fields = {"step": self._step, "time": time.time(), "steps": len(self._pending)}
            self._write("batches.jsonl", {**fields, **means})
        self._pending, self._last_write = [], time.monotonic()

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        path = self._run / name
        try:
            with path.open("a") as file:
                file.write(json.dumps({k: _rounded(v) for k, v in fields.items()}) + "\n")
        except OSError as e:
            raise write_error(path, e) from e


def _rounded(value: Any) -> Any:
    """Round floats to 6 significant digits; NaN and infinity become None."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, float):
        digits = 13 if value > 1e9 else 6  # seconds since 1970, to the millisecond
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


class MultiTracker(NullTracker):
    """Passes everything to several trackers."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def begin(self, config: TrainConfig, step: int) -> None:
        for tracker in self._trackers:
            tracker.begin(config, step)

    def step(self, step: int, terms: dict[str, float]) -> None:
        for tracker in self._trackers:
            tracker.step(step, terms)

    def progress(self, progress: TrainProgress) -> None:
        for tracker in self._trackers:
            tracker.progress(progress)

    def scored(self, step: int, number: int, count: int, score: Score) -> None:
        for tracker in self._trackers:
            tracker.scored(step, number, count, score)

    def validated(self, validation: Validation) -> None:
        for tracker in self._trackers:
            tracker.validated(validation)

    def finished(self, path: Path, card: dict[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.finished(path, card)

    def close(self, status: Status = "FINISHED") -> None:
        for tracker in self._trackers:
            tracker.close(status)


def is_interruption(error: BaseException) -> bool:
    """Return whether a run that ended with this error can be resumed as it is."""
    return isinstance(error, ResumableError | KeyboardInterrupt)


@contextlib.contextmanager
def closing_with_status(
    tracker: Tracker, interrupted: Callable[[BaseException], bool] = is_interruption
) -> Iterator[None]:
    """Close the tracker after the block with the status of the run.

    Args:
        interrupted: Distinguishes "KILLED" from "FAILED" by what the block raises.
    """
    try:
        yield
    except BaseException as e:
        tracker.close("KILLED" if interrupted(e) else "FAILED")
        raise
    tracker.close("FINISHED")
