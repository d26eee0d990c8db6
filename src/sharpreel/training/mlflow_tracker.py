"""MLflow: parameters, curves, images, checkpoints and models of training runs.

MLflow's store is a SQLite file and a folder of artifacts next to the run folders, unless
$MLFLOW_TRACKING_URI names another. A resumed run stays one run there: its id is in the run
folder. A failing tracker never stops a training run; it causes a warning.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sharpreel.errors import MissingExtra
from sharpreel.media import images
from sharpreel.training.config import TrainConfig
from sharpreel.training.progress import TrainProgress, mean_terms
from sharpreel.training.trackers import NullTracker, Status, Validation

EXPERIMENT = "sharpreel"
BATCH_EVERY = 10  # steps that are averaged to one point of a curve


class MlflowTracker(NullTracker):
    """Logs one MLflow run.

    Args:
        run: The run folder.
        data: Facts about the training data, logged as parameters.
        parent: The MLflow run that this one is part of (when tuning); then no model is registered.

    Raises:
        MissingExtra: MLflow is not installed.
    """

    def __init__(
        self, run: Path, data: dict[str, Any] | None = None, parent: str | None = None
    ) -> None:
        if not mlflow_installed():
            raise MissingExtra("Tracking by MLflow", "train")
        self._run, self._data, self._parent = run, data or {}, parent
        self._pending: list[dict[str, float]] = []
        self._id = ""
        self._client: Any = None

    def begin(self, config: TrainConfig, step: int) -> None:
        with failures_as_warnings():
            self._begin(config)

    def _begin(self, config: TrainConfig) -> None:
        from mlflow import MlflowClient

        uri = tracking_uri(self._run)
        self._client = MlflowClient(uri)
        id_file = self._run / "mlflow.json"
        if id_file.is_file():
            known = json.loads(id_file.read_text())
            if known["uri"] == uri:
                self._id = known["run_id"]
                self._client.update_run(self._id, "RUNNING")
                return
        experiment = open_experiment(self._client, self._run.parent)
        tags = {"mlflow.runName": self._run.name, "recipe": config.name}
        if self._parent:
            tags["mlflow.parentRunId"] = self._parent
        self._id = self._client.create_run(experiment, tags=tags).info.run_id
        id_file.write_text(json.dumps({"uri": uri, "run_id": self._id}))
        for name, value in (with_dotted_names(dataclasses.asdict(config)) | self._data).items():
            self._client.log_param(self._id, name, value)

    def _log(self, name: str, value: float | None, step: int) -> None:
        if value is not None and math.isfinite(value):
            self._client.log_metric(self._id, name, value, step=step)

    def step(self, step: int, terms: dict[str, float]) -> None:
        self._pending.append(terms)
        if len(self._pending) >= BATCH_EVERY:
            with failures_as_warnings():
                means = mean_terms(self._pending)
                for name in terms:
                    self._log(f"batch_{name}", means[name], step)
            self._pending = []

    def progress(self, progress: TrainProgress) -> None:
        with failures_as_warnings():
            self._log("train_loss", progress.loss, progress.step)
            for name, value in progress.terms.items():
                self._log(f"train_{name}", value, progress.step)
            self._log("val_psnr", progress.psnr, progress.step)
            self._log("val_gain_db", progress.gain_db, progress.step)
            self._log("seconds_per_step", progress.seconds_per_step, progress.step)

    def validated(self, validation: Validation) -> None:
        with failures_as_warnings():
            if validation.image is not None:
                path = self._run / f"validation-{validation.step:07d}.png"
                images.write_png(path, validation.image)
                self._client.log_artifact(self._id, str(path), "pictures")
                path.unlink()
            if validation.best is not None:
                folder = f"checkpoints/{validation.step:07d}"
                self._client.log_artifact(self._id, str(validation.best), folder)

    def finished(self, path: Path, card: dict[str, Any]) -> None:
        with failures_as_warnings():
            self._client.log_artifact(self._id, str(path), "model")
            if self._parent is None:
                self._register(path)
            gain = card.get("val_psnr_y", {}).get("gain_db")
            self._log("final_gain_db", gain, int(card.get("steps", 0)))

    def _register(self, path: Path) -> None:
        """Add a version to the registered model of this name."""
        name = f"sharpreel-{path.stem}"
        with contextlib.suppress(Exception):  # it exists
            self._client.create_registered_model(name)
        source = f"{self._client.get_run(self._id).info.artifact_uri}/model/{path.name}"
        self._client.create_model_version(name, source, self._id)

    def close(self, status: Status = "FINISHED") -> None:
        if self._id:
            with failures_as_warnings():
                self._client.set_terminated(self._id, status)


def mlflow_installed() -> bool:
    return importlib.util.find_spec("mlflow") is not None


def tracking_uri(run: Path) -> str:
    """Return $MLFLOW_TRACKING_URI, or the URI of a SQLite file next to the run folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.parent.resolve()}/mlflow.db"


def open_experiment(client: Any, folder: Path) -> str:
    """Return the id of sharpreel's experiment, which is created if it does not exist.

    Args:
        folder: Gets the artifacts, unless $MLFLOW_TRACKING_URI names another store.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        local = (folder.resolve() / "mlartifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=local))


@contextlib.contextmanager
def failures_as_warnings() -> Iterator[None]:
    """Turn errors of MLflow inside into a warning, and silence MLflow's own messages."""
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
            f"Logging to MLflow failed: {type(e).__name__}: {first[0] if first else ''}",
            RuntimeWarning,
            stacklevel=3,
        )


def with_dotted_names(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: {"gan": {"tv": 1}} -> {"gan.tv": 1}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= with_dotted_names(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
