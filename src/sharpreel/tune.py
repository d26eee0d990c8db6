"""Search the settings of a recipe: many trainings, each scored, the next ones near the best.

    space.json --Space--> Optuna --settings--> recipes.configure --train.train--> gain in dB
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

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import random
import re
import secrets
import shutil
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from sharpreel import journal, recipes, tracking, train
from sharpreel.errors import (
    DeviceError,
    InputError,
    MissingExtra,
    UsageError,
    write_error,
)
from sharpreel.locks import Lock
from sharpreel.train import Progress, TrainConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

SCORED_AT_LEAST = 5  # times a trial, so that a bad one is seen early
STARTUP_TRIALS = 3  # that are never pruned
FAILURES_IN_A_ROW = 5  # after which it is not the settings' fault
DEATHS = 3  # of its process that a trial may cause
WAIT_SECONDS = 1.0  # for other workers' trials, between two looks

NOT_SEARCHED = {
    **dict.fromkeys(("scale", "arguments.scale", "degradation", "task"), "what the clips are"),
    **dict.fromkeys(
        ("validate_frames", "validate_patch", "validate_every", "save_every"),
        "how and when a trial is scored",
    ),
    "name": "what the model file is called",
}


# The space -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dimension:
    """What one setting may be: a number between two, both included, or one of some values.

    Attributes:
        choices: Words, numbers, true, false or None; lists and tables as their JSON, which
            `recipes.configure` reads.
    """

    kind: Literal["float", "int", "choice"]
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[str | int | float | bool | None, ...] = ()

    def distribution(self) -> BaseDistribution:
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.choices)
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return distributions.IntDistribution(low, high, log=self.log, step=step)
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def samples(self) -> list[Any]:
        """Values to check a setting with: every choice, or the ends and one between."""
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int":
            return [int(self.low), int(self.high)]
        return [self.low, self.high, self.low + 0.382 * (self.high - self.low)]


@dataclass(frozen=True)
class Space:
    """Which settings of a recipe are searched, and where.

        {"learning_rate":      {"type": "float", "low": 1e-4, "high": 3e-3, "log": true},
         "arguments.channels": {"type": "int", "low": 16, "high": 48, "step": 8},
         "loss":               {"choices": ["charbonnier", "l1"]}}

    In TOML the same: `learning_rate = {type = "float", low = 1e-4, high = 3e-3, log = true}`;
    [arguments] and [gan] may be tables.
    """

    dimensions: Mapping[str, Dimension]
    source: str = "space"

    @classmethod
    def read(cls, path: Path) -> Space:
        """A space from a .json or .toml file.

        Raises:
            InputError: It cannot be read, or is not JSON or TOML.
            UsageError: It says something else; see `of`.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "not text"
            raise InputError(f"{path}: cannot be read ({why}).") from e
        kinds: dict[str, Callable[[str], Any]] = {
            ".json": lambda text: json.loads(text, object_pairs_hook=_each_once),
            ".toml": tomllib.loads,
        }
        kind = path.suffix.lower()
        if kind not in kinds:
            raise UsageError(f"{path}: a search space is a .json or a .toml file.")
        try:
            content = kinds[kind](text)
        except ValueError as e:
            raise InputError(f"{path}: not {kind[1:].upper()}: {e}.") from e
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Any, source: str = "space") -> Space:
        """A space from what such a file holds.

        Raises:
            UsageError: One line: the file, the setting, and what was expected.
        """
        if not isinstance(content, Mapping) or not content:
            raise UsageError(f"{source}: expected settings by name, each with what it may be.")
        dimensions: dict[str, Dimension] = {}
        for name, spec in _flat(content):
            if name in dimensions:
                raise UsageError(f"{source}: {name}: given twice.")
            if name in NOT_SEARCHED:
                why = NOT_SEARCHED[name]
                raise UsageError(f"{source}: {name}: cannot be searched; it decides {why}.")
            try:
                dimensions[name] = _dimension(spec)
            except ValueError as e:
                raise UsageError(f"{source}: {name}: {e}") from e
        for name in dimensions:
            whole = name.split(".")[0]
            if whole != name and whole in dimensions:
                raise UsageError(f"{source}: {name}: {whole} is searched as a whole already.")
        return cls(dimensions, source)

    def check(
        self, recipe: str, settings: Mapping[str, Any] | None = None, scale: int | None = None
    ) -> None:
        """Try each end and each choice on the recipe, before anything is trained.

        A value that does not go with the recipe's other settings is tried with others of the space.

        Raises:
            UsageError: No such setting, or a value that it cannot have.
        """
        fixed = dict(settings or {})
        draw = random.Random(0)
        for name, dimension in self.dimensions.items():
            if name in fixed:
                raise UsageError(
                    f"{self.source}: {name}: is set to {fixed[name]} and searched; choose one."
                )
            for value in dimension.samples():
                try:
                    build(recipe, {**fixed, name: value}, scale)
                except MissingExtra:
                    raise
                except UsageError as e:
                    if not self._fits(recipe, fixed, scale, {name: value}, draw):
                        why = str(e).removeprefix("--set ").removeprefix(f"{name}: ")
                        told = json.dumps(value)
                        where = name if "no such setting" in why else f"{name}: {told}"
                        raise UsageError(f"{self.source}: {where}: {why}") from e

    def _fits(
        self,
        recipe: str,
        fixed: dict[str, Any],
        scale: int | None,
        one: dict[str, Any],
        draw: random.Random,
    ) -> bool:
        """Does the value go with any of some settings of this space?"""
        for _ in range(20 if len(self.dimensions) > 1 else 0):
            others = {n: draw.choice(d.samples()) for n, d in self.dimensions.items()}
            with contextlib.suppress(UsageError):
                build(recipe, {**fixed, **others, **one}, scale)
                return True
        return False


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is given twice")
    return made


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted name, what it may be): [arguments] and [gan] may be tables of their own."""
    for name, spec in content.items():
        nested = name in ("arguments", "gan") and isinstance(spec, Mapping)
        if nested and spec and all(isinstance(inner, Mapping) for inner in spec.values()):
            for inner, inner_spec in spec.items():
                yield f"{name}.{inner}", inner_spec
        else:
            yield name, spec


def _dimension(spec: Any) -> Dimension:
    """One entry of a space; ValueError says what was expected."""
    if not isinstance(spec, Mapping) or not spec.keys() & {"type", "choices"}:
        raise ValueError(
            'expected {"type": "float" or "int", "low": .., "high": ..} or {"choices": [..]}, '
            f"got {_short(spec)}."
        )
    if "choices" in spec:
        return _choices(spec)
    kind = spec["type"]
    if kind not in ("float", "int"):
        raise ValueError(f'type: expected "float" or "int", got {_short(kind)}.')
    _only(spec, ("type", "low", "high", "log", "step"))
    low, high = (_number(spec, word) for word in ("low", "high"))
    step = _number(spec, "step") if "step" in spec else None
    log = spec.get("log", False)
    if log is not True and log is not False:
        raise ValueError(f"log: expected true or false, got {_short(log)}.")
    if low >= high:
        raise ValueError(f"low: expected less than high, got {low:g} and {high:g}.")
    if log and low <= 0:
        raise ValueError(f"low: expected more than 0 where log is true, got {low:g}.")
    if step is not None:
        if log or step <= 0:
            raise ValueError("step: expected more than 0, and none where log is true.")
        if (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
            raise ValueError(f"high: expected low plus some steps of {step:g}, got {high:g}.")
    return Dimension(kind, low, high, log, step)


def _number(spec: Mapping[str, Any], word: str) -> float:
    whole = spec["type"] == "int"
    expected = f"{word}: expected {'a whole number' if whole else 'a number'}"
    if word not in spec:
        raise ValueError(f"{expected}, and it is missing.")
    value = spec[word]
    fitting = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fitting or not math.isfinite(value):
        raise ValueError(f"{expected}, got {_short(value)}.")
    return int(value) if whole else float(value)


def _choices(spec: Mapping[str, Any]) -> Dimension:
    _only(spec, ("choices",))
    given = spec["choices"]
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise ValueError(f"choices: expected a list of two or more, got {_short(given)}.")
    choices: list[Any] = []
    for value in given:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"choices: expected finite numbers, got {value}.")
        try:
            plain = value is None or isinstance(value, str | int | float)
            choice = value if plain else json.dumps(value)
        except TypeError as e:  # TOML knows dates
            raise ValueError(f"choices: expected values that JSON has, got {value}.") from e
        if choice in choices:  # 1 and true are one to Optuna, too
            raise ValueError(f"choices: expected different values, got {_short(value)} twice.")
        choices.append(choice)
    return Dimension("choice", choices=tuple(choices))


def _only(spec: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for word in spec:
        if word not in known:
            raise ValueError(f"{word}: not known here; expected {', '.join(known)}.")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def build(recipe: str, settings: Mapping[str, Any], scale: int | None) -> TrainConfig:
    """The config of these settings, and a look at whether its network can be built of them.

    Raises:
        UsageError: It cannot, or see `recipes.configure`.
    """
    ordered = dict(sorted(settings.items(), key=lambda item: item[0].count(".")))
    config = recipes.configure(recipe, ordered, scale)
    if any(name.startswith("arguments") or name in ("model", "patch") for name in settings):
        with torch.random.fork_rng(devices=[]):
            train.build_network(config)
    return config


# What is told ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
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
    progress: Progress | None = None
    value: float | None = None
    best: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
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
    tell: Callable[[Update], None] | None = None,
) -> Result:
    """Find the settings of a recipe that gain most over bicubic on the validation clips.

    Args:
        recipe: As `recipes.configure` takes it.
        train_clips, val_clips: As `train.train` takes them.
        trials: Complete and pruned ones that the study shall have in all; failed ones, whose loss
            was no number or whose settings do not go together, are not counted.
        settings: Of all trials. Where neither `save_every` nor `validate_every` is among them,
            every trial is scored five times at least.
        storage: A database's URL, or the file of a journal; out/study.journal by default.
        seed: Of the sampler; the trainings' own is a setting.
        device: As `train.make_fabric` takes it.
        start_from: A checkpoint that each trial begins with.
        data: What the clips are, for MLflow and the model files.
        track: Log each trial in MLflow, where it is installed.
        plots: Draw the study in the end.

    Raises:
        UsageError: The space does not fit the recipe, or the folder holds another search.
        train.TrainingError: Five trials in a row failed; says why the last one did.
        MissingExtra: Optuna is not installed.
        KeyboardInterrupt, Terminated, DiskFullError, ...: Stopped on the way; the same command
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
            start_from=start_from, data=dict(data or {}), track=track and tracking.mlflow_there(),
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
    tell: Callable[[Update], None]

    def __post_init__(self) -> None:
        self._lock = Lock(self.out / "lock")
        with self._lock:
            self._study = open_study(self.out, self.base.recipe, self.storage)
            self._own()
            self._parent = _Parent.of(self.out, self.base.recipe) if self.track else None

    def work(self, plots: bool) -> Result:
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
                raise train.TrainingError(
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
        where = _without_password(self.storage or str(self.out / "study.journal"))
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
            journal.write_atomically(note, json.dumps({"id": identity, "study": self.base.recipe}))
            self._study.set_user_attr("path", str(self.out.resolve()))
            self._study.set_user_attr("begun", json.dumps(now))
            self._study.set_user_attr("folder", identity)
            return
        changed = train.what_differs(json.loads(attrs["begun"]), now)
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
            **json.loads(train.config_text(config)),
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

    def _ask(self) -> tuple[Trial, Lock]:
        """A new trial, or one that is tried again, and the lock that says it is alive."""
        from optuna.samplers import TPESampler

        # What a trial tries depends on the seed, its place and the finished ones alone, whichever
        # process asks and however often the search was stopped.
        place = sum("first" not in t.user_attrs for t in self._all())
        number = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        with _experimental():
            self._study.sampler = TPESampler(seed=number, constant_liar=True)
        trial = self._study.ask({n: d.distribution() for n, d in self._dimensions()})
        folder = self._folder(trial)
        folder.mkdir(exist_ok=True)
        alive = Lock(folder / "lock")
        alive.acquire()
        return trial, alive

    def _retry_dead(self) -> None:
        """Have the trials of killed workers tried again."""
        for trial in self._all():
            if trial.state.name != "RUNNING":
                continue
            folder = self._folder(trial)
            folder.mkdir(exist_ok=True)
            alive = Lock(folder / "lock")
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

    def _run(self, trial: Trial, alive: Lock) -> str:
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
                state, note = TrialState.FAIL, f"{train.first_line(e)}."
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

        def hear(progress: Progress) -> None:
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
            model = train.train(
                config, self.train_clips, self.val_clips, run, tracker=tracker, tell=hear,
                fabric=train.make_fabric(config.precision, self.device), start_from=self.start_from,
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
            raise train.TrainingError("It was never scored.")
        # The model file holds the best weights; it may be the start's, but trials are compared by
        # what their settings made of it.
        judged = [gain for step, gain in scores.items() if step > config.judged_from]
        kept = (run / "best.safetensors").is_file() and judged
        value = max(judged) if kept else scores[max(scores)]
        if not math.isfinite(value):
            raise train.TrainingError(f"Its gain is {value}.")
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

    def _tracker(self, run: Path) -> tracking.Tracker:
        log = tracking.JsonLog(run)
        if self._parent is None:
            return log
        return tracking.Together(log, tracking.Mlflow(run, self.data, parent=self._parent.run_id))

    def _say(
        self,
        trial: Trial,
        state: Any,
        progress: Progress | None = None,
        value: float | None = None,
        note: str = "",
    ) -> None:
        best, finished = _best(self._all()), self._count("COMPLETE", "PRUNED")
        settings, top = dict(trial.params), None if best is None else best.value
        self.tell(
            Update(trial.number, finished, self.trials, state, settings, progress, value, top, note)
        )

    # Results -------------------------------------------------------------------------------

    def _publish(self) -> Result | None:
        """Write what is known: trials.csv, and best.json and its model once a trial is complete."""
        trials = self._all()
        journal.write_atomically(
            self.out / "trials.csv", table(trials, list(self.space.dimensions))
        )
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
            journal.sync(part)
            os.replace(part, model)
            content = {
                "recipe": self.base.recipe,
                "scale": self.base.scale,
                "set": {**self.base.settings, **self._ordered(best)},
                "value": best.value,
                "trial": best.number,
                "run": self._folder(best).name,
            }
            journal.write_atomically(recipe, json.dumps(content, indent=1, default=str))
        states = [_ended(t, trials) for t in trials]
        if self._parent is not None:
            self._parent.log(best.value, states.count("complete") + states.count("pruned"))
        counts = {k: states.count(k) for k in ("complete", "pruned", "failed")}
        return Result(best.number, best.value, self._ordered(best), recipe, model, counts)

    def _ordered(self, trial: FrozenTrial) -> dict[str, Any]:
        return {name: trial.params[name] for name in self.space.dimensions}


def _is_of_the_settings(error: BaseException) -> bool:
    """May another trial do better?"""
    kinds = (train.TrainingError, UsageError, DeviceError, torch.cuda.OutOfMemoryError)
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


# Optuna's storage ------------------------------------------------------------------------------


@contextlib.contextmanager
def _experimental() -> Iterator[None]:
    """Optuna says of some of its parts that they may change; not here."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_study(out: Path, recipe: str, storage: str | None = None) -> Study:
    """The study of a search, begun or found.

    Raises:
        UsageError: Optuna cannot use the storage.
    """
    import optuna

    where = storage or str(out / "study.journal")
    kept: str | BaseStorage
    try:
        with _experimental():
            kept = where if "://" in where else _journal(Path(where))
            return optuna.create_study(
                storage=kept,
                study_name=recipe,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
                load_if_exists=True,
            )
    except Exception as e:
        why = _without_password(train.first_line(e))
        raise UsageError(
            f"{_without_password(where)}: no storage for a study ({type(e).__name__}: {why})."
        ) from e


def _journal(path: Path) -> BaseStorage:
    """A journal file as a storage. What a power cut left of its last line is cut off: Optuna would
    append to it, and read nothing after."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = Lock(path.with_name(path.name + ".lock"))
    with lock, path.open("a+b") as file:
        file.seek(0)
        whole = file.read()
        if not whole.endswith(b"\n"):
            file.truncate(whole.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _without_password(url: str | None) -> str:
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", url or "")


# MLflow ----------------------------------------------------------------------------------------


@dataclass
class _Parent:
    """The MLflow run that all trials' runs are part of: one for each study."""

    client: Any
    run_id: str | None

    @classmethod
    def of(cls, out: Path, recipe: str) -> _Parent:
        parent = cls(None, None)
        with tracking.quietly():
            from mlflow import MlflowClient

            uri = tracking.default_uri(out / "trial")  # the trials' own
            parent.client = MlflowClient(uri)
            note = out / "mlflow.json"
            known = json.loads(note.read_text()) if note.is_file() else {}
            if known.get("uri") == uri:
                parent.run_id = known["run_id"]
                parent.client.update_run(parent.run_id, "RUNNING")
                return parent
            number = tracking.experiment_of(parent.client, out)
            tags = {"mlflow.runName": f"tune {recipe}", "recipe": recipe}
            parent.run_id = parent.client.create_run(number, tags=tags).info.run_id
            journal.write_atomically(note, json.dumps({"uri": uri, "run_id": parent.run_id}))
        return parent

    def log(self, best: float, finished: int) -> None:
        if self.run_id is not None:
            with tracking.quietly():
                self.client.log_metric(self.run_id, "best_gain_db", best, step=finished)

    def end(self, status: str) -> None:
        if self.run_id is not None:
            with tracking.quietly():
                self.client.set_terminated(self.run_id, status)

    def keep(self, out: Path) -> None:
        if self.run_id is not None:
            with tracking.quietly():
                for path in (out / "best.json", out / "trials.csv", *(out / "plots").glob("*.png")):
                    self.client.log_artifact(self.run_id, str(path))


# Plots -----------------------------------------------------------------------------------------

GAIN = "Gain over bicubic (dB)"
PLOTS = {
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "parallel": "plot_parallel_coordinate",
    "slice": "plot_slice",
}


def draw(study: Study, out: Path) -> list[Path]:
    """Draw a study: out/plots/*.png, and out/plots.html, which needs no network.

    What cannot be drawn is said in a warning: it is not worth losing a search for.

    Returns:
        The files.
    """
    names = _drawable(study)
    made = []
    for draw_them in (_draw_png, _draw_html):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Matplotlib and Optuna about their own plots
                made += draw_them(study, out, names)
        except Exception as e:
            warnings.warn(
                f"Not drawn: {type(e).__name__}: {train.first_line(e)}",
                RuntimeWarning,
                stacklevel=2,
            )
    return made


def _draw_png(study: Study, out: Path, names: Mapping[str, str]) -> list[Path]:
    import matplotlib

    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    made = []
    (out / "plots").mkdir(exist_ok=True)
    open_before = pyplot.get_fignums()
    try:
        for name, function in names.items():
            with pyplot.rc_context():  # Optuna sets a style for all plots to come
                getattr(plots, function)(study, target_name=GAIN)
                path = out / "plots" / f"{name}.png"
                part = path.with_suffix(".part")
                pyplot.gcf().savefig(part, format="png", dpi=120, bbox_inches="tight")
                os.replace(part, path)
                made.append(path)
    finally:
        for number in pyplot.get_fignums():
            if number not in open_before:
                pyplot.close(number)
        matplotlib.use(before)
    return made


def figures(study: Study, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What Optuna draws of a study, as Plotly figures by the names of `PLOTS`.

    Args:
        names: Which; by default all that can be drawn of what is finished.
    """
    from optuna import visualization

    chosen = _drawable(study) if names is None else names
    return {n: getattr(visualization, f)(study, target_name=GAIN) for n, f in chosen.items()}


def _drawable(study: Study) -> dict[str, str]:
    """Importances need four complete trials whose values differ."""
    values = [t.value for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    telling = len(values) >= 4 and len(set(values)) > 1
    return {n: f for n, f in PLOTS.items() if n != "importances" or telling}


def _draw_html(study: Study, out: Path, names: Mapping[str, str]) -> list[Path]:
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=name == "history")
        for name, figure in figures(study, names).items()
    ]
    path = out / "plots.html"
    title = f"<title>{study.study_name}: trials</title>"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}</head><body>'
    journal.write_atomically(path, "\n".join([head, *parts, "</body></html>"]))
    return [path]
