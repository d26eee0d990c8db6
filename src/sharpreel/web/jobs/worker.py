"""A worker: takes jobs from one lane of the queue and has them made, one at a time, by children.

    python -m sharpreel.web.worker LANE NAME      settings: the first line of standard input

The worker itself opens no video. It starts `sharpreel upscale --json` as a child, writes what that
tells into the table, renews its lease, and stops the child when the user wishes so, the site ends,
or the job is not its own any more. A child that dies takes its job with it and nothing else.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sharpreel.errors import ResumableError
from sharpreel.models import DEFAULT_MODEL
from sharpreel.web import logs
from sharpreel.web.jobs import service, storage
from sharpreel.web.jobs.queue import Queue
from sharpreel.web.jobs.store import Job, JobStore
from sharpreel.web.sandbox import process as process_module
from sharpreel.web.settings import Settings

BEAT_SECONDS = 1.0
FRAME_SECONDS = 3.0  # between two looks at the newest place
DISK_SECONDS = 5.0
FRAME_PATIENCE = 60.0

log_of = logging.getLogger("sharpreel.web.jobs.worker")

Event = dict[str, Any]


class Stopped(Exception):
    """The job does not go on here; `why` is "cancel", "pause", "stop" or "lost"."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Failed(Exception):
    """The job cannot be made; the message is for the user."""


@dataclass
class _Watched:
    """What a child told, until it ended."""

    code: int
    events: dict[str, Event] = field(default_factory=dict)
    words: str = ""


class Worker:
    """Makes one job at a time.

    Args:
        name: Stands in the rows of the jobs that are its own.
        stopping: Tells that the site ends.

    Attributes:
        store: The table of jobs.
    """

    def __init__(self, settings: Settings, name: str, stopping: threading.Event) -> None:
        self._settings, self._name, self._stopping = settings, name, stopping
        self.store = JobStore(settings.database)

    def work(self, job_id: str) -> None:
        """Make a job, unless another worker has it or it waits no more."""
        if self._stopping.is_set():
            return  # it is found again by the next start
        job = self.store.claim(job_id, self._name)
        if job is None:
            return
        token = logs.job_id.set(job.id)
        try:
            logs.say(log_of, "job begins", kind=job.kind, deaths=job.deaths)
            self._make(job)
        finally:
            logs.job_id.reset(token)

    def _make(self, job: Job) -> None:
        try:
            made = self._film(job) if job.kind == "upscale" else self._sample(job)
            self._end(job, "done", eta_seconds=0, stage="", **made)
        except Stopped as e:
            logs.say(log_of, "job stopped", why=e.why)
            if e.why == "stop":
                self.store.change_mine(job.id, self._name, state="queued", worker=None, lease=None)
            elif e.why == "pause":
                self.store.change_mine(job.id, self._name, state="paused", worker=None, lease=None)
                if self.store.cancel_as_wished(job.id):
                    storage.forget_work(self._settings, job)
            elif e.why == "cancel":
                storage.forget_work(self._settings, job)
                self._end(job, "cancelled")
        except Failed as e:
            self._end(job, "failed", error=str(e))
        except Exception:
            log_of.exception("job failed unexpectedly")
            self._end(job, "failed", error="Something went wrong on the server; see its log.")
        if (now := self.store.job(job.id)) is None or now.state == "deleted":
            shutil.rmtree(storage.folder_of(self._settings, job), ignore_errors=True)

    def _end(self, job: Job, state: str, **values: Any) -> None:
        self.store.change_mine(
            job.id, self._name, state=state, finished=time.time(), worker=None, lease=None,
            wish="", **values,
        )  # fmt: skip
        logs.say(log_of, f"job {state}", **{k: v for k, v in values.items() if k == "error"})

    def _film(self, job: Job) -> dict[str, Any]:
        """Make the whole film; the columns that tell of it."""
        options, folder = job.options, storage.folder_of(self._settings, job)
        made = folder / "made"
        made.mkdir(exist_ok=True)
        target = made / f"film.{options['container']}" if options.get("container") else made
        looking = _ThumbnailUpdater(storage.input_of(self._settings, job), made, folder)
        notes: list[str] = []
        pixels = 0  # of a frame

        def told(event: Event) -> None:
            nonlocal pixels
            if event["event"] == "start":
                notes[:] = event["notes"]
                pixels = event["to"]["width"] * event["to"]["height"]
                self._tell(job, notes=notes, segments=event["segments"], stage="upscale")
            elif event["event"] in ("progress", "resume", "segment"):
                self._progress(job, event)
                if event["frames"] * pixels > self._settings.limits.result_pixels:
                    raise Failed("The video is longer than it says, and than is made here.")
                looking.look(again=event["event"] == "segment")

        words = service.words_of(options, self._settings.cluster)
        watched = self._upscale(job, ["-o", target, *words], told)
        output = _only_file(made)
        if output is None:
            raise Failed(f"Nothing to do: {watched.events['skipped']['reason']}.")
        done = watched.events.get("done", {})
        notes += done.get("notes", [])
        if done.get("lost"):
            notes.append(f"{done['lost']} frames did not decode and are missing")
        self._tell(job, stage="player")
        after, before = self._play(
            job, (output, folder / "play-after", 1),
            (storage.input_of(self._settings, job), folder / "play-before", 0),
        )  # fmt: skip
        for side, facts in (("input", before), ("result", after)):
            if "play" not in facts:
                notes.append(f"the {side} cannot be played in the page")
        result = {
            "file": str(output.relative_to(folder)),
            "name": _result_name(job, output),
            **{key: after[key] for key in ("bytes", "width", "height", "sha256")},
        }
        if any("plays_seconds" in facts for facts in (before, after)):
            result["plays_seconds"] = self._settings.limits.play_seconds
        total = done.get("frames", job.frames)
        return {"result": result, "notes": notes, "frames": total, "total": total}

    def _sample(self, job: Job) -> dict[str, Any]:
        """Make some seconds by each network; the columns that tell of it."""
        options, folder = job.options, storage.folder_of(self._settings, job)
        start, end = options["start"], options["start"] + options["seconds"]
        results = []
        for number, model in enumerate(options["models"]):
            made = folder / f"made-{model}"
            made.mkdir(exist_ok=True)

            def told(event: Event, done: int = number) -> None:
                if event["event"] in ("progress", "segment") and event["total"]:
                    total, ready = event["total"], done * event["total"] + event["frames"]
                    whole = len(options["models"]) * total
                    self._tell(
                        job, stage="upscale", frames=ready, total=whole, fps=event["fps"],
                        segment=done, segments=len(options["models"]),
                    )  # fmt: skip

            words = [
                "-o", made, f"--model={model}", f"--scale={options['scale']}",
                f"--start={start}", f"--end={end}", "--codec=h264", "--pix-fmt=yuv420p",
                "--crf=15",
            ]  # fmt: skip
            self._upscale(job, words, told)
            output = _only_file(made)
            assert output is not None
            (facts,) = self._play(job, (output, folder / f"sample-{model}", 0))
            if "play" not in facts:
                raise Failed(f"The sample by {model} cannot be made playable: {facts['why']}")
            shutil.rmtree(made)
            results.append({"model": model, "file": facts["play"]})
            self._tell(job, results=results)
        return {"results": results}

    def _upscale(
        self, job: Job, words: Sequence[object], told: Callable[[Event], None]
    ) -> _Watched:
        """Run `sharpreel upscale` on the job's input.

        Raises:
            Stopped: On the way.
            Failed: By itself.
        """
        settings = self._settings
        arguments = [
            "upscale", storage.input_of(settings, job), "--json", "--skip-existing",
            f"--segment-seconds={settings.segment_seconds}", *words,
        ]  # fmt: skip
        watched = self._watch(job, "sharpreel", arguments, told)
        if "done" not in watched.events and "skipped" not in watched.events:
            raise Failed(self._why(job, watched))
        return watched

    def _play(self, job: Job, *sources: tuple[Path, Path, int]) -> list[Event]:
        """Have playable files made; see `play.py` for what a source is and what is told of it.

        Nothing is told of one that broke the child, but the first must not.

        Raises:
            Stopped: On the way.
            Failed: By itself.
        """
        facts: list[Event] = []
        words = [word for source in sources for word in source]
        watched = self._watch(
            job,
            "sharpreel.web.sandbox.playable",
            [self._settings.limits.play_seconds, *words],
            facts.append,
        )
        if not facts:
            raise Failed(self._why(job, watched))
        return facts + [{}] * (len(sources) - len(facts))

    def _why(self, job: Job, watched: _Watched) -> str:
        """What a child that failed means to the user."""
        logs.say(
            log_of, "child failed", level=logging.WARNING, code=watched.code,
            said=watched.words[-2000:],
        )  # fmt: skip
        if error := watched.events.get("error"):
            source = storage.input_of(self._settings, job)
            return service.without_paths(str(error["message"]), source, job)
        if watched.code == -signal.SIGKILL:
            return "It was stopped by the system, most likely for want of memory."
        if watched.code < 0:
            name = signal.Signals(-watched.code).name
            return f"The decoder or the network broke ({name}). The video may be damaged."
        return "It ended without a word; whoever runs the site finds more in the log."

    def _watch(
        self,
        job: Job,
        module: str,
        arguments: Sequence[object],
        told: Callable[[Event], None],
    ) -> _Watched:
        """Run a child to its end and hand on what it tells.

        Raises:
            Stopped: It was stopped, for a reason other than failure.
            Failed: It was stopped because of what it did.
        """
        limits = self._settings.limits
        bounds = process_module.ResourceLimits(
            memory=limits.job_bytes, lock=str(storage.folder_of(self._settings, job) / "lock")
        )
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        words: deque[str | None] = deque(maxlen=50)
        with process_module.start(module, arguments, bounds) as process:
            threads = [
                threading.Thread(target=_pump, args=(process.stdout, lines.put)),
                threading.Thread(target=_pump, args=(process.stderr, words.append)),
            ]
            for thread in threads:
                thread.start()
            try:
                events = self._listen(job, lines, told)
                process.wait()
            finally:
                _end_process(process)
                for thread in threads:
                    thread.join()
        return _Watched(process.returncode, events, "".join(w for w in words if w))

    def _listen(
        self,
        job: Job,
        lines: queue.SimpleQueue[str | None],
        told: Callable[[Event], None],
    ) -> dict[str, Event]:
        """The last event of each kind, when there are no more lines."""
        events: dict[str, Event] = {}
        beat = disk = heard = time.monotonic()
        while True:
            try:
                line = lines.get(timeout=BEAT_SECONDS / 4)
                if line is None:
                    return events
                for event in service.events(line):
                    events[event["event"]] = event
                    told(event)
                    heard = time.monotonic()
            except queue.Empty:
                pass
            now = time.monotonic()
            if now >= beat:
                beat = now + BEAT_SECONDS
                self._check(job)
                if now - heard > self._settings.limits.stall_seconds:
                    raise Failed("It made no progress for too long and was stopped.")
            if now >= disk:
                disk = now + DISK_SECONDS
                self._check_disk()

    def _check(self, job: Job) -> None:
        """Renew the lease.

        Raises:
            Stopped: The child shall not go on.
        """
        if self._stopping.is_set():
            raise Stopped("stop")
        now = self.store.renew(job.id, self._name)
        if now is None:
            raise Stopped("lost")
        if now.wish:
            raise Stopped(now.wish)

    def _check_disk(self) -> None:
        """Stop before the disk is full.

        Raises:
            Failed: It nearly is, or the quota is used up.
        """
        if not storage.make_room(self._settings, self.store):
            raise Failed("The server's disk is full. Try again later.")

    def _tell(self, job: Job, **values: Any) -> None:
        self.store.change_mine(job.id, self._name, **values)

    def _progress(self, job: Job, event: Event) -> None:
        self._tell(
            job, stage=event["stage"], frames=event["frames"], total=event["total"],
            fps=event["fps"], eta_seconds=event["eta_seconds"], segment=event["segment"],
        )  # fmt: skip


class _ThumbnailUpdater:
    """Has the newest place of a job shown now and then, by a child that nobody waits for."""

    def __init__(self, source: Path, made: Path, target: Path) -> None:
        self._source, self._made, self._target = source, made, target
        self._next, self._thread = 0.0, threading.Thread()

    def look(self, again: bool) -> None:
        """Have the newest place shown, if it is time; `again`: though one was shown before."""
        now = time.monotonic()
        if now < self._next or self._thread.is_alive():
            return
        if not again and (self._target / "after.jpg").exists():
            return
        self._next = now + FRAME_SECONDS
        work = next(self._made.glob("*.sharpreel"), None)
        if work is not None and _holds_something(work):
            words = [self._source, work, self._target]
            bounds = process_module.ResourceLimits(memory=4 << 30, cpu_seconds=60)
            self._thread = threading.Thread(
                target=process_module.run,
                args=("sharpreel.web.sandbox.thumbnails", words, bounds, FRAME_PATIENCE),
                daemon=True,
            )
            self._thread.start()


def _holds_something(work: Path) -> bool:
    """Has a segment reached the disk, or some of one?"""
    for path in work.glob("*seg-*"):
        with suppress(OSError):  # it got its name meanwhile
            if path.stat().st_size:
                return True
    return False


def _pump(stream: Any, put: Callable[[str | None], None]) -> None:
    for line in stream:
        put(line)
    put(None)


def _end_process(process: subprocess.Popen[str]) -> None:
    """Tell a child to end, and see to it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(process_module.GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _only_file(folder: Path) -> Path | None:
    """The finished file in a folder where one is made."""
    return next((path for path in sorted(folder.iterdir()) if path.is_file()), None)


def _result_name(job: Job, output: Path) -> str:
    """What a downloaded result is called."""
    stem = PurePosixPath(job.name).stem if job.suffix else job.name
    made = output.stem.removeprefix("input")
    if job.options.get("container"):
        scale = job.options.get("scale")
        by = "" if scale is None else f"_x{scale:g}"
        made = f"_{job.options.get('model') or DEFAULT_MODEL}{by}"
    return f"{stem}{made}{output.suffix}"


def read_settings() -> Settings:
    """The settings that whoever started this process wrote to its standard input."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            raise ResumableError("The site ended before this process began.")
        line += piece
    return Settings.from_json(line)


def main() -> int:
    lane, name = sys.argv[1:]
    settings = read_settings()
    logs.set_up(name)
    process_module.die_with_parent()
    stopping = threading.Event()
    worker = Worker(settings, name, stopping)
    consumer = Queue(settings, lane, worker.work).huey.create_consumer(
        workers=1, periodic=False, initial_delay=0.1, max_delay=1.0, backoff=1.15
    )
    consumer.start()
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while not stopping.wait(10):
        consumer.check_worker_health()
    consumer.stop(graceful=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
