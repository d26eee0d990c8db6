"""Runs: MLflow's runs in a table with filters, chosen ones side by side, and MLflow's own UI."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence

import streamlit as st

from sharpreel.studio import charts, widgets
from sharpreel.studio.folder import mlflow_job, studio_folder
from sharpreel.studio.jobs import Job
from sharpreel.studio.mlflow_runs import (
    METRICS,
    MlflowRun,
    differences,
    histories,
    prepare_store,
    read_runs,
    store_uri,
)


def show() -> None:
    st.title("Runs")
    with widgets.errors_shown():
        _mlflow_ui()
        runs = read_runs()
        if not runs:
            st.info("No runs yet. Each training run and each trial of a search becomes one.")
            return
        shown = filtered(runs)
        number = st.column_config.NumberColumn
        columns = {title: number(format="%.4f") for title in METRICS.values()}
        columns["minutes"] = number(format="%.1f")
        columns["began"] = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")
        st.dataframe([run.row() for run in shown], hide_index=True, column_config=columns)
        st.caption(f"{len(shown)} of {len(runs)} runs")
        _compare(shown)


def filtered(runs: Sequence[MlflowRun]) -> list[MlflowRun]:
    """Show the filters; return the runs that pass them."""
    one, two, three, four = st.columns(4)
    text = one.text_input("Name or setting contains", key="runs-text").strip().lower()
    recipes = two.multiselect("Recipe", sorted({r.recipe for r in runs}), key="runs-recipe")
    states = three.multiselect("Status", sorted({r.status for r in runs}), key="runs-status")
    least = four.number_input("Gain at least, dB", value=None, key="runs-gain")
    gain = -math.inf if least is None else least
    return [
        run
        for run in runs
        if _contains(run, text)
        and (not recipes or run.recipe in recipes)
        and (not states or run.status in states)
        and (least is None or run.metrics.get("val_gain_db", -math.inf) >= gain)
    ]


def _contains(run: MlflowRun, text: str) -> bool:
    return text in run.name.lower() or text in " ".join(run.params.values()).lower()


def _compare(runs: Sequence[MlflowRun]) -> None:
    by_title = {run.title: run for run in runs}
    chosen = st.multiselect("Compare", list(by_title), key="runs-chosen", max_selections=6)
    if not chosen:
        return
    picked = [by_title[title] for title in chosen]
    widths = {title: st.column_config.Column(width="medium") for title in chosen}
    st.dataframe(differences(picked), hide_index=True, column_config=widths)
    curves = histories(picked)
    for column, (key, title) in zip(st.columns(len(METRICS)), METRICS.items(), strict=True):
        with column:
            st.caption(title)
            spec = charts.chart(curves[key], "step", 280, chosen)
            st.vega_lite_chart(spec, key=f"runs {key}")


def _mlflow_ui() -> None:
    """Show a button that starts MLflow's UI, or a link to it."""
    job = mlflow_job(studio_folder())
    running = job.running()
    if running:
        widgets.live(job, lambda: _link(job), running)
    elif st.button("Start the MLflow UI", key="runs-mlflow"):
        prepare_store()
        port = free_port()
        arguments = [
            *("ui", "--backend-store-uri", store_uri()),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ]
        job.start(arguments, {"port": port}, program="mlflow")
        st.rerun()


def _link(job: Job) -> None:
    port = int(job.facts().get("about", {}).get("port", 0))
    if accepts_connections(port):
        st.link_button("Open the MLflow UI", f"http://127.0.0.1:{port}")
    else:
        st.caption("The MLflow UI is starting.")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def accepts_connections(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0
