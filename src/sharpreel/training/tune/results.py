"""What a search reports and writes: updates, `trials.csv`, `best.json` and the best model file."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sharpreel.errors import InputError
from sharpreel.system.files import atomic_write, fsync
from sharpreel.training.progress import TrainProgress

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


@dataclass(frozen=True)
class SearchUpdate:
    """Progress of a search; passed to `on_update`.

    Attributes:
        trial: Its number in the study.
        finished, trials: Trials that are complete or pruned, of how many.
        state: "running" while it trains, with `progress`; then how it ended, with `value`.
        settings: Those that this trial tries.
        value, best: Gain in dB over bicubic, of this trial and of the best one so far.
        note: Why it failed.
    """

    trial: int
    finished: int
    trials: int
    state: Literal["running", "complete", "pruned", "failed"]
    settings: Mapping[str, Any]
    progress: TrainProgress | None = None
    value: float | None = None
    best: float | None = None
    note: str = ""


@dataclass(frozen=True)
class SearchResult:
    """The best trial of a search.

    Attributes:
        trial, value: Its number, and its gain in dB over bicubic.
        settings: Its values of the settings that were searched.
        recipe: `best.json`.
        model: `best.safetensors`.
        states: The number of trials that are "complete", "pruned" and "failed".
    """

    trial: int
    value: float
    settings: dict[str, Any]
    recipe: Path
    model: Path
    states: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Base:
    """A recipe of `recipes.RECIPES` and the settings that all trials share."""

    recipe: str
    settings: dict[str, Any]
    scale: int


def write_results(
    out: Path, base: Base, names: Sequence[str], trials: Sequence[FrozenTrial]
) -> SearchResult | None:
    """Write `trials.csv`, and `best.json` with its model file once a trial is complete.

    Args:
        names: The settings that are searched.

    Returns:
        None before the first complete trial.
    """
    atomic_write(out / "trials.csv", table(trials, names))
    best = best_trial(trials)
    if best is None or best.value is None:
        return None
    recipe, model = out / "best.json", out / "best.safetensors"
    settings = {name: best.params[name] for name in names}
    known = json.loads(recipe.read_text())["trial"] if recipe.is_file() else None
    if known != best.number or not model.is_file():
        _copy_model(run_folder(out, best) / best.user_attrs["model"], model)
        content = {
            "recipe": base.recipe,
            "scale": base.scale,
            "set": {**base.settings, **settings},
            "value": best.value,
            "trial": best.number,
            "run": run_folder(out, best).name,
        }
        atomic_write(recipe, json.dumps(content, indent=1, default=str))
    ended = [end_state(t, trials) for t in trials]
    counts = {state: ended.count(state) for state in ("complete", "pruned", "failed")}
    return SearchResult(best.number, best.value, settings, recipe, model, counts)


def _copy_model(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"{source}: missing; it is the best trial's model file.")
    part = target.with_name("part-" + target.name)
    shutil.copyfile(source, part)
    fsync(part)
    os.replace(part, target)


def table(trials: Sequence[FrozenTrial], names: Sequence[str]) -> str:
    """Return all trials as CSV: number, state, value, each setting, seconds, run folder, note."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", "value", *names, "seconds", "run", "note"])
    for trial in trials:
        state = end_state(trial, trials)
        note = trial.user_attrs.get("note", "")
        if state == "interrupted":
            note = f"resumed as trial {next_attempt(trial, trials)}"
        elif state == "failed" and not note:
            note = "its process was killed each time"
        seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
        settings = [trial.params.get(name) for name in names]
        run = run_folder(Path(), trial).name
        writer.writerow([trial.number, state, trial.value, *settings, seconds, run, note])
    return text.getvalue()


def run_folder(out: Path, trial: FrozenTrial | Trial) -> Path:
    """Return the run folder of a trial: all attempts share that of the first one."""
    return out / f"trial-{first_attempt(trial):05d}"


def first_attempt(trial: FrozenTrial | Trial) -> int:
    """Return the number of the trial that was the first to try these settings."""
    return int(trial.user_attrs.get("first", trial.number))


def next_attempt(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int | None:
    """Return the number of the trial that resumes this one, which was interrupted."""
    for later in trials:
        if later.number > trial.number and later.user_attrs.get("first") == first_attempt(trial):
            return int(later.number)
    return None


def end_state(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """Return a trial's state in lower case; Optuna calls interrupted trials failed."""
    if trial.state.name == "FAIL":
        return "failed" if next_attempt(trial, trials) is None else "interrupted"
    return str(trial.state.name).lower()


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the complete trial with the highest value, the first of equal ones."""
    complete = [t for t in trials if t.state.name == "COMPLETE" and t.value is not None]
    return max(complete, key=lambda t: (t.value, -t.number), default=None)
