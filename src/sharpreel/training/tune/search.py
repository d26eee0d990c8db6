"""Search the settings of a recipe: many trainings, each scored, the next ones near the best.

    space.json --Space--> Optuna --settings--> recipes.configure --trainer.train--> gain in dB
                             ^                                                      |
                             +---------------- maximise, prune by the median -------+

A search is an Optuna study, named after its recipe, and a folder:

    study.journal       the study itself, unless a storage is named
    study.json          says which study the folder belongs to
    trial-00012/        run folders of `train.py`; best.json says which is the best one's
    best.json           a recipe file: `sharpreel train` takes it, `recipes.configure` reads it
    best.safetensors    the best trial's model file
    trials.csv          one row a trial
    plots/, plots.html  what Optuna draws, as PNG and as a page that needs no network

The same command goes on where a search was stopped or killed: a trial that did not end is tried
again with the same settings in the same run folder, so its training goes on from its last
checkpoint, and the trials after it are those that would have come. The same command in several
processes, on machines that share the folder, makes the same search together.

Who is alive is told by locks on files, which the system opens when a process dies. No trial is
begun while as many as are wanted have finished or are under way, so there are exactly that many in
the end; `optuna.study.MaxTrialsCallback` counts only finished ones, and each worker would add one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from sharpreel.errors import (
    DeviceError,
    InputError,
    MissingExtra,
    TrainingError,
    UsageError,
    write_error,
)
from sharpreel.system.files import FileLock, atomic_write, fsync
from sharpreel.training import recipes, trackers, trainer
from sharpreel.training.config import TrainConfig, config_text, what_differs
from sharpreel.training.setup import first_line, make_fabric
from sharpreel.training.trainer import TrainProgress
from sharpreel.training.tune.plots import draw
from sharpreel.training.tune.space import Dimension, Space, build
from sharpreel.training.tune.study import (
    ParentRun,
    ignore_experimental,
    open_study,
    without_password,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


SCORED_AT_LEAST = 5  # times a trial, so that a bad one is seen early
FAILURES_IN_A_ROW = 5  # after which it is not the settings' fault
DEATHS = 3  # of its process that a trial may cause
WAIT_SECONDS = 1.0  # for other workers' trials, between two looks


# What is told ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SearchUpdate:
    """A line of a search's progress; handed to `tell`.

    Attributes:
        trial: Its number in the study.
        finished, trials: How many are finished (complete or pruned), of how many.
        state: "running" while it trains, with `progress`; then how it ended, with `value`.
        settings: What this trial tries.
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
    """What a search found.

    Attributes:
        trial, value: The best trial's number, and its gain in dB over bicubic.
        settings: Its settings, those that were searched.
        recipe: `best.json`.
        model: `best.safetensors`.
        states: How many trials ended how: "complete", "pruned", "failed".
    """

    trial: int
    value: float
    settings: dict[str, Any]
    recipe: Path
    model: Path
    states: dict[str, int] = field(default_factory=dict)


# The search ------------------------------------------------------------------------------------


def tune(
    recipe: str,
    space: Space | Path,
    train_clips: Sequence[Any],
    val_clips: Sequence[Any],
    out: Path,
    trials: int,
    *,
    scale: int | None = None,
    settings: Mapping[str, Any] | None = None,
    storage: str | None = None,
    seed: int = 123,
    device: str = "auto",
    start_from: str | None = None,
    data: Mapping[str, Any] | None = None,
    track: bool = True,
    plots: bool = True,
    tell: Callable[[SearchUpdate], None] | None = None,
) -> SearchResult:
    """Find the settings of a recipe that gain most over bicubic on the validation clips.

    Args:
        recipe: As `recipes.configure` takes it.
        train_clips, val_clips: As `trainer.train` takes them.
        trials: Complete and pruned ones that the study shall have in all; failed ones, whose loss
            was no number or whose settings do not go together, are not counted.
        settings: Of all trials. Where neither `save_every` nor `validate_every` is among them,
            every trial is scored five times at least.
        storage: A database's URL, or the file of a journal; out/study.journal by default.
        seed: Of the sampler; the trainings' own is a setting.
        device: As `setup.make_fabric` takes it.
        start_from: A checkpoint that each trial begins with.
        data: What the clips are, for MLflow and the model files.
        track: Log each trial in MLflow, where it is installed.
        plots: Draw the study in the end.

    Raises:
        UsageError: The space does not fit the recipe, or the folder holds another search.
        errors.TrainingError: Five trials in a row failed; says why the last one did.
        MissingExtra: Optuna is not installed.
        KeyboardInterrupt, TerminatedError, DiskFullError, ...: Stopped on the way; the same command
            goes on.
    """
    try:
        import optuna
    except ImportError as e:
        raise MissingExtra("Tuning", "train") from e
    if trials < 1:
        raise UsageError(f"trials must be 1 or more, got {trials}.")
    if not len(val_clips):
        raise UsageError("Tuning needs validation clips: trials are compared by them.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "A trial is trained by one process. Instead of torchrun, give the same command several "
            "times, in several processes."
        )
    base = _Base.of(recipe, settings, scale)
    if isinstance(space, Path):
        space = Space.read(space)
    space.check(base.recipe, base.settings, base.scale)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        out.mkdir(parents=True, exist_ok=True)
        search = _Search(
            base=base, space=space, train_clips=train_clips, val_clips=val_clips, out=out,
            trials=trials, storage=storage, seed=seed, device=device,
            start_from=start_from, data=dict(data or {}), track=track and trackers.mlflow_there(),
            tell=tell or (lambda update: None),
        )  # fmt: skip
        try:
            return search.work(plots)
        except BaseException:
            search.interrupted()
            raise
    except OSError as e:
        raise write_error(Path(e.filename or out / "study.json"), e) from e


@dataclass(frozen=True)
class _Base:
    """A recipe of `recipes.RECIPES` and the settings that all trials share."""

    recipe: str
    settings: dict[str, Any]
    scale: int

    @classmethod
    def of(cls, recipe: str, settings: Mapping[str, Any] | None, scale: int | None) -> _Base:
        recipes.configure(recipe, settings, scale)  # raises what is wrong with it
        shared: dict[str, Any] = {}
        if recipe not in recipes.RECIPES:  # a recipe file: found elsewhere, searched on here
            content = json.loads(Path(recipe).read_text())
            recipe, shared, scale = content["recipe"], content["set"], scale or content.get("scale")
        at = recipes.configure(recipe, None, scale).scale
        return cls(recipe, {**shared, **(settings or {})}, at)


@dataclass
class _Search:
    """A worker's share of a search. All looks at the study that end in a decision hold `_lock`."""

    base: _Base
    space: Space
    train_clips: Sequence[Any]
    val_clips: Sequence[Any]
    out: Path
    trials: int
    storage: str | None
    seed: int
    device: str
    start_from: str | None
    data: dict[str, Any]
    track: bool
    tell: Callable[[SearchUpdate], None]

    def __post_init__(self) -> None:
        self._lock = FileLock(self.out / "lock")
        with self._lock:
            self._study = open_study(self.out, self.base.recipe, self.storage)
            self._own()
            self._parent = ParentRun.of(self.out, self.base.recipe) if self.track else None

    def work(self, plots: bool) -> SearchResult:
        """Make trials until there are enough."""
        failures = 0
        while True:
            with self._lock:
                self._retry_dead()
                finished, running = self._count("COMPLETE", "PRUNED"), self._count("RUNNING")
                if finished >= self.trials:
                    break
                trial = self._ask() if finished + running < self.trials else None
            if trial is None:  # others train the last ones; one of them may fail
                time.sleep(WAIT_SECONDS)
                continue
            note = self._run(*trial)
            failures = failures + 1 if note else 0
            if failures == FAILURES_IN_A_ROW:
                raise TrainingError(
                    f"{failures} trials in a row failed; {self.out / 'trials.csv'} says why each "
                    f"did. The last: {note}"
                )
        with self._lock:
            result = self._publish()
            if plots:
                draw(self._study, self.out)
            if self._parent is not None:
                self._parent.keep(self.out)
                self._parent.end("FINISHED")
        assert result is not None  # a trial is pruned only beside complete ones
        return result

    def interrupted(self) -> None:
        if self._parent is not None:
            self._parent.end("KILLED")

    # The study -----------------------------------------------------------------------------

    def _own(self) -> None:
        """Tie the study to the folder, and see that it is the search that was begun.

        Raises:
            UsageError: It is not.
        """
        note = self.out / "study.json"
        attrs = self._study.user_attrs
        here = json.loads(note.read_text())["id"] if note.is_file() else None
        there = attrs.get("folder")
        where = without_password(self.storage or str(self.out / "study.journal"))
        if there is not None and here != there:
            raise UsageError(
                f"{where} holds a search of {self.base.recipe} whose trials are in another folder, "
                f"{attrs['path']}. Choose that --out, or another storage."
            )
        if here is not None and there is None and list(self.out.glob("trial-*")):
            raise UsageError(
                f"{self.out}: holds the trials of a search that is not in {where}. Name its "
                "storage, or choose another --out."
            )
        now = self._fingerprint()
        if there is None:
            identity = here or secrets.token_hex(8)
            # In this order a process that is killed between leaves what the next one completes.
            atomic_write(note, json.dumps({"id": identity, "study": self.base.recipe}))
            self._study.set_user_attr("path", str(self.out.resolve()))
            self._study.set_user_attr("begun", json.dumps(now))
            self._study.set_user_attr("folder", identity)
            return
        changed = what_differs(json.loads(attrs["begun"]), now)
        if changed:
            raise UsageError(
                f"{self.out}: begun with other settings ({', '.join(changed)}). Choose another "
                "--out, or the settings it was begun with."
            )

    def _fingerprint(self) -> dict[str, Any]:
        """What makes two trials comparable; how many there shall be may change."""
        config = recipes.configure(self.base.recipe, self.base.settings, self.base.scale)
        space = {name: vars(dimension) for name, dimension in self._dimensions()}
        return {
            **json.loads(config_text(config)),
            "space": json.loads(json.dumps(space)),
            "training clips": _names(self.train_clips),
            "validation clips": _names(self.val_clips),
            "start_from": self.start_from,
        }

    def _dimensions(self) -> list[tuple[str, Dimension]]:
        return list(self.space.dimensions.items())

    def _all(self) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def _count(self, *states: str) -> int:
        return sum(t.state.name in states for t in self._all())

    def _folder(self, trial: FrozenTrial | Trial) -> Path:
        """The run folder: that of its first attempt."""
        return self.out / f"trial-{trial.user_attrs.get('first', trial.number):05d}"

    def _ask(self) -> tuple[Trial, FileLock]:
        """A new trial, or one that is tried again, and the lock that says it is alive."""
        from optuna.samplers import TPESampler

        # What a trial tries depends on the seed, its place and the finished ones alone, whichever
        # process asks and however often the search was stopped.
        place = sum("first" not in t.user_attrs for t in self._all())
        number = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        with ignore_experimental():
            self._study.sampler = TPESampler(seed=number, constant_liar=True)
        trial = self._study.ask({n: d.distribution() for n, d in self._dimensions()})
        folder = self._folder(trial)
        folder.mkdir(exist_ok=True)
        alive = FileLock(folder / "lock")
        alive.acquire()
        return trial, alive

    def _retry_dead(self) -> None:
        """Have the trials of killed workers tried again."""
        for trial in self._all():
            if trial.state.name != "RUNNING":
                continue
            folder = self._folder(trial)
            folder.mkdir(exist_ok=True)
            alive = FileLock(folder / "lock")
            if alive.acquire(wait=False):
                alive.release()
                self._retry(trial, died=1)

    def _retry(self, trial: FrozenTrial, died: int = 0) -> None:
        """End an attempt; the next one has the same settings, run folder and scores so far."""
        from optuna.trial import TrialState

        first = trial.user_attrs.get("first", trial.number)
        deaths = trial.user_attrs.get("deaths", 0) + died
        queued = _next_attempt(trial, self._all()) is not None  # killed between these two lines
        if not queued and deaths < DEATHS:
            self._study.enqueue_trial(dict(trial.params), {"first": first, "deaths": deaths})
        self._study.tell(trial.number, state=TrialState.FAIL)

    # One trial -----------------------------------------------------------------------------

    def _run(self, trial: Trial, alive: FileLock) -> str:
        """Train one trial and tell the study; why it failed, or ""."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        value: float | None = None
        state, note, ended = TrialState.COMPLETE, "", False
        try:
            try:
                value = self._train(trial)
            except TrialPruned:
                state = TrialState.PRUNED
            except Exception as e:
                if not _is_of_the_settings(e):
                    raise
                state, note = TrialState.FAIL, f"{first_line(e)}."
            if note:
                trial.set_user_attr("note", note)
            with self._lock:
                self._study.tell(trial, value, state)
                ended = True
                if not note:  # nothing goes on from it
                    (self._folder(trial) / "last.pt").unlink(missing_ok=True)
                self._publish()
        except BaseException:
            if not ended:
                with self._lock:
                    now = next(t for t in self._all() if t.number == trial.number)
                    if now.state.name == "RUNNING":
                        self._retry(now)
            raise
        finally:
            alive.release()
        self._say(trial, {"COMPLETE": "complete", "PRUNED": "pruned"}.get(state.name, "failed"),
                  value=value, note=note)  # fmt: skip
        return note

    def _train(self, trial: Trial) -> float:
        """The gain of a trial's model file; TrialPruned when it is not worth ending."""
        config = self._config(trial)
        run = self._folder(trial)
        scores = self._inherited(trial)
        tracker = self._tracker(run)

        def hear(progress: TrainProgress) -> None:
            gain = progress.psnr if progress.gain_db is None else progress.gain_db
            # The untrained network's score says nothing about a trial.
            fresh = gain is not None and progress.step > 0 and progress.step not in scores
            if fresh and gain is not None:
                scores[progress.step] = gain
                trial.report(gain, progress.step)
            self._say(trial, "running", progress=progress, value=gain)
            if fresh and progress.step < config.steps and trial.should_prune():
                tracker.line(progress)
                raise _pruned()

        status = "FAILED"
        try:
            model = trainer.train(
                config, self.train_clips, self.val_clips, run, tracker=tracker, tell=hear,
                fabric=make_fabric(config.precision, self.device), start_from=self.start_from,
                extra={"trial": trial.number, **({"data": self.data} if self.data else {})},
            )  # fmt: skip
            status = "FINISHED"
        except BaseException as e:
            status = "FAILED" if _is_of_the_settings(e) else "KILLED"
            raise
        finally:
            tracker.close(status)
        trial.set_user_attr("model", model.name)
        if not scores:
            raise TrainingError("It was never scored.")
        # The model file holds the best weights; it may be the start's, but trials are compared by
        # what their settings made of it.
        judged = [gain for step, gain in scores.items() if step > config.judged_from]
        kept = (run / "best.safetensors").is_file() and judged
        value = max(judged) if kept else scores[max(scores)]
        if not math.isfinite(value):
            raise TrainingError(f"Its gain is {value}.")
        return value

    def _config(self, trial: Trial) -> TrainConfig:
        config = build(self.base.recipe, {**self.base.settings, **trial.params}, self.base.scale)
        if self.base.settings.keys() & {"save_every", "validate_every"}:
            return config
        every = max(1, min(config.steps // SCORED_AT_LEAST, config.validate_every))
        return replace(config, save_every=every, validate_every=every)

    def _inherited(self, trial: Trial) -> dict[int, float]:
        """What earlier attempts of this trial scored by step; reported again."""
        scores: dict[int, float] = {}
        for earlier in self._all():
            if earlier.number < trial.number and self._folder(earlier) == self._folder(trial):
                scores |= earlier.intermediate_values
        for step, score in scores.items():
            trial.report(score, step)
        return scores

    def _tracker(self, run: Path) -> trackers.Tracker:
        log = trackers.JsonlTracker(run)
        if self._parent is None:
            return log
        return trackers.MultiTracker(
            log, trackers.MlflowTracker(run, self.data, parent=self._parent.run_id)
        )

    def _say(
        self,
        trial: Trial,
        state: Any,
        progress: TrainProgress | None = None,
        value: float | None = None,
        note: str = "",
    ) -> None:
        best, finished = _best(self._all()), self._count("COMPLETE", "PRUNED")
        settings, top = dict(trial.params), None if best is None else best.value
        self.tell(
            SearchUpdate(
                trial.number, finished, self.trials, state, settings, progress, value, top, note
            )
        )

    # Results -------------------------------------------------------------------------------

    def _publish(self) -> SearchResult | None:
        """Write what is known: trials.csv, and best.json and its model once a trial is complete."""
        trials = self._all()
        atomic_write(self.out / "trials.csv", table(trials, list(self.space.dimensions)))
        best = _best(trials)
        if best is None or best.value is None:
            return None
        recipe, model = self.out / "best.json", self.out / "best.safetensors"
        known = json.loads(recipe.read_text())["trial"] if recipe.is_file() else None
        if known != best.number or not model.is_file():
            part = model.with_name("part-" + model.name)
            source = self._folder(best) / best.user_attrs["model"]
            if not source.is_file():
                raise InputError(f"{source}: missing; it is the best trial's model file.")
            shutil.copyfile(source, part)
            fsync(part)
            os.replace(part, model)
            content = {
                "recipe": self.base.recipe,
                "scale": self.base.scale,
                "set": {**self.base.settings, **self._ordered(best)},
                "value": best.value,
                "trial": best.number,
                "run": self._folder(best).name,
            }
            atomic_write(recipe, json.dumps(content, indent=1, default=str))
        states = [_ended(t, trials) for t in trials]
        if self._parent is not None:
            self._parent.log(best.value, states.count("complete") + states.count("pruned"))
        counts = {k: states.count(k) for k in ("complete", "pruned", "failed")}
        return SearchResult(best.number, best.value, self._ordered(best), recipe, model, counts)

    def _ordered(self, trial: FrozenTrial) -> dict[str, Any]:
        return {name: trial.params[name] for name in self.space.dimensions}


def _is_of_the_settings(error: BaseException) -> bool:
    """May another trial do better?"""
    kinds = (TrainingError, UsageError, DeviceError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) and not isinstance(error, MissingExtra)


def _pruned() -> Exception:
    from optuna import TrialPruned

    pruned: Exception = TrialPruned()
    return pruned


def _names(clips: Sequence[Any]) -> str:
    """A short digest of which clips these are."""
    told = [(str(getattr(c, "name", "")), np.shape(getattr(c, "hr", c))) for c in clips]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    complete = [t for t in trials if t.state.name == "COMPLETE" and t.value is not None]
    return max(complete, key=lambda t: (t.value, -t.number), default=None)


def _next_attempt(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int | None:
    """The number of the trial that goes on where this one was interrupted."""
    first = trial.user_attrs.get("first", trial.number)
    for later in trials:
        if later.number > trial.number and later.user_attrs.get("first") == first:
            return int(later.number)
    return None


def _ended(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """Its state in a word: Optuna calls interrupted trials failed."""
    if trial.state.name == "FAIL":
        return "failed" if _next_attempt(trial, trials) is None else "interrupted"
    return str(trial.state.name).lower()


def table(trials: Sequence[FrozenTrial], names: Sequence[str]) -> str:
    """All trials as CSV: number, state, value, each setting, seconds, run folder, note."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", "value", *names, "seconds", "run", "note"])
    for trial in trials:
        state = _ended(trial, trials)
        note = trial.user_attrs.get("note", "")
        if state == "interrupted":
            note = f"goes on as trial {_next_attempt(trial, trials)}"
        elif state == "failed" and not note:
            note = "its process was killed each time"
        seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
        run = f"trial-{trial.user_attrs.get('first', trial.number):05d}"
        settings = [trial.params.get(name) for name in names]
        writer.writerow([trial.number, state, trial.value, *settings, seconds, run, note])
    return text.getvalue()
