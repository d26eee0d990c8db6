"""What several pages show: choosing videos and models, a job's state, errors in one line."""

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
from sharpreel.studio import jobs
from sharpreel.studio.jobs import UPLOAD_MB, Follower, Job, Outcome, home

HANDED_OVER_MB = 200  # of a result, through the server's memory: larger ones are named by path
REFRESH_SECONDS = 1.5  # of what runs
LOOK_SECONDS = 5.0  # after which one looks whether another page has gone on with what ended
NO_MODEL = "Give the path of a model file on the server."
TALLEST = 630  # pixels of a film on the page: about 70 % of a common screen


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """What sharpreel raises inside, as one line of the page."""
    try:
        yield
    except SharpreelError as e:
        st.error(str(e))


def server_path(text: str) -> Path:
    """A path on the server as a person writes it.

    Raises:
        InputError: Nothing is there.
    """
    path = Path(text.strip()).expanduser()
    if not text.strip() or not path.exists():
        raise InputError(f"{text.strip() or 'No path'}: no such file or folder on the server.")
    return path.resolve()


@dataclass(frozen=True)
class Videos:
    """Videos that were chosen, by path or by upload; `place` is where they lie."""

    path: str = ""
    uploads: Sequence[Any] = field(default=())
    single: bool = False
    optional: bool = False

    def place(self, folder: Path) -> Path | None:
        """The video or folder of videos; uploads are written to this new folder.

        Raises:
            InputError, UsageError: Nothing was chosen, or it is not there.
        """
        if self.path or not self.uploads:
            return None if self.optional and not self.path.strip() else server_path(self.path)
        files = {Path(upload.name).name.lstrip("."): upload for upload in self.uploads}
        if len(files) < len(self.uploads):
            raise UsageError("Two of the uploads have one name; rename one of them.")
        try:
            folder.mkdir(parents=True)
            for plain, upload in files.items():
                (folder / plain).write_bytes(upload.getbuffer())
        except OSError as e:
            raise write_error(folder, e) from e
        return folder / next(iter(files)) if self.single else folder


def choose_videos(key: str, what: str, single: bool = False, optional: bool = False) -> Videos:
    """Ask for a path on the server, or an upload."""
    ways = ["Path on the server", "Upload"]
    way = st.radio(what, ways, horizontal=True, key=f"{key}-way")
    if way == ways[0]:
        hint = "/data/film.mp4" if single else "/data/clips"
        help_ = "A video, or a folder of clips." if single else "A folder of videos, or a store."
        text = st.text_input("Path", key=f"{key}-path", placeholder=hint, help=help_)
        return Videos(path=text, optional=optional)
    given = st.file_uploader(
        f"Videos of {UPLOAD_MB} MB at most", accept_multiple_files=not single, key=f"{key}-files",
        type=sorted(suffix[1:] for suffix in VIDEO_SUFFIXES),
        help="Uploads go through the server's memory. Larger ones: give their path.",
    )  # fmt: skip
    uploads = () if given is None else (given,) if single else tuple(given)
    if not uploads and not optional:
        st.caption("Files that lie on the server already need no upload: give their path.")
    return Videos(uploads=uploads, single=single, optional=optional)


def pick(key: str, found: Sequence[Job], new: str) -> Job | None:
    """The job to look at: None for a new one. The page's address keeps the choice, and at first a
    running one is shown."""
    names = [job.name for job in found]
    options = ["", *names]
    if (coming := st.session_state.pop(f"{key}-next", None)) is not None:
        st.session_state[key] = coming
    if st.session_state.get(key) not in options:
        asked = st.query_params.get("run", "")
        running = next((job.name for job in found if job.running()), "")
        st.session_state[key] = asked if asked in names else running
    name = st.selectbox("Show", options, key=key, format_func=lambda n: n or new)
    if name:
        st.query_params["run"] = name
    elif "run" in st.query_params:
        del st.query_params["run"]
    return next((job for job in found if job.name == name), None)


def form_or_job(
    key: str, folder: str, new: str, form: Callable[[], None], watch: Callable[[Job], None]
) -> None:
    """A page of jobs: the one that is picked, or the form of a new one; errors in one line."""
    with errors_shown():
        job = pick(key, jobs.all_jobs(home() / folder), new)
        if job is None:
            form()
        else:
            watch(job)


def show_next(key: str, job: Job) -> None:
    """Have `pick` choose this job, now."""
    st.session_state[f"{key}-next"] = job.name
    st.rerun()


def follower(job: Job, path: Path) -> Follower:
    """Of this session: what it has read of a job's file is not read again, until the job begins
    anew."""
    began = job.facts().get("began")
    known: dict[str, tuple[Any, Follower]] = st.session_state.setdefault("followers", {})
    if str(path) not in known or known[str(path)][0] != began:
        known[str(path)] = began, Follower(path)
    return known[str(path)][1]


def live(job: Job, show: Callable[[], None], running: bool) -> None:
    """Show a part of the page, again and again while the job runs; the whole page is made anew
    when the job has ended, or another page has gone on with it.

    Args:
        running: As the rest of the page has it.
    """
    began = job.facts().get("began")

    def part() -> None:
        with errors_shown():
            show()

    def look() -> None:
        if (job.running(), job.facts().get("began")) != (running, began):
            st.rerun()

    def both() -> None:
        part()
        look()

    if running:
        st.fragment(both, run_every=REFRESH_SECONDS)()
    else:
        st.fragment(part)()
        st.fragment(look, run_every=LOOK_SECONDS)()


def control(job: Job, key: str, going_on: Sequence[str] = (), again: str = "Go on") -> Outcome:
    """The job's state, its error and the end of its log, and buttons to stop it and go on.

    Args:
        going_on: Words that are added to its command when it goes on.
        again: What going on is called.
    """
    outcome = job.outcome()
    if outcome.state == "running":
        if st.button("Stop", key=f"{key}-stop", help="It saves what it has; it can go on later."):
            job.stop()
            st.toast("Asked to stop")
    elif outcome.state == "finished":
        st.success("Finished")
    else:
        tell = st.warning if outcome.state == "stopped" else st.error
        tell(outcome.message)
        if st.button(again if outcome.state == "stopped" else "Try again", key=f"{key}-resume"):
            job.again(*going_on)
            st.rerun()
    tail = job.log_tail()
    if tail or outcome.state == "failed":
        with st.expander("End of the log", expanded=outcome.state == "failed"):
            st.code(tail or "(empty)", language=None)
    with st.expander("Command"):
        st.code(job.command(), language="sh")
    return outcome


def settings_of_lines(text: str) -> dict[str, str]:
    """Settings from lines of NAME=VALUE.

    Raises:
        UsageError: A line is none.
    """
    from sharpreel.system.text import parse_settings

    return parse_settings([line.strip() for line in text.splitlines() if line.strip()])


def hand_over(path: Path, label: str, key: str, mime: str | None = None) -> None:
    """A button that downloads a file, or its path where it is too large for that."""
    if not path.is_file():
        return
    size = path.stat().st_size / 1e6
    if size > HANDED_OVER_MB:
        st.info(f"{path} has {size:.0f} MB: too much for the browser, take it from the server.")
        return
    with path.open("rb") as file:
        st.download_button(label, file, path.name, mime, key=key, on_click="ignore")


def framed(html: str, height: int, width: int | None = None) -> None:
    """A page in the page, as wide as that one where no width is given."""
    if hasattr(st, "iframe"):
        st.iframe(html, height=height, width=width or "stretch")
    else:  # Streamlit before 1.56
        from streamlit.components import v1

        v1.html(html, height=height, width=width, scrolling=True)


def film(path: Path, width: int) -> None:
    """A player of this width, where Streamlit lets one say it; else as wide as the page."""
    known = "width" in inspect.signature(st.video).parameters  # since 1.47
    st.video(str(path), **({"width": width} if known else {}))


def fitted(width: int, height: int) -> tuple[int, int]:
    """The size at which a picture is shown: never enlarged, and at most TALLEST high."""
    share = min(1.0, TALLEST / height)
    return max(round(width * share), 1), max(round(height * share), 1)


def models_made() -> dict[str, Path]:
    """Model files of the studio's own runs and searches, by what they are called there."""
    found: dict[str, Path] = {}
    for kind in (jobs.RUNS, jobs.SEARCHES):
        for job in jobs.all_jobs(home() / kind):
            files = sorted(job.folder.glob("*.safetensors"))
            whole = [f for f in files if f.stem not in ("best",)] or files
            found |= {f"{job.name}: {path.name}": path for path in whole}
    return found


def choose_model(key: str, label: str, first: dict[str, str]) -> str | None:
    """A model by name, of the studio's runs, or a file on the server; None as long as its path
    leads nowhere, which the page says.

    Args:
        first: What can be chosen besides: what it is called -> name or path.
    """
    made = {name: str(path) for name, path in models_made().items()}
    other = "A file on the server"
    name = st.selectbox(label, [*first, *made, other], key=key)
    if name != other:
        return {**first, **made}[name]
    text = st.text_input("Model file", key=f"{key}-file", placeholder="/models/mine.safetensors")
    if text.strip():
        with errors_shown():
            return str(server_path(text))
    else:
        st.caption(NO_MODEL)
    return None
