"""A worker: takes jobs from one lane of the queue and runs them, one at a time, in child processes.

    python -m sharpreel.web.jobs.worker LANE NAME      settings: the first line of standard input

The worker itself opens no video. It starts `sharpreel upscale --json` as a child, writes the
child's events into the database, renews its lease, and stops the child when the user requests it,
the site stops, or the job no longer belongs to this worker. A child that crashes fails its job
and affects nothing else.
"""

from __future__ import annotations

import logging
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from sharpreel.models import DEFAULT_MODEL
from sharpreel.pipeline.events import (
    DoneEvent,
    ErrorEvent,
    Event,
    ProgressEvent,
    SkippedEvent,
    parse_events,
)
from sharpreel.web import logs
from sharpreel.web.jobs import service, storage
from sharpreel.web.jobs.messages import for_users, without_paths
from sharpreel.web.jobs.queue import JobQueue
from sharpreel.web.jobs.store import Job, JobStore
from sharpreel.web.sandbox import process as child_process
from sharpreel.web.settings import Settings, read_settings

if TYPE_CHECKING:
    from sharpreel.web.sandbox.playable import PlayableEvent

    ChildEvent = Event | PlayableEvent

HEARTBEAT_SECONDS = 1.0
THUMBNAIL_SECONDS = 3.0  # at least between two thumbnails
DISK_SECONDS = 5.0
THUMBNAIL_TIMEOUT_SECONDS = 60.0

log = logging.getLogger(__name__)


class JobStopped(Exception):
    """The job does not continue here.

    Attributes:
        reason: "cancelled" or "paused" by the user, "shutdown" of the site, or "lost" lease.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JobFailed(Exception):
    """The job cannot be done; the message is for the user."""


@dataclass
class _ChildResult:
    """How a child process ended, and the final events it printed."""

    exit_code: int = 0
    stderr: str = ""
    done: DoneEvent | None = None
    skipped: SkippedEvent | None = None
    error: ErrorEvent | None = None

    def add(self, event: ChildEvent) -> None:
        if event["event"] == "done":
            self.done = event
        elif event["event"] == "skipped":
            self.skipped = event
        elif event["event"] == "error":
            self.error = event


class Worker:
    """Runs one job at a time.

    Args:
        name: Unique; in the rows of the jobs that it has claimed.
        stopping: Set when the site stops.

    Attributes:
        store: The database.
    """

    def __init__(self, settings: Settings, name: str, stopping: threading.Event) -> None:
        self._settings, self._name, self._stopping = settings, name, stopping
        self.store = JobStore(settings.database)

    def work(self, job_id: str) -> None:
        """Run a job, unless another worker has it or it is not queued any more."""
        if self._stopping.is_set():
            return  # the next start of the site finds it
        job = self.store.claim(job_id, self._name)
        if job is None:
            return
        token = logs.job_id.set(job.id)
        try:
            logs.log_event(log, "job starts", kind=job.kind, crash_count=job.crash_count)
            self._run(job)
        finally:
            logs.job_id.reset(token)

    def _run(self, job: Job) -> None:
        try:
            run = self._upscale_video if job.kind == "upscale" else self._make_sample
            self._end(job, "done", eta_seconds=0, stage="", **run(job))
        except JobStopped as e:
            logs.log_event(log, "job stopped", reason=e.reason)
            self._stopped(job, e.reason)
        except JobFailed as e:
            self._end(job, "failed", error=str(e))
        except Exception:
            log.exception("job failed unexpectedly")
            self._end(job, "failed", error="Something went wrong on the server; see its log.")
        if (now := self.store.job(job.id)) is None or now.state == "deleted":
            shutil.rmtree(self._settings.job_folder(job.id), ignore_errors=True)

    def _stopped(self, job: Job, reason: str) -> None:
        if reason == "shutdown":
            self._update(job, state="queued", worker=None, lease=None)
        elif reason == "paused":
            self._update(job, state="paused", worker=None, lease=None)
            if self.store.cancel_if_requested(job.id):
                storage.delete_work(self._settings, job)
        elif reason == "cancelled":
            storage.delete_work(self._settings, job)
            self._end(job, "cancelled")

    def _end(self, job: Job, state: str, **values: Any) -> None:
        final = {"finished": time.time(), "worker": None, "lease": None, "requested_state": ""}
        self._update(job, state=state, **final, **values)
        logs.log_event(log, f"job {state}", **{k: v for k, v in values.items() if k == "error"})

    def _update(self, job: Job, **values: Any) -> None:
        self.store.change_own_job(job.id, self._name, **values)

    def _upscale_video(self, job: Job) -> dict[str, Any]:
        """Upscale the complete video; returns the columns that describe the result."""
        options, folder = job.options, self._settings.job_folder(job.id)
        output_folder = folder / "output"
        output_folder.mkdir(exist_ok=True)
        container = options.get("container")
        target = output_folder / f"video.{container}" if container else output_folder
        update = partial(self._update, job)
        monitor = _VideoMonitor(self._settings, job, output_folder, update)
        arguments = ["-o", target, *service.cli_options(options, self._settings.cluster)]
        ended = self._upscale(job, arguments, monitor.on_event)
        output = _only_file(output_folder)
        if output is None:
            reason = ended.skipped["reason"] if ended.skipped else "there is no output"
            raise JobFailed(f"Nothing to do: {reason}.")
        notes, total = monitor.notes, job.frames
        if ended.done is not None:
            notes += ended.done["notes"]
            total = ended.done["frames"]
            if lost := ended.done["lost"]:
                notes.append(f"{lost} frames could not be decoded and are missing")
        self._update(job, stage="player")
        after, before = self._convert_for_playback(
            job,
            (output, folder / "play-after", 1),
            (storage.input_of(self._settings, job), folder / "play-before", 0),
        )
        for side, event in (("input", before), ("result", after)):
            if event is None or "play" not in event:
                notes.append(f"the {side} cannot be played in the page")
        assert after is not None
        result = {
            "file": str(output.relative_to(folder)),
            "name": _result_name(job, output),
            "bytes": after["bytes"],
            "width": after["width"],
            "height": after["height"],
            "sha256": after["sha256"],
        }
        if any("plays_seconds" in event for event in (before, after) if event is not None):
            result["plays_seconds"] = self._settings.limits.play_seconds
        return {
            "result": result,
            "notes": list(map(for_users, notes)),
            "frames": total,
            "total": total,
        }

    def _make_sample(self, job: Job) -> dict[str, Any]:
        """Upscale a few seconds by each model; returns the columns that describe the results."""
        folder, models = self._settings.job_folder(job.id), job.options["models"]
        results = []
        for index, model in enumerate(models):
            output_folder = folder / f"output-{model}"
            output_folder.mkdir(exist_ok=True)

            def on_event(event: ChildEvent, index: int = index) -> None:
                if event["event"] in ("progress", "segment"):
                    self._report_sample_progress(job, event, index, len(models))

            arguments = ["-o", output_folder, f"--model={model}", *_sample_options(job)]
            self._upscale(job, arguments, on_event)
            output = _only_file(output_folder)
            assert output is not None
            (event,) = self._convert_for_playback(job, (output, folder / f"sample-{model}", 0))
            assert event is not None
            if "play" not in event:
                raise JobFailed(
                    f"The sample by {model} could not be converted for playback: {event['why']}"
                )
            shutil.rmtree(output_folder)
            results.append({"model": model, "file": event["play"]})
            self._update(job, results=results)
        return {"results": results}

    def _report_sample_progress(
        self, job: Job, event: ProgressEvent, index: int, count: int
    ) -> None:
        """Progress over all models of a sample, of which `index` are finished."""
        if total := event["total"]:
            self._update(
                job,
                stage="upscale",
                frames=index * total + event["frames"],
                total=count * total,
                fps=event["fps"],
                segment=index,
                segments=count,
            )

    def _upscale(
        self, job: Job, arguments: Sequence[object], on_event: Callable[[ChildEvent], None]
    ) -> _ChildResult:
        """Run `sharpreel upscale` on the job's input.

        Raises:
            JobStopped: It was stopped.
            JobFailed: It failed.
        """
        settings = self._settings
        ended = self._run_child(
            job,
            "sharpreel",
            [
                "upscale",
                storage.input_of(settings, job),
                "--json",
                "--skip-existing",
                f"--segment-seconds={settings.segment_seconds}",
                *arguments,
            ],
            on_event,
        )
        if ended.done is None and ended.skipped is None:
            raise JobFailed(self._failure_message(job, ended))
        return ended

    def _convert_for_playback(
        self, job: Job, *sources: tuple[Path, Path, int]
    ) -> list[PlayableEvent | None]:
        """Have playable files made; see `sandbox.playable` for the sources and the events.

        A source that crashes the child has no event; the first must not crash it.

        Raises:
            JobStopped: It was stopped.
            JobFailed: It failed for the first source.
        """
        events: list[PlayableEvent | None] = []

        def on_event(event: ChildEvent) -> None:
            if event["event"] == "play":
                events.append(event)

        arguments = [argument for source in sources for argument in source]
        ended = self._run_child(
            job,
            "sharpreel.web.sandbox.playable",
            [self._settings.limits.play_seconds, *arguments],
            on_event,
        )
        if not events:
            raise JobFailed(self._failure_message(job, ended))
        return events + [None] * (len(sources) - len(events))

    def _failure_message(self, job: Job, ended: _ChildResult) -> str:
        """What the failure of a child process means, for the user."""
        logs.log_event(
            log, "child failed", logging.WARNING, code=ended.exit_code, stderr=ended.stderr[-2000:]
        )
        if ended.error is not None:
            source = storage.input_of(self._settings, job)
            return without_paths(ended.error["message"], source, job.name)
        if ended.exit_code == -signal.SIGKILL:
            return "The process was killed by the system, most likely out of memory."
        if ended.exit_code < 0:
            name = signal.Signals(-ended.exit_code).name
            return f"The decoder or the network crashed ({name}). The video may be damaged."
        return "The process exited without an error message; see the server log."

    def _run_child(
        self,
        job: Job,
        module: str,
        arguments: Sequence[object],
        on_event: Callable[[ChildEvent], None],
    ) -> _ChildResult:
        """Run a module in a child process to its end, and report its events.

        Raises:
            JobStopped: It was stopped, for a reason other than failure.
            JobFailed: It was stopped because it violated a limit.
        """
        limits = child_process.ResourceLimits(
            memory=self._settings.limits.job_bytes,
            lock=str(storage.lock_of(self._settings, job)),
        )
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        errors: deque[str | None] = deque(maxlen=50)
        result = _ChildResult()
        with child_process.start(module, arguments, limits) as process:
            threads = [
                threading.Thread(target=_read_lines, args=(process.stdout, lines.put)),
                threading.Thread(target=_read_lines, args=(process.stderr, errors.append)),
            ]
            for thread in threads:
                thread.start()
            try:
                self._supervise(job, lines, result, on_event)
                process.wait()
            finally:
                _end_process(process)
                for thread in threads:
                    thread.join()
        result.exit_code = process.returncode
        result.stderr = "".join(line for line in errors if line)
        return result

    def _supervise(
        self,
        job: Job,
        lines: queue.SimpleQueue[str | None],
        result: _ChildResult,
        on_event: Callable[[ChildEvent], None],
    ) -> None:
        """Handle a child's events until its output ends; meanwhile check lease, disk, progress."""
        heartbeat = disk_check = last_event = time.monotonic()
        while True:
            with suppress(queue.Empty):
                line = lines.get(timeout=HEARTBEAT_SECONDS / 4)
                if line is None:
                    return
                for event in cast("list[ChildEvent]", parse_events(line)):
                    result.add(event)
                    on_event(event)
                    last_event = time.monotonic()
            now = time.monotonic()
            if now >= heartbeat:
                heartbeat = now + HEARTBEAT_SECONDS
                self._check_lease(job)
                if now - last_event > self._settings.limits.stall_seconds:
                    raise JobFailed("It made no progress for too long and was stopped.")
            if now >= disk_check:
                disk_check = now + DISK_SECONDS
                self._check_disk()

    def _check_lease(self, job: Job) -> None:
        """Renew the lease.

        Raises:
            JobStopped: The child must not continue.
        """
        if self._stopping.is_set():
            raise JobStopped("shutdown")
        now = self.store.renew_lease(job.id, self._name)
        if now is None:
            raise JobStopped("lost")
        if now.requested_state:
            raise JobStopped(now.requested_state)

    def _check_disk(self) -> None:
        """Stop before the disk is full.

        Raises:
            JobFailed: It nearly is, or the quota is used up.
        """
        if not storage.make_room(self._settings, self.store):
            raise JobFailed("The server's disk is full. Try again later.")


class _VideoMonitor:
    """Handles the events of upscaling a video: progress, thumbnails, and the limit on its length.

    Args:
        update: Changes columns of the job.

    Attributes:
        notes: Notes of the plan.
    """

    def __init__(
        self, settings: Settings, job: Job, output_folder: Path, update: Callable[..., None]
    ) -> None:
        self._update = update
        self._max_pixels = settings.limits.result_pixels
        self._thumbnails = _ThumbnailUpdater(
            storage.input_of(settings, job), output_folder, settings.job_folder(job.id)
        )
        self._frame_pixels = 0
        self.notes: list[str] = []

    def on_event(self, event: ChildEvent) -> None:
        """Handle an event.

        Raises:
            JobFailed: The video is longer than its header claims, and too long.
        """
        if event["event"] == "start":
            self.notes = list(event["notes"])
            self._frame_pixels = event["to"]["width"] * event["to"]["height"]
            notes = list(map(for_users, self.notes))
            self._update(notes=notes, segments=event["segments"], stage="upscale")
        elif event["event"] in ("progress", "resume", "segment"):
            self._on_progress(event)

    def _on_progress(self, event: ProgressEvent) -> None:
        self._update(
            stage=event["stage"],
            frames=event["frames"],
            total=event["total"],
            fps=event["fps"],
            eta_seconds=event["eta_seconds"],
            segment=event["segment"],
        )
        if event["frames"] * self._frame_pixels > self._max_pixels:
            raise JobFailed(
                "The video is longer than its header claims and exceeds this site's limit."
            )
        self._thumbnails.update(replace_existing=event["event"] == "segment")


class _ThumbnailUpdater:
    """Updates the thumbnails of a job now and then, in a child that nobody waits for."""

    def __init__(self, source: Path, output_folder: Path, target: Path) -> None:
        self._source, self._output_folder, self._target = source, output_folder, target
        self._next, self._thread = 0.0, threading.Thread()

    def update(self, replace_existing: bool) -> None:
        """Update the thumbnails if it is time to."""
        now = time.monotonic()
        if now < self._next or self._thread.is_alive():
            return
        if not replace_existing and (self._target / "after.jpg").exists():
            return
        self._next = now + THUMBNAIL_SECONDS
        work = next(self._output_folder.glob("*.sharpreel"), None)
        if work is not None and _has_segment_data(work):
            limits = child_process.ResourceLimits(memory=4 << 30, cpu_seconds=60)
            self._thread = threading.Thread(
                target=child_process.run,
                args=(
                    "sharpreel.web.sandbox.thumbnails",
                    [self._source, work, self._target],
                    limits,
                    THUMBNAIL_TIMEOUT_SECONDS,
                ),
                daemon=True,
            )
            self._thread.start()


def _has_segment_data(work: Path) -> bool:
    """Has a segment, or part of one, reached the disk?"""
    for path in work.glob("*seg-*"):
        with suppress(OSError):  # it was renamed meanwhile
            if path.stat().st_size:
                return True
    return False


def _sample_options(job: Job) -> list[str]:
    """Options of `sharpreel upscale` for all models of a sample."""
    options = job.options
    return [
        f"--scale={options['scale']}",
        f"--start={options['start']}",
        f"--end={options['start'] + options['seconds']}",
        "--codec=h264",
        "--pix-fmt=yuv420p",
        "--crf=15",
    ]


def _read_lines(stream: Any, put: Callable[[str | None], None]) -> None:
    for line in stream:
        put(line)
    put(None)


def _end_process(process: subprocess.Popen[str]) -> None:
    """Terminate a child, and kill it if it does not end in time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(child_process.GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _only_file(folder: Path) -> Path | None:
    """The finished file in an output folder."""
    return next((path for path in sorted(folder.iterdir()) if path.is_file()), None)


def _result_name(job: Job, output: Path) -> str:
    """File name of a downloaded result."""
    stem = PurePosixPath(job.name).stem if job.suffix else job.name
    ending = output.stem.removeprefix("input")
    if job.options.get("container"):
        scale = job.options.get("scale")
        scale_ending = "" if scale is None else f"_x{scale:g}"
        ending = f"_{job.options.get('model') or DEFAULT_MODEL}{scale_ending}"
    return f"{stem}{ending}{output.suffix}"


def main() -> int:
    lane, name = sys.argv[1:]
    settings = read_settings()
    logs.configure(name)
    child_process.exit_with_parent()
    stopping = threading.Event()
    worker = Worker(settings, name, stopping)
    consumer = JobQueue(settings, lane, worker.work).huey.create_consumer(
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
