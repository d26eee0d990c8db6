"""Runs: what MLflow knows, in a table with filters; chosen ones side by side; MLflow's own page."""

from __future__ import annotations

import ast
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from sharpreel.errors import MissingExtra
from sharpreel.studio import charts, jobs, widgets
from sharpreel.studio.jobs import Job
from sharpreel.studio.progress import Point
from sharpreel.training import trackers

MOST_RUNS = 1000  # that are asked for, the newest first
SHOWN = ("model", "scale", "degradation", "loss", "optimizer", "learning_rate", "steps", "patch")
METRICS = {"val_gain_db": "gain, dB", "val_psnr": "PSNR, dB", "train_loss": "training loss"}


@dataclass(frozen=True)
class Run:
    """One run of MLflow."""

    number: str
    name: str
    recipe: str
    status: str
    began: datetime
    minutes: float | None
    params: dict[str, str]
    metrics: dict[str, float]

    @property
    def title(self) -> str:
        return f"{self.name} ({self.number[:6]})"

    def row(self) -> dict[str, Any]:
        """Of the table."""
        made = {"run": self.title, "recipe": self.recipe, "status": self.status.lower(),
                "began": self.began, "minutes": self.minutes}  # fmt: skip
        made |= {title: self.metrics.get(key) for key, title in METRICS.items()}
        return made | {name: self.params.get(name) for name in SHOWN}


def store_uri() -> str:
    """Where the studio's runs are tracked."""
    return trackers.default_uri(jobs.home() / jobs.RUNS / "run")


def prepare_store() -> None:
    """Begin our experiment, so that its artifacts lie beside the runs, whoever logs first."""
    if os.environ.get("MLFLOW_TRACKING_URI") or not trackers.mlflow_there():
        return
    with trackers.quietly():
        from mlflow import MlflowClient

        runs = jobs.home() / jobs.RUNS
        runs.mkdir(parents=True, exist_ok=True)
        trackers.experiment_of(MlflowClient(store_uri()), runs)


def show() -> None:
    st.title("Runs")
    with widgets.errors_shown():
        _mlflow_page()
        runs = read_runs()
        if not runs:
            st.info("No run yet. Each training and each trial of a search becomes one.")
            return
        shown = filtered(runs)
        st.dataframe([run.row() for run in shown], hide_index=True, column_config={
            "began": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
            **{title: st.column_config.NumberColumn(format="%.4f") for title in METRICS.values()},
            "minutes": st.column_config.NumberColumn(format="%.1f"),
        })  # fmt: skip
        st.caption(f"{len(shown)} of {len(runs)} runs")
        _compare(shown)


def read_runs() -> list[Run]:
    """All runs of our experiment, the newest first.

    Raises:
        MissingExtra: MLflow is not installed.
    """
    if not trackers.mlflow_there():
        raise MissingExtra("The list of runs (MLflow)", "studio")
    uri = store_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(trackers.EXPERIMENT)
    if experiment is None:
        return []
    found = client.search_runs(
        [experiment.experiment_id], max_results=MOST_RUNS, order_by=["attributes.start_time DESC"]
    )
    return [_run(one) for one in found]


def _run(one: Any) -> Run:
    info, data = one.info, one.data
    minutes = None if info.end_time is None else (info.end_time - info.start_time) / 60_000
    return Run(
        number=info.run_id,
        name=data.tags.get("mlflow.runName", info.run_id[:8]),
        recipe=data.tags.get("recipe", ""),
        status=info.status,
        began=datetime.fromtimestamp(info.start_time / 1000),
        minutes=minutes,
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def filtered(runs: Sequence[Run]) -> list[Run]:
    """The runs that the filters leave."""
    one, two, three, four = st.columns(4)
    text = one.text_input("Name or setting holds", key="runs-text").strip().lower()
    recipes = two.multiselect("Recipe", sorted({r.recipe for r in runs}), key="runs-recipe")
    states = three.multiselect("Status", sorted({r.status for r in runs}), key="runs-status")
    least = four.number_input("Gain of at least, dB", value=None, key="runs-gain")
    return [
        run
        for run in runs
        if (not text or text in run.name.lower() or text in " ".join(run.params.values()).lower())
        and (not recipes or run.recipe in recipes)
        and (not states or run.status in states)
        and (least is None or run.metrics.get("val_gain_db", -math.inf) >= least)
    ]


def _compare(runs: Sequence[Run]) -> None:
    by_title = {run.title: run for run in runs}
    chosen = st.multiselect("Compare", list(by_title), key="runs-chosen", max_selections=6)
    if not chosen:
        return
    picked = [by_title[title] for title in chosen]
    widths = {title: st.column_config.Column(width="medium") for title in chosen}
    st.dataframe(differing(picked), hide_index=True, column_config=widths)
    curves = histories(picked)
    for column, (key, title) in zip(st.columns(len(METRICS)), METRICS.items(), strict=True):
        with column:
            st.caption(title)
            spec = charts.chart(curves[key], "step", 280, chosen)
            st.vega_lite_chart(spec, key=f"runs {key}")


def differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Rows of what differs between runs (of one run: all of it), a column for each."""
    names = sorted({name for run in runs for name in run.params} - {"sha256"})
    rows = [(name, [in_words(run.params.get(name, "")) for run in runs]) for name in names]
    rows = [(name, values) for name, values in rows if len(runs) == 1 or len(set(values)) > 1]
    for key, title in METRICS.items():
        numbers = [run.metrics.get(key) for run in runs]
        rows.append((title, ["" if n is None else f"{n:.5g}" for n in numbers]))
    return [
        {"setting": name, **dict(zip((run.title for run in runs), values, strict=True))}
        for name, values in rows
    ]


def in_words(value: str) -> str:
    """A parameter as a person reads it; MLflow keeps lists and settings as Python prints them."""
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


def histories(runs: Sequence[Run]) -> dict[str, list[Point]]:
    """The curves of each metric."""
    from mlflow import MlflowClient

    client = MlflowClient(store_uri())
    return {
        key: [
            Point(point.step, point.value, run.title)
            for run in runs
            for point in client.get_metric_history(run.number, key)
        ]
        for key in METRICS
    }


# MLflow's own page ---------------------------------------------------------------------------


def _mlflow_page() -> None:
    job = jobs.mlflow_job(jobs.home())
    running = job.running()
    if not running:
        if st.button("Start MLflow's own page", key="runs-mlflow"):
            prepare_store()
            port = free_port()
            words = ["ui", "--backend-store-uri", store_uri(), "--host", "127.0.0.1",
                     "--port", str(port), "--workers", "1"]  # fmt: skip
            job.start(words, {"port": port}, program="mlflow")
            st.rerun()
        return
    widgets.live(job, lambda: _link(job), running)


def _link(job: Job) -> None:
    port = int(job.facts().get("about", {}).get("port", 0))
    if answers(port):
        st.link_button("Open MLflow's own page", f"http://127.0.0.1:{port}")
    else:
        st.caption("MLflow's page is starting.")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0
