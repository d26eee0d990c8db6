"""The studio's runs in MLflow: read them, compare their parameters and curves."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sharpreel.errors import MissingExtra
from sharpreel.studio.curves import Point
from sharpreel.studio.folder import RUNS, studio_folder
from sharpreel.training.mlflow_tracker import (
    EXPERIMENT,
    failures_as_warnings,
    mlflow_installed,
    open_experiment,
    tracking_uri,
)

MAX_RUNS = 1000  # the newest ones
PARAMETERS = (
    *("model", "scale", "degradation", "loss", "optimizer"),
    *("learning_rate", "steps", "patch"),
)
METRICS = {"val_gain_db": "gain, dB", "val_psnr": "PSNR, dB", "train_loss": "training loss"}


@dataclass(frozen=True)
class MlflowRun:
    """One run of MLflow."""

    run_id: str
    name: str
    recipe: str
    status: str
    began: datetime
    minutes: float | None
    params: dict[str, str]
    metrics: dict[str, float]

    @property
    def title(self) -> str:
        return f"{self.name} ({self.run_id[:6]})"

    def row(self) -> dict[str, Any]:
        """Return the run as a row of the table."""
        return {
            "run": self.title,
            "recipe": self.recipe,
            "status": self.status.lower(),
            "began": self.began,
            "minutes": self.minutes,
            **{title: self.metrics.get(key) for key, title in METRICS.items()},
            **{name: self.params.get(name) for name in PARAMETERS},
        }


def store_uri() -> str:
    """Return the tracking URI of the studio's runs."""
    return tracking_uri(studio_folder() / RUNS / "run")


def prepare_store() -> None:
    """Create the experiment first, so that its artifacts are next to the runs, whoever logs."""
    if os.environ.get("MLFLOW_TRACKING_URI") or not mlflow_installed():
        return
    with failures_as_warnings():
        from mlflow import MlflowClient

        runs = studio_folder() / RUNS
        runs.mkdir(parents=True, exist_ok=True)
        open_experiment(MlflowClient(store_uri()), runs)


def read_runs() -> list[MlflowRun]:
    """Return all runs of the experiment, newest first.

    Raises:
        MissingExtra: MLflow is not installed.
    """
    if not mlflow_installed():
        raise MissingExtra("The list of runs (MLflow)", "studio")
    uri = store_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    runs = client.search_runs(
        [experiment.experiment_id], max_results=MAX_RUNS, order_by=["attributes.start_time DESC"]
    )
    return [_run(run) for run in runs]


def _run(run: Any) -> MlflowRun:
    info, data = run.info, run.data
    minutes = None if info.end_time is None else (info.end_time - info.start_time) / 60_000
    return MlflowRun(
        run_id=info.run_id,
        name=data.tags.get("mlflow.runName", info.run_id[:8]),
        recipe=data.tags.get("recipe", ""),
        status=info.status,
        began=datetime.fromtimestamp(info.start_time / 1000),
        minutes=minutes,
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def differences(runs: Sequence[MlflowRun]) -> list[dict[str, str]]:
    """Return a row per parameter that differs, and per metric, with a column for each run.

    Of a single run all parameters are returned.
    """
    names = sorted({name for run in runs for name in run.params} - {"sha256"})
    rows = {name: [readable(run.params.get(name, "")) for run in runs] for name in names}
    rows = {n: values for n, values in rows.items() if len(runs) == 1 or len(set(values)) > 1}
    for key, title in METRICS.items():
        rows[title] = [f"{run.metrics[key]:.5g}" if key in run.metrics else "" for run in runs]
    titles = [run.title for run in runs]
    return [
        {"setting": name, **dict(zip(titles, values, strict=True))} for name, values in rows.items()
    ]


def readable(value: str) -> str:
    """Return a parameter as readable text; MLflow has lists and dicts as Python prints them."""
    if value[:1] not in "([{":
        return value
    try:
        content = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return _listed(content)


def _listed(content: Any) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{name} {_listed(one)}" for name, one in content.items())
    if isinstance(content, (list, tuple)):
        return "; ".join(map(_listed, content))
    return str(content)


def histories(runs: Sequence[MlflowRun]) -> dict[str, list[Point]]:
    """Return the curves of each metric, one line per run."""
    from mlflow import MlflowClient

    client = MlflowClient(store_uri())
    return {
        key: [
            Point(point.step, point.value, run.title)
            for run in runs
            for point in client.get_metric_history(run.run_id, key)
        ]
        for key in METRICS
    }
