"""Train: start a training run, watch it, stop and resume it."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from sharpreel.errors import InputError
from sharpreel.media import images
from sharpreel.studio import charts, curves, progress, train_form, widgets
from sharpreel.studio.folder import RUNS
from sharpreel.studio.jobs import Job


def show() -> None:
    st.title("Train")
    widgets.form_or_job("train", RUNS, "New training run", train_form.form, _watch)


def _watch(job: Job) -> None:
    resume = ("--resume",) if (job.folder / "last.pt").is_file() else ()
    outcome = widgets.job_controls(job, "train", resume)
    if outcome.state == "finished":
        _show_model(job)
    widgets.live(job, lambda: _show_progress(job), outcome.state == "running")


def _show_model(job: Job) -> None:
    event = next((e for e in reversed(job.events()) if e["event"] == "trained"), None)
    if event is None:
        return
    path = Path(event["path"])
    st.caption(f"`{path}` runs with `sharpreel upscale -m`, and on the page Test.")
    widgets.download(path, "Download the model", "train-model")


def _show_progress(job: Job) -> None:
    rows = widgets.follower(job, job.folder / "batches.jsonl").read()
    events = widgets.follower(job, job.events_path)
    loading = progress.loading_bar(events.read(), events.seen)
    steps, validate_every = _lengths(job.folder)
    for bar in progress.bars(rows, steps, validate_every, loading):
        st.progress(bar.done, bar.text)
    points = curves.curves(rows)
    titles = {"training batches": "step", "validation batches": "clip", "epochs": "epoch"}
    for row in curves.ROWS:
        st.markdown(f"**{row.capitalize()}**")
        if not any(points[row, measure] for measure in curves.COLUMNS):
            st.caption("None yet.")
            continue
        for column, (measure, title) in zip(st.columns(3), curves.COLUMNS.items(), strict=True):
            with column:
                st.caption(title)
                spec = charts.chart(points[row, measure], titles[row])
                st.vega_lite_chart(spec, key=f"{row} {measure}")
    _show_validation(job.folder / "validation.png")


def _lengths(run: Path) -> tuple[int, int]:
    """Return steps and validate_every of a run."""
    try:
        config = json.loads((run / "config.json").read_text())
        return int(config["steps"]), int(config["validate_every"])
    except (OSError, ValueError, KeyError):
        return 1, 1  # not started


def _show_validation(path: Path) -> None:
    """Show bicubic, network and ground truth of the last validation."""
    try:
        image = images.read_rgb(path)
    except InputError:
        return
    width = image.shape[1] // 3
    st.markdown("**Part of the first validation clip**")
    names = ("bicubic", "network", "ground truth")
    for k, (column, name) in enumerate(zip(st.columns(3), names, strict=True)):
        column.image(image[:, k * width : (k + 1) * width], name)
