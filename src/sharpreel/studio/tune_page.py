"""Tune: start a search of settings, watch its trials, take the best as a recipe."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable
from typing import Any

import streamlit as st

from sharpreel.errors import InputError, MissingExtra
from sharpreel.studio import jobs, progress, runs_page, train_page, widgets
from sharpreel.studio.jobs import Job

SPACE = """\
learning_rate = {type = "float", low = 1e-4, high = 3e-3, log = true}
loss = {choices = ["charbonnier", "l1", "mse"]}
"""
TITLES = {
    "history": "History",
    "importances": "Importance",
    "parallel": "Parallel coordinates",
    "slice": "Each setting",
}


def show(open_train: Callable[[], None]) -> None:
    """The page; `open_train` switches to the train page."""
    st.title("Tune")
    widgets.form_or_job(
        "tune", jobs.SEARCHES, "A new search", _form, lambda job: _watch(job, open_train)
    )


def _form() -> None:
    names = {n: path for n, path in train_page.recipe_names().items() if not path.endswith(".json")}
    recipe = names[st.selectbox("Recipe", list(names), key="tune-recipe")]
    videos = widgets.choose_videos("tune", "Videos to learn from and to score on")
    space = st.text_area("What is searched, as TOML", SPACE, height=120, key="tune-space")
    settings = st.text_area(
        "Settings of all trials, NAME=VALUE on a line each", "steps=500", key="tune-settings"
    )
    left, middle, right = st.columns(3)
    trials = left.number_input("Trials", 1, 10_000, 20, key="tune-trials")
    device = middle.selectbox("Device", ["auto", "cpu", "cuda"], key="tune-device")
    folder = jobs.home() / jobs.SEARCHES
    name = right.text_input("Name", jobs.free_name(folder, recipe), key=f"tune-name {recipe}")
    if st.button("Start search", type="primary", key="tune-start"):
        fixed = widgets.settings_of_lines(settings)
        _check(recipe, space, fixed, device)
        with jobs.new_job(folder, name) as job:
            source = videos.place(job.uploads / "videos")
            path = job.folder / "space.toml"
            path.write_text(space)
            words = ["tune", recipe, "--data", str(source), "--out", str(job.folder), "--space",
                     str(path), "--trials", str(trials), "--device", device, "--json"]  # fmt: skip
            for key, value in fixed.items():
                words += ["--set", f"{key}={value}"]
            about = {"recipe": recipe, "trials": trials}
            job.start(words, about, {"MLFLOW_TRACKING_URI": runs_page.store_uri()})
        widgets.show_next("tune", job)


def _check(recipe: str, space: str, settings: dict[str, str], device: str) -> None:
    """Raise what is wrong, before anything is decoded."""
    from sharpreel.training import recipes
    from sharpreel.training.setup import validate_device
    from sharpreel.training.tune.space import Space

    validate_device(device)
    recipes.configure(recipe, settings)
    try:
        content = tomllib.loads(space)
    except tomllib.TOMLDecodeError as e:
        raise InputError(f"What is searched is not TOML: {e}.") from e
    Space.of(content, "What is searched").check(recipe, settings)
    runs_page.prepare_store()


def _watch(job: Job, open_train: Callable[[], None]) -> None:
    outcome = widgets.control(job, "tune")
    best = _best(job)
    if best is not None:
        text, above = _gain(best["value"])
        (st.success if above else st.info)(f"Best: trial {best['trial']}, {text}")
        if st.button("Take the best as a recipe", key="tune-take"):
            st.session_state["train-recipe-next"] = f"best of {job.name}"
            st.session_state["train-next"] = ""
            open_train()
    widgets.live(job, lambda: _live(job), outcome.state == "running")


def _gain(value: float) -> tuple[str, bool]:
    """What a trial gained, in words, and whether it is above bicubic, to a thousandth of a dB."""
    gain = round(value, 3)
    if gain > 0:
        return f"{gain:+z.3f} dB over bicubic", True
    return (f"{-gain:.3f} dB below bicubic" if gain < 0 else "no better than bicubic"), False


def _best(job: Job) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((job.folder / "best.json").read_text())
    except (OSError, ValueError):
        return None
    return content


def _live(job: Job) -> None:
    trials = int(job.facts()["about"].get("trials", 1))
    follower = widgets.follower(job, job.events_path)
    events = follower.read()
    told = [e for e in events if e["event"] == "trial"]
    finished = told[-1]["finished"] if told else 0
    if not told:
        loaded = progress.loading(events, follower.seen)
        st.progress(loaded.done, loaded.text)
    st.progress(min(finished / trials, 1.0), f"Trials: {finished} of {trials}")
    rows = _table(job)
    if rows:
        st.dataframe(rows, hide_index=True)
    _figures(job, finished)


def _table(job: Job) -> list[dict[str, str]]:
    try:
        with (job.folder / "trials.csv").open(newline="") as file:
            return [{k: _short(v) for k, v in row.items()} for row in csv.DictReader(file)]
    except OSError:
        return []


def _short(text: str) -> str:
    """A number with four digits that count; trials.csv has them all."""
    try:
        return f"{float(text):.4g}" if "." in text else text
    except ValueError:
        return text


def _figures(job: Job, finished: int) -> None:
    """Optuna's own plots, drawn anew when a trial has ended."""
    if not finished or not (job.folder / "study.json").is_file():
        st.caption("Plots come with the first trial that has ended.")
        return
    kept: dict[str, tuple[int, Any]] = st.session_state.setdefault("figures", {})
    if kept.get(job.name, (0, None))[0] != finished:
        kept[job.name] = (finished, _drawn(job))
    figures = kept[job.name][1]
    for tab, name in zip(st.tabs([TITLES[n] for n in figures]), figures, strict=True):
        tab.plotly_chart(figures[name], key=f"tune-{name}")
    if "importances" not in figures:
        st.caption("Importance needs four complete trials whose gains differ.")


def _drawn(job: Job) -> dict[str, Any]:
    try:
        import optuna
    except ImportError as e:
        raise MissingExtra("Tuning", "train") from e
    from sharpreel.training.tune.plots import figures
    from sharpreel.training.tune.study import open_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return figures(open_study(job.folder, job.facts()["about"]["recipe"]))
