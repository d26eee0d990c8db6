"""Where a training's numbers go: logs of JSON lines always, MLflow where it is installed.

    log.jsonl       a line for each save: means since the last one, and the score
    batches.jsonl   a line for each training batch and each validation clip, as they are done
    validation.png  bicubic, network and truth side by side, of the last validation

MLflow's store is a SQLite file and a folder of artifacts beside the run folders unless
$MLFLOW_TRACKING_URI says otherwise. A run that goes on is one run there: its id lies in the run
folder. A training never fails because its tracker does; what it could not log is said once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sharpreel.errors import MissingExtra, write_error
from sharpreel.media import images

if TYPE_CHECKING:
    from sharpreel.evaluation.validation import Score
    from sharpreel.training.config import TrainConfig
    from sharpreel.training.trainer import Trainer, TrainProgress

EXPERIMENT = "sharpreel"
BATCH_EVERY = 10  # steps whose numbers are one point of a curve
MOST_LINES = 2000  # of batches.jsonl: a long training's are means of several steps,
LINE_SECONDS = 5.0  # but of no more than it does in this time


class Tracker(Protocol):
    """What a training tells, as it goes."""

    def begin(self, config: TrainConfig, step: int) -> None:
        """It starts, or goes on, at this step."""

    def step(self, step: int, terms: dict[str, float]) -> None:
        """One step is done; the terms of its loss."""

    def line(self, progress: TrainProgress) -> None:
        """So many steps are saved."""

    def scored(self, step: int, number: int, count: int, score: Score) -> None:
        """One validation clip is scored, the `number`-th of `count`."""

    def validated(self, training: Trainer, step: int) -> None:
        """All are."""

    def finished(self, path: Path, card: dict[str, Any]) -> None:
        """The model file is written."""

    def close(self, status: str = "FINISHED") -> None:
        """Nothing more comes; "FINISHED", "KILLED" or "FAILED"."""


class NullTracker:
    """Tells nobody."""

    def begin(self, config: TrainConfig, step: int) -> None: ...
    def step(self, step: int, terms: dict[str, float]) -> None: ...
    def line(self, progress: TrainProgress) -> None: ...
    def scored(self, step: int, number: int, count: int, score: Score) -> None: ...
    def validated(self, training: Trainer, step: int) -> None: ...
    def finished(self, path: Path, card: dict[str, Any]) -> None: ...
    def close(self, status: str = "FINISHED") -> None: ...


class JsonlTracker(NullTracker):
    """The run folder's own: `log.jsonl`, `batches.jsonl` and `validation.png`.

    A line of `batches.jsonl` has `step`, `time` (seconds since 1970), `psnr`, `ssim`, `loss` and,
    with `bicubic_` before, the same of bicubic; those of a training batch `steps`, how many they
    are the mean of, and those of a validation clip `clip`, `number` and `of`. A training that was
    killed and goes on writes the steps after its last save once more.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._seen: list[dict[str, float]] = []
        self._every, self._told, self._step = 1, 0.0, 0

    def begin(self, config: TrainConfig, step: int) -> None:
        self._every, self._told = max(config.steps // MOST_LINES, 1), time.monotonic()

    def step(self, step: int, terms: dict[str, float]) -> None:
        self._seen.append(terms)
        self._step = step
        if len(self._seen) >= self._every or time.monotonic() - self._told >= LINE_SECONDS:
            self._write_batches()

    def line(self, progress: TrainProgress) -> None:
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

    def validated(self, training: Trainer, step: int) -> None:
        frame_image(training, step)

    def _write_batches(self) -> None:
        if self._seen:
            names = dict.fromkeys(name for terms in self._seen for name in terms)
            means = {n: float(np.mean([t[n] for t in self._seen if n in t])) for n in names}
            fields = {"step": self._step, "time": time.time(), "steps": len(self._seen), **means}
            self._write("batches.jsonl", fields)
        self._seen, self._told = [], time.monotonic()

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        path = self._run / name
        try:
            with path.open("a") as file:
                file.write(json.dumps({k: _round(v) for k, v in fields.items()}) + "\n")
        except OSError as e:
            raise write_error(path, e) from e


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _round(v) for k, v in value.items()}
    if isinstance(value, float):
        digits = 13 if value > 1e9 else 6  # seconds since 1970, to the millisecond
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


class MultiTracker(NullTracker):
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self._all = trackers

    def begin(self, config: TrainConfig, step: int) -> None:
        for one in self._all:
            one.begin(config, step)

    def step(self, step: int, terms: dict[str, float]) -> None:
        for one in self._all:
            one.step(step, terms)

    def line(self, progress: TrainProgress) -> None:
        for one in self._all:
            one.line(progress)

    def scored(self, step: int, number: int, count: int, score: Score) -> None:
        for one in self._all:
            one.scored(step, number, count, score)

    def validated(self, training: Trainer, step: int) -> None:
        for one in self._all:
            one.validated(training, step)

    def finished(self, path: Path, card: dict[str, Any]) -> None:
        for one in self._all:
            one.finished(path, card)

    def close(self, status: str = "FINISHED") -> None:
        for one in self._all:
            one.close(status)


def mlflow_there() -> bool:
    return importlib.util.find_spec("mlflow") is not None


def default_uri(run: Path) -> str:
    """$MLFLOW_TRACKING_URI, else a SQLite file beside the run folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.parent.resolve()}/mlflow.db"


def experiment_of(client: Any, folder: Path) -> str:
    """The number of our experiment, begun where it is not there.

    Args:
        folder: Holds the artifacts, unless $MLFLOW_TRACKING_URI sends runs elsewhere.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        local = (folder.resolve() / "mlartifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=local))


class MlflowTracker(NullTracker):
    """One MLflow run: parameters, curves, a picture before and after, checkpoints, the model.

    Args:
        run: The run folder.
        data: What it learns from, as parameters: name -> value.
        parent: The MLflow run that this one is part of (in tuning): no model is registered then.

    Raises:
        MissingExtra: MLflow is not installed.
    """

    def __init__(
        self, run: Path, data: dict[str, Any] | None = None, parent: str | None = None
    ) -> None:
        if not mlflow_there():
            raise MissingExtra("Tracking by MLflow", "train")
        self._run, self._data, self._parent = run, data or {}, parent
        self._waiting: list[dict[str, float]] = []
        self._id = ""
        self._client: Any = None
        self._last: TrainProgress | None = None

    def begin(self, config: TrainConfig, step: int) -> None:
        with quietly():
            self._begin(config)

    def _begin(self, config: TrainConfig) -> None:
        from mlflow import MlflowClient

        uri = default_uri(self._run)
        self._client = MlflowClient(uri)
        note = self._run / "mlflow.json"
        if note.is_file():
            known = json.loads(note.read_text())
            if known["uri"] == uri:
                self._id = known["run_id"]
                self._client.update_run(self._id, "RUNNING")
                return
        number = experiment_of(self._client, self._run.parent)
        tags = {"mlflow.runName": self._run.name, "recipe": config.name}
        if self._parent:
            tags["mlflow.parentRunId"] = self._parent
        self._id = self._client.create_run(number, tags=tags).info.run_id
        note.write_text(json.dumps({"uri": uri, "run_id": self._id}))
        for name, value in (flat(dataclasses.asdict(config)) | self._data).items():
            self._client.log_param(self._id, name, value)

    def _log(self, name: str, value: float | None, step: int) -> None:
        if value is not None and math.isfinite(value):
            self._client.log_metric(self._id, name, value, step=step)

    def step(self, step: int, terms: dict[str, float]) -> None:
        self._waiting.append(terms)
        if len(self._waiting) >= BATCH_EVERY:
            with quietly():
                for name in self._waiting[-1]:
                    values = [t[name] for t in self._waiting if name in t]
                    self._log(f"batch_{name}", float(np.mean(values)), step)
            self._waiting = []

    def line(self, progress: TrainProgress) -> None:
        with quietly():
            self._log("train_loss", progress.loss, progress.step)
            for name, value in progress.terms.items():
                self._log(f"train_{name}", value, progress.step)
            self._log("val_psnr", progress.psnr, progress.step)
            self._log("val_gain_db", progress.gain_db, progress.step)
            self._log("seconds_per_step", progress.seconds_per_step, progress.step)

    def validated(self, training: Trainer, step: int) -> None:
        with quietly():
            picture = frame_image(training, step)
            if picture is not None:
                path = picture.with_name(f"validation-{step:07d}.png")
                shutil.copyfile(picture, path)
                self._client.log_artifact(self._id, str(path), "pictures")
                path.unlink()
            best = self._run / "best.safetensors"
            if best.is_file():
                self._client.log_artifact(self._id, str(best), f"checkpoints/{step:07d}")

    def finished(self, path: Path, card: dict[str, Any]) -> None:
        with quietly():
            self._client.log_artifact(self._id, str(path), "model")
            if self._parent is None:
                self._register(path)
            gain = card.get("val_psnr_y", {}).get("gain_db")
            self._log("final_gain_db", gain, int(card.get("steps", 0)))

    def _register(self, path: Path) -> None:
        """A new version of the model of this name."""
        name = f"sharpreel-{path.stem}"
        with contextlib.suppress(Exception):  # there already
            self._client.create_registered_model(name)
        source = f"{self._client.get_run(self._id).info.artifact_uri}/model/{path.name}"
        self._client.create_model_version(name, source, self._id)

    def close(self, status: str = "FINISHED") -> None:
        if self._id:
            with quietly():
                self._client.set_terminated(self._id, status)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """A tracker that fails is a warning, not the end of a training; its own remarks are kept."""
    import logging

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MissingExtra:
        raise
    except Exception as e:
        first = str(e).strip().splitlines()
        warnings.warn(
            f"MLflow did not take this: {type(e).__name__}: {first[0] if first else ''}",
            RuntimeWarning,
            stacklevel=3,
        )


def flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings with dotted names: {"gan": {"tv": 1}} -> {"gan.tv": 1}."""
    made: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            made |= flat(value, f"{before}{name}.")
        else:
            made[before + name] = value
    return made


def frame_image(training: Trainer, step: int) -> Path | None:
    """`validation.png` of a training, made once for each step; None for tasks that have none."""
    path = training.run / "validation.png"
    if training.pictured != step:
        picture = before_and_after(training)
        if picture is None:
            return None
        part = path.with_suffix(".part")
        images.write_png(part, picture)
        os.replace(part, path)
        training.pictured = step
    return path


def before_and_after(training: Trainer) -> Any:
    """The first validation clip's second frame: bicubic, the network's, the truth, side by side."""
    from sharpreel import ops
    from sharpreel.data.sampling import middle
    from sharpreel.data.store import Clip
    from sharpreel.upscale import upscale_frames

    c = training.config
    if not training.val_clips or not isinstance(training.val_clips[0], Clip):
        return None
    clip = middle(training.val_clips[0], c.scale, 3, c.validate_patch or 160)
    *_, sr = upscale_frames(list(clip.lr), engine=training.engine())
    hr = clip.hr[-1]
    return np.concatenate([ops.resize(clip.lr[-1], *hr.shape[:2]), sr, hr], axis=1)
