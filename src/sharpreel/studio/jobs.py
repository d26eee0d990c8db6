"""Commands as processes of their own, which outlive the page and the server that began them.

A job is a folder. The command writes its results there; `studio/` in it is ours:

    studio/job.json       the command, its process, when it began
    studio/events.jsonl   its standard output: what `--json` tells
    studio/output.log     its standard error
    studio/lock           held by the process as long as it lives
    studio/stop           there when it was asked to end
    studio/uploads        videos that were uploaded for it, and for no other

The lock is taken before the process begins and inherited by it. The system lets go of it when the
process is gone, however it ended, so a job is alive exactly while its lock is held: no number of a
process has to be trusted, and two pages cannot begin one job twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sharpreel.errors import UsageError, write_error
from sharpreel.system.files import atomic_write

State = Literal["running", "finished", "stopped", "failed"]
ENDED = ("trained", "tuned", "evaluated", "done", "skipped")  # events after which all is well
ASKED = ("TerminatedError", "KeyboardInterrupt")  # errors of what was asked to end
TAIL_BYTES = 6000  # of a log that are shown


@dataclass(frozen=True)
class Outcome:
    """How a job is, or ended; `message` is the command's own last word where it failed."""

    state: State
    message: str = ""


@dataclass(frozen=True)
class Job:
    """One command and the folder of its results."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def events_path(self) -> Path:
        return self.folder / "studio" / "events.jsonl"

    @property
    def uploads(self) -> Path:
        return self.folder / "studio" / "uploads"

    def exists(self) -> bool:
        return (self.folder / "studio" / "job.json").is_file()

    def facts(self) -> dict[str, Any]:
        """What `start` wrote: `words`, `about`, `environment`, `pid` and `began`."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / "studio" / "job.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts

    def start(
        self,
        words: Sequence[str],
        about: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        program: str = "sharpreel",
    ) -> None:
        """Begin `PROGRAM WORDS...` in a process and a session of its own.

        Args:
            about: More to be kept in job.json.
            environment: Variables that it gets besides ours.
            program: A module that Python runs.

        Raises:
            UsageError: It is under way already, or the folder cannot be written.
        """
        own = self.folder / "studio"
        facts: dict[str, Any] = {"words": list(words), "about": dict(about or {}), "pid": None,
                 "environment": dict(environment or {}), "began": time.time()}  # fmt: skip
        try:
            own.mkdir(parents=True, exist_ok=True)
            with (own / "lock").open("a") as lock:
                while not _held(lock):
                    if self.running():
                        raise UsageError(f"{self.name} is under way already.")
                    time.sleep(0.01)  # somebody has only looked
                (own / "stop").unlink(missing_ok=True)
                # Another file, made while the old one is there: whoever follows that one sees it.
                fresh = own / "events.jsonl.new"
                with fresh.open("wb") as told, (own / "output.log").open("wb") as log:
                    fresh.replace(self.events_path)
                    # Until its number is known nobody can stop it, but neither can one that was.
                    atomic_write(own / "job.json", json.dumps(facts))
                    process = subprocess.Popen(
                        [sys.executable, "-m", program, *words],
                        stdin=subprocess.DEVNULL, stdout=told, stderr=log,
                        start_new_session=True, pass_fds=[lock.fileno()],
                        env={**os.environ, **QUIET, **facts["environment"]},
                    )  # fmt: skip
                atomic_write(own / "job.json", json.dumps(facts | {"pid": process.pid}))
        except OSError as e:
            raise write_error(own, e) from e
        # Whoever begins a process has to see it off; the thread ends with it.
        threading.Thread(target=process.wait, daemon=True).start()

    def again(self, *more: str) -> None:
        """The same command once more, with these words added."""
        facts = self.facts()
        words = [word for word in facts["words"] if word not in more]
        self.start([*words, *more], facts["about"], facts["environment"])

    def command(self) -> str:
        """What could have been typed."""
        return shlex.join(["sharpreel", *self.facts().get("words", [])])

    def running(self) -> bool:
        try:
            with (self.folder / "studio" / "lock").open("rb") as lock:
                return not _held(lock, fcntl.LOCK_SH)  # two who look do not see each other
        except OSError:
            return False

    def stop(self) -> None:
        """Ask the process, and those it began, to end; a training saves first."""
        pid = self.facts().get("pid")
        if pid is not None and self.running():
            (self.folder / "studio" / "stop").touch()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)

    def outcome(self) -> Outcome:
        if self.running():
            return Outcome("running")
        last = next((e for e in reversed(self.events()) if e["event"] in (*ENDED, "error")), None)
        if last is None and (self.folder / "studio" / "stop").exists():
            return Outcome("stopped", "Stopped before it had begun.")
        if last is None:
            return Outcome("failed", "It ended without a word: killed, or out of memory.")
        if last["event"] != "error":
            return Outcome("finished")
        if last.get("type") in ASKED:
            return Outcome("stopped", "Stopped.")
        # After a full disk, too, the command goes on.
        state: State = "stopped" if last.get("type") == "DiskFullError" else "failed"
        return Outcome(state, str(last.get("message", "")))

    def events(self) -> list[dict[str, Any]]:
        return Follower(self.events_path).read()

    def log_tail(self) -> str:
        """The last lines of its standard error."""
        try:
            with (self.folder / "studio" / "output.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - TAIL_BYTES, 0))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONUNBUFFERED": "1"}


def _held(lock: Any, how: int = fcntl.LOCK_EX) -> bool:
    """Hold the lock until its file is closed; False when another does."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Follower:
    """Reads lines of JSON as they are added to a file: each `read` gives all so far.

    `seen` has the time at which each row was read first, seconds of `time.monotonic`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[float] = []
        self._rows: list[dict[str, Any]] = []
        self._at = 0
        self._file: int | None = None  # its inode: a file begun anew is another one

    def read(self) -> list[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                now = os.fstat(file.fileno())
                if now.st_ino != self._file or now.st_size < self._at:
                    self._rows, self._at, self._file = [], 0, now.st_ino
                    self.seen = []
                file.seek(self._at)
                new = file.read()
        except OSError:
            return self._rows
        whole = new[: new.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):  # a line that a crash tore
                row = json.loads(line)
                if isinstance(row, dict):
                    self._rows.append(row)
        self.seen += [time.monotonic()] * (len(self._rows) - len(self.seen))
        return self._rows


# The studio's folder -------------------------------------------------------------------------

FOLDER_VARIABLE = "SHARPREEL_STUDIO"
RUNS, SEARCHES, TESTS = "runs", "searches", "tests"
UPLOAD_MB = 500  # of one file: the server holds uploads in memory
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,79}")


def home() -> Path:
    """The folder that `sharpreel studio` was given."""
    return Path(os.environ.get(FOLDER_VARIABLE, "studio")).resolve()


def mlflow_job(folder: Path) -> Job:
    """MLflow's server, begun from a page; `sharpreel studio` ends it when it ends itself."""
    return Job(folder / "mlflow")


def all_jobs(folder: Path) -> list[Job]:
    """The jobs in a folder, the newest first."""
    if not folder.is_dir():
        return []
    found = [Job(path) for path in folder.iterdir() if Job(path).exists()]
    return sorted(found, key=lambda job: job.facts().get("began", 0), reverse=True)


@contextlib.contextmanager
def new_job(folder: Path, name: str) -> Iterator[Job]:
    """A job of this name, whose folder is made here and is nobody else's.

    What is raised inside takes the folder away again, unless the job has begun.

    Raises:
        UsageError: The name is none for a folder, or taken; or the folder cannot be made.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a run; use letters, digits, dots, dashes and underscores."
        )
    job = Job(folder / name)
    try:
        job.folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{name} is there already; choose another name.") from None
    except OSError as e:
        raise write_error(job.folder, e) from e
    try:
        yield job
    except BaseException:
        if not job.running():
            shutil.rmtree(job.folder, ignore_errors=True)
        raise


def free_name(folder: Path, stem: str) -> str:
    """`stem-1`, or the first number that is not taken."""
    number = 1
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
