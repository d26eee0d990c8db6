"""Inference on the page Test: upscale a video, play the result, compare a frame with bicubic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from sharpreel import ops
from sharpreel.errors import InputError
from sharpreel.evaluation import html_page, pairs
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import probe
from sharpreel.media.side_data import upright
from sharpreel.ops import Pixels
from sharpreel.studio import widgets
from sharpreel.studio.jobs import Job

PLAYABLE = (".mp4", ".m4v", ".webm", ".mov")  # in browsers
MIN_WIDTH, MARGINS = 320, 48  # pixels: of the controls around a frame, and beside it
CONTROLS_HEIGHT = 140


def watch(job: Job) -> None:
    """Show the progress or the result of a job."""
    outcome = widgets.job_controls(job, "test")
    if outcome.state == "finished":
        _show_result(job)
    else:
        widgets.live(job, lambda: _show_progress(job), outcome.state == "running")


def _show_result(job: Job) -> None:
    facts = job.facts()["about"]
    source, result = Path(facts["source"]), Path(facts["output"])
    if not result.is_file():
        raise InputError(f"{result}: it no longer exists.")
    size_mb = result.stat().st_size / 1e6
    st.caption(f"`{result}`, {size_mb:.3g} MB")
    done: dict[str, Any] = next((e for e in job.events() if e["event"] == "done"), {})
    for note in done.get("notes", []):
        st.caption(f"Note: {note}")
    if done.get("lost"):
        st.warning(f"{done['lost']} frames of the video did not decode and are missing.")
    if size_mb <= widgets.MAX_DOWNLOAD_MB and result.suffix.lower() in PLAYABLE:
        widgets.video_player(result, widgets.shown_size(*probe(result).shown_size)[0])
    widgets.download(result, "Download the result", "test-result")
    _show_slider(source, result)


def _show_progress(job: Job) -> None:
    events = widgets.follower(job, job.events_path).read()
    last = next((e for e in reversed(events) if e["event"] == "progress"), None)
    if last is None:
        st.caption("Not started yet.")
        return
    widgets.frames_bar(last, f"{last['stage']}: ", f", {last['fps']:.1f} fps")


def _show_slider(source: Path, result: Path) -> None:
    """Show bicubic and the result of one frame, with a slider between them."""
    info = probe(source)
    duration = float(info.duration_seconds or 0)
    seconds = st.slider("Frame at, seconds", 0.0, max(duration, 0.1), duration / 2, key="test-at")
    pair = frames_at(source, result, seconds)
    page = html_page.slider(pair, f"{source.name} at {seconds:.2f} s")
    height, width = pair["bicubic"].shape[:2]
    widgets.embedded_page(page, height + CONTROLS_HEIGHT, max(width, MIN_WIDTH) + MARGINS)


def frames_at(source: Path, result: Path, seconds: float) -> dict[str, Pixels]:
    """Return the frame shown at this time, uint8: "bicubic" and "result", upright and cropped."""
    lr, sr = (_frame_at(path, seconds) for path in (source, result))
    bicubic = ops.resize(pairs.in_bytes(lr), *sr.shape[:2])
    pair = {"bicubic": bicubic, "result": pairs.in_bytes(sr)}
    matrix = probe(result).display_matrix
    return {name: shown_part(upright(frame, matrix)) for name, frame in pair.items()}


def _frame_at(path: Path, seconds: float) -> Pixels:
    info = probe(path)
    start = info.start_pts + round(seconds / info.time_base)
    step = round(1 / (info.rate * info.time_base))
    frame = next(iter(video_reader.VideoReader(info, start - step // 2)), None)
    if frame is None:  # after the last one
        frame = next(iter(video_reader.VideoReader(info)))
    return frame.pixels


def shown_part(frame: Pixels) -> Pixels:
    """Crop the centre of a frame to the size of the player, pixel for pixel."""
    height, width = frame.shape[:2]
    shown_width, shown_height = widgets.shown_size(width, height)
    top, left = (height - shown_height) // 2, (width - shown_width) // 2
    return frame[top : top + shown_height, left : left + shown_width]
