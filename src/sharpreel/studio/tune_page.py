"""Tune: start a search of settings, watch its trials, use the best one as a recipe."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable
from typing import Any

import streamlit as st

from sharpreel.errors import InputError, MissingExtra
from sharpreel.studio import progress, widgets
from sharpreel.studio.folder import SEARCHES, free_name, new_job, studio_folder
from sharpreel.studio.jobs import Job
from sharpreel.studio.mlflow_runs import prepare_store, store_uri
from sharpreel.studio.train_form import recipe_names

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
    """Show the page; `open_train` switches to the page Train."""
    st.title("Tune")
    widgets.form_or_job("tune", SEARCHES, "New search", _form, lambda job: _watch(job, open_train))


def _form() -> None:
    names = {n: path for n, path in recipe_names().items() if not path.endswith(".json")}
    recipe = names[st.selectbox("Recipe", list(names), key="tune-recipe")]
    videos = widgets.choose_videos("tune", "Training and validation videos")
    space = st.text_area("Search space (TOML)", SPACE, height=120, key="tune-space")
    settings = st.text_area(
        "Settings of all trials, one NAME=VALUE per line", "steps=500", key="tune-settings"
    )
    left, middle, right = st.columns(3)
    trials = left.number_input("Trials", 1, 10_000, 20, key="tune-trials")
    device = middle.selectbox("Device", ["auto", "cpu", "cuda"], key="tune-device")
    folder = studio_folder() / SEARCHES
    name = right.text_input("Name", free_name(folder, recipe), key=f"tune-name {recipe}")
    if st.button("Start search", type="primary", key="tune-start"):
        fixed = widgets.parse_setting_lines(settings)
        _validate(recipe, space, fixed, device)
        with new_job(folder, name) as job:
            source = videos.save(job.uploads / "videos")
            path = job.folder / "space.toml"
            path.write_text(space)
            arguments = [
                *("tune", recipe, "--data", str(source), "--out", str(job.folder)),
                *("--space", str(path), "--trials", str(trials), "--device", device, "--json"),
            ]
            for key, value in fixed.items():
                arguments += ["--set", f"{key}={value}"]
            about = {"recipe": recipe, "trials": trials}
            job.start(arguments, about, {"MLFLOW_TRACKING_URI": store_uri()})
        widgets.show_next("tune", job)


def _validate(recipe: str, space: str, settings: dict[str, str], device: str) -> None:
    """Raise UsageError or InputError for wrong settings, before anything is decoded."""
    from sharpreel.training import recipes
    from sharpreel.training.setup import validate_device
    from sharpreel.training.tune.space import Space

    validate_device(device)
    recipes.configure(recipe, settings)
    try:
        content = tomllib.loads(space)
    except tomllib.TOMLDecodeError as e:
        raise InputError(f"The search space is not TOML: {e}.") from e
    Space.of(content, "search space").validate(recipe, settings)
    prepare_store()


def _watch(job: Job, open_train: Callable[[], None]) -> None:
    outcome = widgets.job_controls(job, "tune")
    best = _best(job)
    if best is not None:
        text, above = gain_text(best["value"])
        (st.success if above else st.info)(f"Best: trial {best['trial']}, {text}")
        if st.button("Use best trial as recipe", key="tune-take"):
            st.session_state["train-recipe-next"] = f"best of {job.name}"
            st.session_state["train-next"] = ""
            open_train()
    widgets.live(job, lambda: _live(job), outcome.state == "running")


def gain_text(value: float) -> tuple[str, bool]:
    """Return a trial's gain as text, and whether it is above bicubic, to a thousandth of a dB."""
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
    ended = [e for e in events if e["event"] == "trial"]
    finished = ended[-1]["finished"] if ended else 0
    if not ended:
        loading = progress.loading_bar(events, follower.seen)
        st.progress(loading.done, loading.text)
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
    """Round a number to four significant digits; trials.csv has all of them."""
    try:
        return f"{float(text):.4g}" if "." in text else text
    except ValueError:
        return text


def _figures(job: Job, finished: int) -> None:
    """Show Optuna's plots, which are redrawn when a trial has ended."""
    if not finished or not (job.folder / "study.json").is_file():
        st.caption("Plots appear after the first finished trial.")
        return
    cache: dict[str, tuple[int, Any]] = st.session_state.setdefault("figures", {})
    if cache.get(job.name, (0, None))[0] != finished:
        cache[job.name] = (finished, _draw(job))
    figures = cache[job.name][1]
    for tab, name in zip(st.tabs([TITLES[n] for n in figures]), figures, strict=True):
        tab.plotly_chart(figures[name], key=f"tune-{name}")
    if "importances" not in figures:
        st.caption("Importance needs four complete trials whose gains differ.")


def _draw(job: Job) -> dict[str, Any]:
    try:
        import optuna
    except ImportError as e:
        raise MissingExtra("Tuning", "train") from e
    from sharpreel.training.tune.plots import figures
    from sharpreel.training.tune.study import open_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return figures(open_study(job.folder, job.facts()["about"]["recipe"]))
