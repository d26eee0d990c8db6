"""Test: measure a network on video whose truth is known, or enlarge video and look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import streamlit as st

from sharpreel import ops
from sharpreel.data.degrade import DEGRADATIONS
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import html_page, pairs
from sharpreel.evaluation.protocols import PROTOCOLS
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import probe
from sharpreel.media.side_data import upright
from sharpreel.models import DEFAULT_MODEL, MODELS
from sharpreel.models.pretrained import PUBLISHED
from sharpreel.ops import Pixels
from sharpreel.studio import charts, jobs, widgets
from sharpreel.studio.jobs import Job
from sharpreel.studio.progress import COLUMNS, Point, left, thinned

TEST, INFERENCE = "Test: high-resolution video in", "Inference: low-resolution video in"
PLAYED = (".mp4", ".m4v", ".webm", ".mov")  # that browsers play
CONTAINERS = ("mp4", "mkv", "webm", "mov")
LEAST, MARGINS = 320, 48  # pixels: width of what is around a picture, and beside it
FILES = ("report.html", "scores.csv", "frames.csv", "scores.json")


def show() -> None:
    st.title("Test")
    with widgets.errors_shown():
        found = jobs.all_jobs(jobs.home() / jobs.TESTS)
        job = widgets.pick("test", found, "A new test")
        if job is None:
            _form()
        elif job.facts()["about"].get("mode") == "inference":
            _watch_inference(job)
        else:
            _watch_test(job)


def _form() -> None:
    mode = st.radio("Mode", [TEST, INFERENCE], key="test-mode", captions=[
        "It is made small, enlarged by the network and by bicubic, and both are measured.",
        "It is enlarged, with everything else in the file kept.",
    ])  # fmt: skip
    names = {name: name for name, spec in MODELS.items() if spec.bundled and name != "bicubic"}
    names = {DEFAULT_MODEL: DEFAULT_MODEL} | names
    names |= {f"{name} (downloaded once)": name for name in PUBLISHED}
    model = widgets.choose_model("test-model", "Network", names)
    factors: list[int | None] = [None]
    if model in names:  # in the package
        from sharpreel.models.weights import available_scales

        factors = list(available_scales(model))
    one, two = st.columns(2)
    scale = one.selectbox("Factor", factors, key=f"test-scale {model}",
                           format_func=lambda s: str(s) if s else "the model's own")  # fmt: skip
    device = two.selectbox("Device", ["auto", "cpu", "cuda"], key="test-device")
    words = ["--model", str(model), "--device", device, "--json"]
    words += ["--scale", str(scale)] if scale else []
    (_test_form if mode == TEST else _inference_form)(words, model)


def _test_form(words: list[str], model: str | None) -> None:
    videos = widgets.choose_videos("test-hr", "Video in high resolution", single=True)
    one, two, three = st.columns(3)
    names = list(DEGRADATIONS)
    degradation = one.selectbox("Made small by", names, key="test-degradation",
                                format_func=_degradation)  # fmt: skip
    protocol = two.selectbox("Protocol", list(PROTOCOLS), key="test-protocol",
                             format_func=lambda n: f"{n}: {PROTOCOLS[n].summary}")  # fmt: skip
    most = three.number_input(
        "Frames of a clip at most (0: all)", 0, 10_000_000, 0, key="test-most"
    )
    temporal = st.checkbox("Measure motion and flicker, too (slower)", key="test-temporal")
    name = _name("test", model)
    if st.button("Start test", type="primary", key="test-start"):
        with _new(name, model) as job:
            source = videos.place(job.uploads)
            words = ["evaluate", *words, "--data", str(source),
                     "--output", str(job.folder / "report"),
                     "--degrade", degradation, "--protocol", protocol]  # fmt: skip
            words += ["--max-frames", str(most)] if most else []
            words += [] if temporal else ["--no-temporal"]
            job.start(words, {"mode": "test"})
        widgets.show_next("test", job)


def _degradation(name: str) -> str:
    return f"{name}: {DEGRADATIONS[name].summary}"


def _inference_form(words: list[str], model: str | None) -> None:
    videos = widgets.choose_videos("test-lr", "Video in low resolution", single=True)
    container = st.selectbox("Container of the result", CONTAINERS, key="test-container",
                             help="Browsers play mp4 and webm.")  # fmt: skip
    name = _name("large", model)
    if st.button("Upscale", type="primary", key="test-start"):
        with _new(name, model) as job:
            source = videos.place(job.uploads)
            assert source is not None
            assert model is not None
            info = probe(source)  # says in one line what is no video
            output = job.folder / f"{source.stem}_{Path(model).stem}.{container}"
            words = ["upscale", str(source), *words, "--output", str(output)]
            about = {"mode": "inference", "source": str(info.path), "output": str(output)}
            job.start(words, about)
        widgets.show_next("test", job)


def _new(name: str, model: str | None) -> AbstractContextManager[Job]:
    """As `jobs.new_job`.

    Raises:
        UsageError: There is no model.
    """
    if model is None:
        raise UsageError(widgets.NO_MODEL)
    return jobs.new_job(jobs.home() / jobs.TESTS, name)


def _name(what: str, model: str | None) -> str:
    stem = f"{what}-{Path(model).stem}" if model else what
    free = jobs.free_name(jobs.home() / jobs.TESTS, stem)
    name: str = st.text_input("Name", free, key=f"test-name {stem}")
    return name


# Test mode -----------------------------------------------------------------------------------


def _watch_test(job: Job) -> None:
    outcome = widgets.control(job, "test", again="Start again")
    if outcome.state == "finished":
        _report(job.folder / "report")
    else:
        widgets.live(job, lambda: _live_scores(job), outcome.state == "running")


def _live_scores(job: Job) -> None:
    events = widgets.follower(job, job.events_path).read()
    done = next((e for e in reversed(events) if e["event"] == "progress"), None)
    frames = [e for e in events if e["event"] == "frame"]
    if done is not None:
        _bar(done, f"{done['clip']}: ")
    if not frames:
        st.caption("No frame is measured yet.")
        return
    clip = frames[-1]["clip"]
    scored = scores_of([e for e in frames if e["clip"] == clip])
    st.markdown(f"**{clip}, frame by frame**")
    for column, measure in zip(st.columns(2), ("psnr", "ssim"), strict=True):
        with column:
            st.caption(COLUMNS[measure])
            spec = charts.chart(scored[measure], "frame", 280)
            st.vega_lite_chart(spec, key=f"test {measure}")


def scores_of(frames: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Curves of PSNR and SSIM, of `frame` events of one clip."""
    made: dict[str, list[Point]] = {}
    names = list(frames[-1]["scores"]) if frames else []
    for measure in ("psnr", "ssim"):
        made[measure] = [
            Point(x, y, name)
            for name in reversed(names)  # bicubic, which comes first, below the others
            for x, y in thinned([(e["frame"], float(e["scores"][name][measure])) for e in frames])
        ]
    return made


def _report(folder: Path) -> None:
    """The means, downloads, and the report itself: plots, and pictures with a line to move."""
    try:
        tables, page = ((folder / name).read_text() for name in ("scores.md", "report.html"))
    except OSError as e:
        raise InputError(f"{folder}: the report is not there any more.") from e
    st.markdown(tables.split("\n\n")[0])
    for column, name in zip(st.columns(len(FILES)), FILES, strict=True):
        with column:
            widgets.hand_over(folder / name, f"Download {name}", f"test-{name}")
    widgets.framed(page, 1400)


# Inference mode ------------------------------------------------------------------------------


def _watch_inference(job: Job) -> None:
    outcome = widgets.control(job, "test")
    if outcome.state != "finished":
        widgets.live(job, lambda: _live_upscale(job), outcome.state == "running")
        return
    facts = job.facts()["about"]
    source, result = Path(facts["source"]), Path(facts["output"])
    if not result.is_file():
        raise InputError(f"{result}: it is not there any more.")
    st.caption(f"`{result}`, {result.stat().st_size / 1e6:.3g} MB")
    done: dict[str, Any] = next((e for e in job.events() if e["event"] == "done"), {})
    for note in done.get("notes", []):
        st.caption(f"Note: {note}")
    if done.get("lost"):
        st.warning(f"{done['lost']} frames of the video did not decode and are missing.")
    small = result.stat().st_size <= widgets.HANDED_OVER_MB * 1e6
    if small and result.suffix.lower() in PLAYED:
        widgets.film(result, widgets.fitted(*probe(result).shown_size)[0])
    widgets.hand_over(result, "Download the result", "test-result")
    _before_and_after(source, result)


def _live_upscale(job: Job) -> None:
    events = widgets.follower(job, job.events_path).read()
    last = next((e for e in reversed(events) if e["event"] == "progress"), None)
    if last is None:
        st.caption("Not begun yet.")
        return
    _bar(last, f"{last['stage']}: ", f", {last['fps']:.1f} a second")


def _bar(event: Mapping[str, Any], before: str, pace: str = "") -> None:
    """How many frames are done, of a `progress` event."""
    frames, total = event["frames"], event.get("total")
    of = f" of {total}" if total else ""
    text = f"{before}{frames}{of} frames{pace}{left(event.get('eta_seconds'))}"
    st.progress(min(frames / total, 1.0) if total else 0.0, text)


def _before_and_after(source: Path, result: Path) -> None:
    """Bicubic and the result of one frame, and a line to move between them."""
    info = probe(source)
    seconds = float(info.duration_seconds or 0)
    at = st.slider("Frame at, seconds", 0.0, max(seconds, 0.1), seconds / 2, key="test-at")
    pair = frames_at(source, result, at)
    page = html_page.slider(pair, f"{source.name} at {at:.2f} s")
    height, width = pair["bicubic"].shape[:2]
    widgets.framed(page, height + 140, max(width, LEAST) + MARGINS)


def frames_at(source: Path, result: Path, seconds: float) -> dict[str, Pixels]:
    """The frame shown at this time, in 8 bits: enlarged by bicubic, and as the network made it."""
    found = []
    for path in (source, result):
        info = probe(path)
        start = info.start_pts + round(seconds / info.time_base)
        step = round(1 / (info.rate * info.time_base))
        frames = iter(video_reader.VideoReader(info, start - step // 2))
        frame = next(frames, None)
        if frame is None:  # behind the last one
            frame = next(iter(video_reader.VideoReader(info)))
        found.append(frame.pixels)
    lr, sr = found
    bicubic = ops.resize(pairs.in_bytes(lr), *sr.shape[:2])
    pair = {"bicubic": bicubic, "result": pairs.in_bytes(sr)}
    return {n: _middle(upright(frame, info.display_matrix)) for n, frame in pair.items()}


def _middle(frame: Pixels) -> Pixels:
    """As much of its middle, pixel for pixel, as the player shows the whole at."""
    height, width = frame.shape[:2]
    wide, high = widgets.fitted(width, height)
    top, left = (height - high) // 2, (width - wide) // 2
    return frame[top : top + high, left : left + wide]
