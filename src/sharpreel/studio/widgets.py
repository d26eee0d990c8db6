"""Widgets of several pages: choosing videos and models, a job's state, errors in one line."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from sharpreel.errors import InputError, SharpreelError, UsageError, write_error
from sharpreel.media.probe import VIDEO_SUFFIXES
from sharpreel.studio.curves import Row
from sharpreel.studio.folder import RUNS, SEARCHES, UPLOAD_MB, all_jobs, studio_folder
from sharpreel.studio.follower import Follower
from sharpreel.studio.jobs import Job, Outcome
from sharpreel.studio.progress import time_left
from sharpreel.system.text import parse_settings

MAX_DOWNLOAD_MB = 200  # through the server's memory; of larger results the path is shown
REFRESH_SECONDS = 1.5  # while a job runs
POLL_SECONDS = 5.0  # after it has ended: another page may resume it
NO_MODEL = "Enter the path of a model file on the server."
MAX_HEIGHT = 630  # pixels of a video on the page: about 70 % of a common screen


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Show errors of sharpreel raised inside as one line of the page."""
    try:
        yield
    except SharpreelError as e:
        st.error(str(e))


def server_path(text: str) -> Path:
    """Return the path on the server that a person has typed.

    Raises:
        InputError: It does not exist.
    """
    path = Path(text.strip()).expanduser()
    if not text.strip() or not path.exists():
        raise InputError(f"{text.strip() or 'No path'}: no such file or folder on the server.")
    return path.resolve()


@dataclass(frozen=True)
class ChosenVideos:
    """Videos that were chosen, by path or by upload."""

    path: str = ""
    uploads: Sequence[Any] = field(default=())
    single: bool = False
    optional: bool = False

    def save(self, folder: Path) -> Path | None:
        """Return the video or folder of videos; uploads are first written to the new `folder`.

        Raises:
            InputError, UsageError: Nothing was chosen, or it does not exist.
        """
        if self.path or not self.uploads:
            return None if self.optional and not self.path.strip() else server_path(self.path)
        files = {Path(upload.name).name.lstrip("."): upload for upload in self.uploads}
        if len(files) < len(self.uploads):
            raise UsageError("Two of the uploads have the same name; rename one of them.")
        try:
            folder.mkdir(parents=True)
            for name, upload in files.items():
                (folder / name).write_bytes(upload.getbuffer())
        except OSError as e:
            raise write_error(folder, e) from e
        return folder / next(iter(files)) if self.single else folder


def choose_videos(
    key: str, label: str, single: bool = False, optional: bool = False
) -> ChosenVideos:
    """Show inputs for a path on the server, or for uploads."""
    modes = ["Path on the server", "Upload"]
    mode = st.radio(label, modes, horizontal=True, key=f"{key}-way")
    if mode == modes[0]:
        hint = "/data/video.mp4" if single else "/data/clips"
        help_ = "A video, or a folder of clips." if single else "A folder of videos, or a store."
        text = st.text_input("Path", key=f"{key}-path", placeholder=hint, help=help_)
        return ChosenVideos(path=text, optional=optional)
    files = st.file_uploader(
        f"Videos, at most {UPLOAD_MB} MB each",
        accept_multiple_files=not single,
        key=f"{key}-files",
        type=sorted(suffix[1:] for suffix in VIDEO_SUFFIXES),
        help="Uploads pass through the server's memory; for larger files, enter their path.",
    )
    uploads = () if files is None else (files,) if single else tuple(files)
    if not uploads and not optional:
        st.caption("Files that are already on the server need no upload: enter their path.")
    return ChosenVideos(uploads=uploads, single=single, optional=optional)


def pick_job(key: str, jobs: Sequence[Job], new: str) -> Job | None:
    """Show a choice of jobs; None is a new one, called `new`.

    The page's address keeps the choice. At first a running job is shown.
    """
    names = [job.name for job in jobs]
    options = ["", *names]
    if (requested := st.session_state.pop(f"{key}-next", None)) is not None:
        st.session_state[key] = requested
    if st.session_state.get(key) not in options:
        in_address = st.query_params.get("run", "")
        running = next((job.name for job in jobs if job.running()), "")
        st.session_state[key] = in_address if in_address in names else running
    name = st.selectbox("Show", options, key=key, format_func=lambda n: n or new)
    if name:
        st.query_params["run"] = name
    elif "run" in st.query_params:
        del st.query_params["run"]
    return next((job for job in jobs if job.name == name), None)


def form_or_job(
    key: str, folder: str, new: str, form: Callable[[], None], watch: Callable[[Job], None]
) -> None:
    """Show the job that is picked, or the form of a new one."""
    with errors_shown():
        job = pick_job(key, all_jobs(studio_folder() / folder), new)
        if job is None:
            form()
        else:
            watch(job)


def show_next(key: str, job: Job) -> None:
    """Show this job now."""
    st.session_state[f"{key}-next"] = job.name
    st.rerun()


def follower(job: Job, path: Path) -> Follower:
    """Return this session's follower of a job's file; a new one when the job has been restarted."""
    began = job.facts().get("began")
    known: dict[str, tuple[Any, Follower]] = st.session_state.setdefault("followers", {})
    if str(path) not in known or known[str(path)][0] != began:
        known[str(path)] = began, Follower(path)
    return known[str(path)][1]


def live(job: Job, show: Callable[[], None], running: bool) -> None:
    """Show a part of the page, and refresh it while the job runs.

    The whole page is refreshed when the job has ended, or when another page has resumed it.

    Args:
        running: The state that the rest of the page shows.
    """
    began = job.facts().get("began")

    def part() -> None:
        with errors_shown():
            show()

    def poll() -> None:
        if (job.running(), job.facts().get("began")) != (running, began):
            st.rerun()

    def part_and_poll() -> None:
        part()
        poll()

    if running:
        st.fragment(part_and_poll, run_every=REFRESH_SECONDS)()
    else:
        st.fragment(part)()
        st.fragment(poll, run_every=POLL_SECONDS)()


def job_controls(
    job: Job, key: str, resume_arguments: Sequence[str] = (), resume_label: str = "Resume"
) -> Outcome:
    """Show a job's state, its error, the end of its log, and buttons to stop and resume it.

    Args:
        resume_arguments: Added to its command when it is resumed.
    """
    outcome = job.outcome()
    if outcome.state == "running":
        if st.button("Stop", key=f"{key}-stop", help="Saves progress; can be resumed later."):
            job.stop()
            st.toast("Stop requested")
    elif outcome.state == "finished":
        st.success("Finished")
    else:
        stopped = outcome.state == "stopped"
        (st.warning if stopped else st.error)(outcome.message)
        if st.button(resume_label if stopped else "Try again", key=f"{key}-resume"):
            job.restart(*resume_arguments)
            st.rerun()
    tail = job.log_tail()
    if tail or outcome.state == "failed":
        with st.expander("End of the log", expanded=outcome.state == "failed"):
            st.code(tail or "(empty)", language=None)
    with st.expander("Command"):
        st.code(job.command(), language="sh")
    return outcome


def parse_setting_lines(text: str) -> dict[str, str]:
    """Parse lines of NAME=VALUE.

    Raises:
        UsageError: A line has another form.
    """
    return parse_settings([line.strip() for line in text.splitlines() if line.strip()])


def download(path: Path, label: str, key: str, mime: str | None = None) -> None:
    """Show a button that downloads a file, or the path of a file that is too large."""
    if not path.is_file():
        return
    size = path.stat().st_size / 1e6
    if size > MAX_DOWNLOAD_MB:
        st.info(f"{path} has {size:.0f} MB: too large for the browser; copy it from the server.")
        return
    with path.open("rb") as file:
        st.download_button(label, file, path.name, mime, key=key, on_click="ignore")


def embedded_page(html: str, height: int, width: int | None = None) -> None:
    """Show an HTML page inside the page, at full width by default."""
    if hasattr(st, "iframe"):
        st.iframe(html, height=height, width=width or "stretch")
    else:  # Streamlit before 1.56
        from streamlit.components import v1

        v1.html(html, height=height, width=width, scrolling=True)


def video_player(path: Path, width: int) -> None:
    """Show a video at this width, or at full width with old versions of Streamlit."""
    has_width = "width" in inspect.signature(st.video).parameters  # since 1.47
    st.video(str(path), **({"width": width} if has_width else {}))


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Return the size at which a video is shown: never enlarged, and at most MAX_HEIGHT high."""
    share = min(1.0, MAX_HEIGHT / height)
    return max(round(width * share), 1), max(round(height * share), 1)


def trained_models() -> dict[str, Path]:
    """Return the model files of the studio's runs and searches by their labels."""
    models: dict[str, Path] = {}
    for kind in (RUNS, SEARCHES):
        for job in all_jobs(studio_folder() / kind):
            files = sorted(job.folder.glob("*.safetensors"))
            final = [f for f in files if f.stem != "best"] or files
            models |= {f"{job.name}: {path.name}": path for path in final}
    return models


def choose_model(key: str, label: str, first: dict[str, str]) -> str | None:
    """Show a choice of models; return a name or path, None while there is no valid path.

    Args:
        first: Models besides those of the studio's runs: label -> name or path.
    """
    models = {**first, **{label: str(path) for label, path in trained_models().items()}}
    other = "A file on the server"
    name = st.selectbox(label, [*models, other], key=key)
    if name != other:
        return models[name]
    text = st.text_input("Model file", key=f"{key}-file", placeholder="/models/mine.safetensors")
    if text.strip():
        with errors_shown():
            return str(server_path(text))
    else:
        st.caption(NO_MODEL)
    return None


def frames_bar(event: Row, prefix: str, suffix: str = "") -> None:
    """Show a progress bar of a `progress` event: how many frames are done."""
    frames, total = event["frames"], event.get("total")
    of = f" of {total}" if total else ""
    text = f"{prefix}{frames}{of} frames{suffix}{time_left(event.get('eta_seconds'))}"
    st.progress(min(frames / total, 1.0) if total else 0.0, text)
