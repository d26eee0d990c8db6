"""Test: measure a network on high-resolution video, or upscale a low-resolution video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import streamlit as st

from sharpreel.data.degrade import DEGRADATIONS
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation.protocols import PROTOCOLS
from sharpreel.media.probe import probe
from sharpreel.models import DEFAULT_MODEL, MODELS
from sharpreel.models.pretrained import PUBLISHED
from sharpreel.studio import charts, inference, widgets
from sharpreel.studio.curves import COLUMNS, Point, thinned
from sharpreel.studio.folder import TESTS, all_jobs, free_name, new_job, studio_folder
from sharpreel.studio.jobs import Job

TEST, INFERENCE = "Test: high-resolution video in", "Inference: low-resolution video in"
CAPTIONS = (
    "The video is degraded, upscaled by the network and by bicubic, and both are measured.",
    "The video is upscaled, and everything else in the file is kept.",
)
CONTAINERS = ("mp4", "mkv", "webm", "mov")
FILES = ("report.html", "scores.csv", "frames.csv", "scores.json")


def show() -> None:
    st.title("Test")
    with widgets.errors_shown():
        job = widgets.pick_job("test", all_jobs(studio_folder() / TESTS), "New test")
        if job is None:
            _form()
        elif job.facts()["about"].get("mode") == "inference":
            inference.watch(job)
        else:
            _watch(job)


def _form() -> None:
    mode = st.radio("Mode", [TEST, INFERENCE], key="test-mode", captions=CAPTIONS)
    names = {name: name for name, spec in MODELS.items() if spec.bundled and name != "bicubic"}
    names = {DEFAULT_MODEL: DEFAULT_MODEL} | names
    names |= {f"{name} (downloaded once)": name for name in PUBLISHED}
    model = widgets.choose_model("test-model", "Network", names)
    scales: list[int | None] = [None]
    if model in names:  # bundled
        from sharpreel.models.weights import available_scales

        scales = list(available_scales(model))
    one, two = st.columns(2)
    scale = one.selectbox(
        "Scale",
        scales,
        key=f"test-scale {model}",
        format_func=lambda s: str(s) if s else "the model's own",
    )
    device = two.selectbox("Device", ["auto", "cpu", "cuda"], key="test-device")
    options = ["--model", str(model), "--device", device, "--json"]
    options += ["--scale", str(scale)] if scale else []
    (_test_form if mode == TEST else _inference_form)(options, model)


def _test_form(options: list[str], model: str | None) -> None:
    videos = widgets.choose_videos("test-hr", "High-resolution video", single=True)
    one, two, three = st.columns(3)
    degradation = one.selectbox(
        "Degradation",
        list(DEGRADATIONS),
        key="test-degradation",
        format_func=lambda name: f"{name}: {DEGRADATIONS[name].summary}",
    )
    protocol = two.selectbox(
        "Protocol",
        list(PROTOCOLS),
        key="test-protocol",
        format_func=lambda name: f"{name}: {PROTOCOLS[name].summary}",
    )
    max_frames = three.number_input(
        "Frames per clip, at most (0: all)", 0, 10_000_000, 0, key="test-most"
    )
    temporal = st.checkbox("Also measure motion and flicker (slower)", key="test-temporal")
    name = _choose_name("test", model)
    if st.button("Start test", type="primary", key="test-start"):
        with _new_test(name, model) as job:
            source = videos.save(job.uploads)
            arguments = [
                *("evaluate", *options, "--data", str(source)),
                *("--output", str(job.folder / "report")),
                *("--degrade", degradation, "--protocol", protocol),
            ]
            arguments += ["--max-frames", str(max_frames)] if max_frames else []
            arguments += [] if temporal else ["--no-temporal"]
            job.start(arguments, {"mode": "test"})
        widgets.show_next("test", job)


def _inference_form(options: list[str], model: str | None) -> None:
    videos = widgets.choose_videos("test-lr", "Low-resolution video", single=True)
    container = st.selectbox(
        "Container of the result",
        CONTAINERS,
        key="test-container",
        help="Browsers play mp4 and webm.",
    )
    name = _choose_name("large", model)
    if st.button("Upscale", type="primary", key="test-start"):
        with _new_test(name, model) as job:
            source = videos.save(job.uploads)
            assert source is not None
            assert model is not None
            info = probe(source)  # refuses files that are not videos before a job starts
            output = job.folder / f"{source.stem}_{Path(model).stem}.{container}"
            arguments = ["upscale", str(source), *options, "--output", str(output)]
            about = {"mode": "inference", "source": str(info.path), "output": str(output)}
            job.start(arguments, about)
        widgets.show_next("test", job)


def _new_test(name: str, model: str | None) -> AbstractContextManager[Job]:
    """Create a job as `folder.new_job` does.

    Raises:
        UsageError: No model is chosen.
    """
    if model is None:
        raise UsageError(widgets.NO_MODEL)
    return new_job(studio_folder() / TESTS, name)


def _choose_name(prefix: str, model: str | None) -> str:
    stem = f"{prefix}-{Path(model).stem}" if model else prefix
    free = free_name(studio_folder() / TESTS, stem)
    name: str = st.text_input("Name", free, key=f"test-name {stem}")
    return name


def _watch(job: Job) -> None:
    outcome = widgets.job_controls(job, "test", resume_label="Start over")
    if outcome.state == "finished":
        _show_report(job.folder / "report")
    else:
        widgets.live(job, lambda: _show_scores(job), outcome.state == "running")


def _show_scores(job: Job) -> None:
    events = widgets.follower(job, job.events_path).read()
    done = next((e for e in reversed(events) if e["event"] == "progress"), None)
    frames = [e for e in events if e["event"] == "frame"]
    if done is not None:
        widgets.frames_bar(done, f"{done['clip']}: ")
    if not frames:
        st.caption("No frame is measured yet.")
        return
    clip = frames[-1]["clip"]
    scored = score_curves([e for e in frames if e["clip"] == clip])
    st.markdown(f"**{clip}, frame by frame**")
    for column, measure in zip(st.columns(2), ("psnr", "ssim"), strict=True):
        with column:
            st.caption(COLUMNS[measure])
            spec = charts.chart(scored[measure], "frame", 280)
            st.vega_lite_chart(spec, key=f"test {measure}")


def score_curves(frames: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Return the curves of PSNR and SSIM from the `frame` events of one clip."""
    curves: dict[str, list[Point]] = {}
    names = list(frames[-1]["scores"]) if frames else []
    for measure in ("psnr", "ssim"):
        curves[measure] = [
            Point(x, y, name)
            for name in reversed(names)  # bicubic comes first; it is drawn below the others
            for x, y in thinned([(e["frame"], float(e["scores"][name][measure])) for e in frames])
        ]
    return curves


def _show_report(folder: Path) -> None:
    """Show the means, downloads, and the report itself."""
    try:
        tables, page = ((folder / name).read_text() for name in ("scores.md", "report.html"))
    except OSError as e:
        raise InputError(f"{folder}: the report no longer exists.") from e
    st.markdown(tables.split("\n\n")[0])
    for column, name in zip(st.columns(len(FILES)), FILES, strict=True):
        with column:
            widgets.download(folder / name, f"Download {name}", f"test-{name}")
    widgets.embedded_page(page, 1400)
