"""Commands as processes that outlive the page and the server that started them.

A job is a folder. The command writes its results there; the studio's own files are in `studio/`:

    studio/job.json       the command, its process, when it started
    studio/events.jsonl   its standard output: the events of `--json`
    studio/output.log     its standard error
    studio/lock           held by the process as long as it lives
    studio/stop           exists once it was requested to stop
    studio/uploads        videos that were uploaded for this job

The lock is taken before the process starts and inherited by it. The system releases it when the
process is gone, however it ended, so a job is alive exactly while its lock is held: no process id
has to be trusted, and two pages cannot start a job twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sharpreel.errors import UsageError, write_error
from sharpreel.studio.follower import Follower
from sharpreel.system.files import atomic_write

State = Literal["running", "finished", "stopped", "failed"]
SUCCESS_EVENTS = ("trained", "tuned", "evaluated", "done", "skipped")
STOP_ERRORS = ("TerminatedError", "KeyboardInterrupt")  # of a command that was requested to stop
TAIL_BYTES = 6000  # of a log that are shown
QUIET_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Outcome:
    """A job's state; `message` is the command's error when it failed."""

    state: State
    message: str = ""


@dataclass(frozen=True)
class Job:
    """A command, and the folder of its results."""

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
        """Return what `start` wrote: `words`, `about`, `environment`, `pid` and `began`."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / "studio" / "job.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts

    def start(
        self,
        arguments: Sequence[str],
        about: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        program: str = "sharpreel",
    ) -> None:
        """Start `PROGRAM ARGUMENTS...` in its own process and session.

        Args:
            about: Further content of job.json.
            environment: Additional environment variables.
            program: A module that Python runs.

        Raises:
            UsageError: The job is already running, or the folder cannot be written.
        """
        own = self.folder / "studio"
        facts: dict[str, Any] = {
            "words": list(arguments),
            "about": dict(about or {}),
            "pid": None,
            "environment": dict(environment or {}),
            "began": time.time(),
        }
        try:
            own.mkdir(parents=True, exist_ok=True)
            with (own / "lock").open("a") as lock:
                while not lock_file(lock):
                    if self.running():
                        raise UsageError(f"{self.name} is already running.")
                    time.sleep(0.01)  # another page has only tested the lock
                (own / "stop").unlink(missing_ok=True)
                process = self._launch(facts, program, lock)
                atomic_write(own / "job.json", json.dumps(facts | {"pid": process.pid}))
        except OSError as e:
            raise write_error(own, e) from e
        # A parent has to reap its child; the thread ends with it.
        threading.Thread(target=process.wait, daemon=True).start()

    def _launch(self, facts: dict[str, Any], program: str, lock: Any) -> subprocess.Popen[bytes]:
        """Start the process with its events and log in new files, holding the lock."""
        own = self.folder / "studio"
        # A new file, made while the old one exists: a follower of the old one notices.
        new_events = own / "events.jsonl.new"
        with new_events.open("wb") as events, (own / "output.log").open("wb") as log:
            new_events.replace(self.events_path)
            # Until the process id is written nobody can stop the job, nor an earlier process.
            atomic_write(own / "job.json", json.dumps(facts))
            return subprocess.Popen(
                [sys.executable, "-m", program, *facts["words"]],
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                env={**os.environ, **QUIET_ENVIRONMENT, **facts["environment"]},
            )

    def restart(self, *more: str) -> None:
        """Run the same command again, with these arguments added."""
        facts = self.facts()
        arguments = [word for word in facts["words"] if word not in more]
        self.start([*arguments, *more], facts["about"], facts["environment"])

    def command(self) -> str:
        """Return the command as it would be typed."""
        return shlex.join(["sharpreel", *self.facts().get("words", [])])

    def running(self) -> bool:
        try:
            with (self.folder / "studio" / "lock").open("rb") as lock:
                # Shared: two pages that test the lock do not see each other.
                return not lock_file(lock, fcntl.LOCK_SH)
        except OSError:
            return False

    def stop(self) -> None:
        """Request the process and its children to end; a training run saves first."""
        pid = self.facts().get("pid")
        if pid is not None and self.running():
            (self.folder / "studio" / "stop").touch()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)

    def outcome(self) -> Outcome:
        """Return the job's state, and how it ended."""
        if self.running():
            return Outcome("running")
        final = (*SUCCESS_EVENTS, "error")
        last = next((e for e in reversed(self.events()) if e["event"] in final), None)
        if last is None and (self.folder / "studio" / "stop").exists():
            return Outcome("stopped", "Stopped before it started.")
        if last is None:
            return Outcome("failed", "It ended without an error message: killed, or out of memory.")
        if last["event"] != "error":
            return Outcome("finished")
        if last.get("type") in STOP_ERRORS:
            return Outcome("stopped", "Stopped.")
        # After a full disk the command can be resumed, too.
        state: State = "stopped" if last.get("type") == "DiskFullError" else "failed"
        return Outcome(state, str(last.get("message", "")))

    def events(self) -> list[dict[str, Any]]:
        return Follower(self.events_path).read()

    def log_tail(self) -> str:
        """Return the last lines of the command's standard error."""
        try:
            with (self.folder / "studio" / "output.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - TAIL_BYTES, 0))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


def lock_file(file: Any, mode: int = fcntl.LOCK_EX) -> bool:
    """Lock a file until it is closed; False when another process holds a lock on it."""
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
