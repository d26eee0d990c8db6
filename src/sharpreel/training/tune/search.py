"""Search the settings of a recipe: many training runs, each scored, the next ones near the best.

    space.json --Space--> Optuna --settings--> recipes.configure --trainer.train--> gain in dB
                             ^                                                      |
                             +---------------- maximise, prune by the median -------+

A search is an Optuna study, named after its recipe, and a folder:

    study.journal       the study itself, unless a storage is named
    study.json          which study the folder belongs to
    trial-00012/        run folders of `trainer.py`; best.json names that of the best trial
    best.json           a recipe file: `sharpreel train` and `recipes.configure` accept it
    best.safetensors    the best trial's model file
    trials.csv          one row per trial
    plots/, plots.html  Optuna's plots, as PNG and as a page that needs no network

Run the same command again to resume a search that was stopped or killed: a trial that did not end
is tried again with the same settings in the same run folder, so its training resumes from its last
checkpoint, and the trials after it are those that an uninterrupted search would have made. Several
processes, on machines that share the folder, make one search together when each runs the same
command.

A trial is alive while its lock file is held; the system releases the lock when a process dies. No
trial starts while enough trials have finished or are running, so the study ends with exactly the
requested number; `optuna.study.MaxTrialsCallback` counts only finished trials, so that each worker
would add one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sharpreel.errors import (
    DeviceError,
    MissingExtra,
    TrainingError,
    UsageError,
    write_error,
)
from sharpreel.system.files import FileLock, atomic_write
from sharpreel.training import recipes, trainer
from sharpreel.training.config import TrainConfig, config_text, what_differs
from sharpreel.training.mlflow_tracker import MlflowTracker, mlflow_installed
from sharpreel.training.progress import TrainProgress
from sharpreel.training.setup import first_line, make_fabric
from sharpreel.training.trackers import JsonlTracker, MultiTracker, Tracker, closing_with_status
from sharpreel.training.tune.plots import draw
from sharpreel.training.tune.results import (
    Base,
    SearchResult,
    SearchUpdate,
    best_trial,
    first_attempt,
    next_attempt,
    run_folder,
    write_results,
)
from sharpreel.training.tune.space import Dimension, Space, build
from sharpreel.training.tune.study import (
    ParentRun,
    ignore_experimental,
    open_study,
    without_password,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


MIN_VALIDATIONS = 5  # of a trial, so that a bad one is pruned early
MAX_FAILURES = 5  # in a row; then the settings are not the cause
MAX_CRASHES = 3  # of the process that trains a trial
WAIT_SECONDS = 1.0  # between two looks at the trials of other workers

UpdateCallback = Callable[[SearchUpdate], None]


@dataclass(frozen=True)
class SearchOptions:
    """How a search runs, apart from what it searches.

    Attributes:
        storage: A database's URL, or the file of a journal; `study.journal` in the search folder
            by default.
        seed: Of the sampler; the seed of the training runs is a setting.
        device: "auto", "cpu" or "cuda".
        start_from: A checkpoint that each trial starts from.
        mlflow: Log each trial to MLflow, if it is installed.
        plots: Draw the study at the end.
    """

    storage: str | None = None
    seed: int = 123
    device: str = "auto"
    start_from: str | None = None
    mlflow: bool = True
    plots: bool = True


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
    options: SearchOptions | None = None,
    facts: Mapping[str, Any] | None = None,
    on_update: UpdateCallback | None = None,
) -> SearchResult:
    """Find the settings of a recipe that gain most over bicubic on the validation clips.

    Args:
        recipe, scale: As for `recipes.configure`.
        train_clips, val_clips: As for `trainer.train`.
        out: The search folder; an existing search is resumed.
        trials: Number of complete and pruned trials that the study has at the end. Failed ones,
            whose loss became NaN or whose settings do not fit together, are not counted.
        settings: Shared by all trials. Unless they contain `save_every` or `validate_every`, every
            trial is validated at least five times.
        facts: About the clips, for MLflow and the model files.

    Raises:
        UsageError: The space does not fit the recipe, or the folder holds another search.
        TrainingError: Five trials in a row failed; the message has the reason of the last one.
        MissingExtra: Optuna is not installed.
        KeyboardInterrupt, TerminatedError, DiskFullError, ...: Interrupted; the same call resumes.
    """
    _validate_call(trials, val_clips)
    base = _base(recipe, settings, scale)
    if isinstance(space, Path):
        space = Space.read(space)
    space.validate(base.recipe, base.settings, base.scale)
    try:
        out.mkdir(parents=True, exist_ok=True)
        search = _Search(
            base=base,
            space=space,
            train_clips=train_clips,
            val_clips=val_clips,
            out=out,
            trials=trials,
            options=options or SearchOptions(),
            facts=dict(facts or {}),
            on_update=on_update or (lambda update: None),
        )
        try:
            return search.run()
        except BaseException:
            search.interrupted()
            raise
    except OSError as e:
        raise write_error(Path(e.filename or out / "study.json"), e) from e


def _validate_call(trials: int, val_clips: Sequence[Any]) -> None:
    try:
        import optuna
    except ImportError as e:
        raise MissingExtra("Tuning", "train") from e
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if trials < 1:
        raise UsageError(f"trials must be 1 or more, got {trials}.")
    if not len(val_clips):
        raise UsageError("Tuning needs validation clips: trials are compared by them.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "A trial is trained by one process. Instead of torchrun, run the same command several "
            "times, in several processes."
        )


def _base(recipe: str, settings: Mapping[str, Any] | None, scale: int | None) -> Base:
    """Resolve a recipe file to its recipe and settings; UsageError for a wrong setting."""
    recipes.configure(recipe, settings, scale)
    shared: dict[str, Any] = {}
    if recipe not in recipes.RECIPES:
        content = json.loads(Path(recipe).read_text())
        recipe, shared, scale = content["recipe"], content["set"], scale or content.get("scale")
    scale = recipes.configure(recipe, None, scale).scale
    return Base(recipe, {**shared, **(settings or {})}, scale)


@dataclass
class _Search:
    """A worker's part of a search. Whatever decides by the state of the study holds `_lock`."""

    base: Base
    space: Space
    train_clips: Sequence[Any]
    val_clips: Sequence[Any]
    out: Path
    trials: int
    options: SearchOptions
    facts: dict[str, Any]
    on_update: UpdateCallback

    def __post_init__(self) -> None:
        self._lock = FileLock(self.out / "lock")
        tracked = self.options.mlflow and mlflow_installed()
        with self._lock:
            self._study = open_study(self.out, self.base.recipe, self.options.storage)
            self._claim_folder()
            self._parent = ParentRun.open(self.out, self.base.recipe) if tracked else None

    def run(self) -> SearchResult:
        """Run trials until there are enough."""
        failures = 0
        while True:
            with self._lock:
                self._retry_crashed()
                finished, running = self._count("COMPLETE", "PRUNED"), self._count("RUNNING")
                if finished >= self.trials:
                    break
                trial = self._ask() if finished + running < self.trials else None
            if trial is None:  # other workers train the last ones, which may fail
                time.sleep(WAIT_SECONDS)
                continue
            note = self._run_trial(*trial)
            failures = failures + 1 if note else 0
            if failures == MAX_FAILURES:
                raise TrainingError(
                    f"{failures} trials in a row failed; {self.out / 'trials.csv'} has the "
                    f"reasons. The last: {note}"
                )
        with self._lock:
            result = self._publish()
            if self.options.plots:
                draw(self._study, self.out)
            if self._parent is not None:
                self._parent.log_results(self.out)
                self._parent.end("FINISHED")
        assert result is not None  # trials are pruned only when others are complete
        return result

    def interrupted(self) -> None:
        if self._parent is not None:
            self._parent.end("KILLED")

    # The study

    def _claim_folder(self) -> None:
        """Tie the study to the folder, and check that it is the search that was started here.

        Raises:
            UsageError: It is another search.
        """
        id_file = self.out / "study.json"
        attrs = self._study.user_attrs
        folder_id = json.loads(id_file.read_text())["id"] if id_file.is_file() else None
        study_id = attrs.get("folder")
        storage = without_password(self.options.storage or str(self.out / "study.journal"))
        if study_id is not None and folder_id != study_id:
            raise UsageError(
                f"{storage} holds a search of {self.base.recipe} whose trials are in another "
                f"folder, {attrs['path']}. Choose that folder, or another storage."
            )
        if folder_id is not None and study_id is None and list(self.out.glob("trial-*")):
            raise UsageError(
                f"{self.out}: holds the trials of a search that is not in {storage}. Name its "
                "storage, or choose another folder."
            )
        now = self._fingerprint()
        if study_id is None:
            study_id = folder_id or secrets.token_hex(8)
            # In this order, so that the next process completes what a killed one has left.
            atomic_write(id_file, json.dumps({"id": study_id, "study": self.base.recipe}))
            self._study.set_user_attr("path", str(self.out.resolve()))
            self._study.set_user_attr("begun", json.dumps(now))
            self._study.set_user_attr("folder", study_id)
            return
        changed = what_differs(json.loads(attrs["begun"]), now)
        if changed:
            raise UsageError(
                f"{self.out}: started with other settings ({', '.join(changed)}). Choose another "
                "folder, or the settings that it was started with."
            )

    def _fingerprint(self) -> dict[str, Any]:
        """Return what makes two trials comparable; the number of trials may change."""
        config = recipes.configure(self.base.recipe, self.base.settings, self.base.scale)
        space = {name: vars(dimension) for name, dimension in self._dimensions()}
        return {
            **json.loads(config_text(config)),
            "space": json.loads(json.dumps(space)),
            "training clips": _clip_names_digest(self.train_clips),
            "validation clips": _clip_names_digest(self.val_clips),
            "start_from": self.options.start_from,
        }

    def _dimensions(self) -> list[tuple[str, Dimension]]:
        return list(self.space.dimensions.items())

    def _all_trials(self) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def _count(self, *states: str) -> int:
        return sum(t.state.name in states for t in self._all_trials())

    def _ask(self) -> tuple[Trial, FileLock]:
        """Return a new trial, or one that is tried again, and the lock that marks it as alive."""
        from optuna.samplers import TPESampler

        # What a trial tries depends on the seed, its position and the finished trials alone,
        # whichever process asks and however often the search was stopped.
        position = sum("first" not in t.user_attrs for t in self._all_trials())
        entropy = [self.options.seed, position]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        with ignore_experimental():
            self._study.sampler = TPESampler(seed=seed, constant_liar=True)
        trial = self._study.ask({n: d.distribution() for n, d in self._dimensions()})
        folder = run_folder(self.out, trial)
        folder.mkdir(exist_ok=True)
        alive = FileLock(folder / "lock")
        alive.acquire()
        return trial, alive

    def _retry_crashed(self) -> None:
        """Queue the trials of killed workers again."""
        for trial in self._all_trials():
            if trial.state.name != "RUNNING":
                continue
            folder = run_folder(self.out, trial)
            folder.mkdir(exist_ok=True)
            alive = FileLock(folder / "lock")
            if alive.acquire(wait=False):
                alive.release()
                self._retry(trial, crashes=1)

    def _retry(self, trial: FrozenTrial, crashes: int = 0) -> None:
        """End an attempt; the next one has the same settings, run folder and scores so far."""
        from optuna.trial import TrialState

        crashes += trial.user_attrs.get("deaths", 0)
        # It may be queued already: a process was killed between these two calls.
        queued = next_attempt(trial, self._all_trials()) is not None
        if not queued and crashes < MAX_CRASHES:
            attributes = {"first": first_attempt(trial), "deaths": crashes}
            self._study.enqueue_trial(dict(trial.params), attributes)
        self._study.tell(trial.number, state=TrialState.FAIL)

    # One trial

    def _run_trial(self, trial: Trial, alive: FileLock) -> str:
        """Train one trial and record its result; return why it failed, or ""."""
        try:
            value, state, note = self._outcome(trial)
            if note:
                trial.set_user_attr("note", note)
            with self._lock:
                self._study.tell(trial, value, state)
                if not note:  # it will not be resumed
                    (run_folder(self.out, trial) / "last.pt").unlink(missing_ok=True)
                self._publish()
        except BaseException:
            with self._lock:
                now = next(t for t in self._all_trials() if t.number == trial.number)
                if now.state.name == "RUNNING":
                    self._retry(now)
            raise
        finally:
            alive.release()
        ended = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(state.name, "failed")
        self._update(trial, ended, value=value, note=note)
        return note

    def _outcome(self, trial: Trial) -> tuple[float | None, Any, str]:
        """Train one trial; return its value, Optuna's state, and why it failed, or ""."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        try:
            return self._train(trial), TrialState.COMPLETE, ""
        except TrialPruned:
            return None, TrialState.PRUNED, ""
        except Exception as e:
            if not _caused_by_settings(e):
                raise
            return None, TrialState.FAIL, f"{first_line(e)}."

    def _train(self, trial: Trial) -> float:
        """Return the gain of a trial's model file; TrialPruned when it is not promising."""
        config = self._config(trial)
        run = run_folder(self.out, trial)
        scores = self._earlier_scores(trial)
        tracker = self._tracker(run)

        def on_progress(progress: TrainProgress) -> None:
            gain = progress.psnr if progress.gain_db is None else progress.gain_db
            # The score of the untrained network carries no information about a trial.
            fresh = gain is not None and progress.step > 0 and progress.step not in scores
            if fresh and gain is not None:
                scores[progress.step] = gain
                trial.report(gain, progress.step)
            self._update(trial, "running", progress=progress, value=gain)
            if fresh and progress.step < config.steps and trial.should_prune():
                tracker.progress(progress)
                raise _pruned()

        with closing_with_status(tracker, lambda error: not _caused_by_settings(error)):
            model = trainer.train(
                config,
                self.train_clips,
                self.val_clips,
                run,
                tracker=tracker,
                on_progress=on_progress,
                fabric=make_fabric(config.precision, self.options.device),
                start_from=self.options.start_from,
                extra={"trial": trial.number, **({"data": self.facts} if self.facts else {})},
            )
        trial.set_user_attr("model", model.name)
        return _value(config, scores, (run / "best.safetensors").is_file())

    def _config(self, trial: Trial) -> TrainConfig:
        config = build(self.base.recipe, {**self.base.settings, **trial.params}, self.base.scale)
        if self.base.settings.keys() & {"save_every", "validate_every"}:
            return config
        every = max(1, min(config.steps // MIN_VALIDATIONS, config.validate_every))
        return replace(config, save_every=every, validate_every=every)

    def _earlier_scores(self, trial: Trial) -> dict[int, float]:
        """Return the scores of earlier attempts of this trial by step, and report them again."""
        scores: dict[int, float] = {}
        first = first_attempt(trial)
        for earlier in self._all_trials():
            if earlier.number < trial.number and first_attempt(earlier) == first:
                scores |= earlier.intermediate_values
        for step, score in scores.items():
            trial.report(score, step)
        return scores

    def _tracker(self, run: Path) -> Tracker:
        log = JsonlTracker(run)
        if self._parent is None:
            return log
        return MultiTracker(log, MlflowTracker(run, self.facts, parent=self._parent.run_id))

    def _update(
        self,
        trial: Trial,
        state: Any,
        progress: TrainProgress | None = None,
        value: float | None = None,
        note: str = "",
    ) -> None:
        best, finished = best_trial(self._all_trials()), self._count("COMPLETE", "PRUNED")
        self.on_update(
            SearchUpdate(
                trial.number,
                finished,
                self.trials,
                state,
                dict(trial.params),
                progress,
                value,
                None if best is None else best.value,
                note,
            )
        )

    def _publish(self) -> SearchResult | None:
        """Write the results so far; None before the first complete trial."""
        names = list(self.space.dimensions)
        result = write_results(self.out, self.base, names, self._all_trials())
        if result is not None and self._parent is not None:
            self._parent.log(result.value, result.states["complete"] + result.states["pruned"])
        return result


def _value(config: TrainConfig, scores: Mapping[int, float], has_best: bool) -> float:
    """Return what a trial is compared by: its best score, or the last one without best weights.

    The best weights may be those that the run started from; a trial is compared by the weights that
    its settings made of them.

    Raises:
        TrainingError: It was never scored, or its score is NaN.
    """
    if not scores:
        raise TrainingError("It was never scored.")
    eligible = [gain for step, gain in scores.items() if step > config.gan_start]
    value = max(eligible) if has_best and eligible else scores[max(scores)]
    if not math.isfinite(value):
        raise TrainingError(f"Its gain is {value}.")
    return value


def _caused_by_settings(error: BaseException) -> bool:
    """Return whether a trial with other settings may succeed."""
    kinds = (TrainingError, UsageError, DeviceError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) and not isinstance(error, MissingExtra)


def _pruned() -> Exception:
    from optuna import TrialPruned

    pruned: Exception = TrialPruned()
    return pruned


def _clip_names_digest(clips: Sequence[Any]) -> str:
    """Return a short digest of the names and shapes of clips."""
    names = [(str(getattr(c, "name", "")), np.shape(getattr(c, "hr", c))) for c in clips]
    return hashlib.sha256(repr(names).encode()).hexdigest()[:16]
