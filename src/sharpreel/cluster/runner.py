"""The same run on many machines: Ray carries the segments of a run to them.

    this process                                a worker, any machine
    scan: decode, cue ────resume point───────>  the input from there on (by path, or shipped)
          (no network)                          cues ──> network ──> encoder
    journal <──────── segment, any order ─────  the same code as a local run
    join, verify, name

The scan finds where segments begin, as a local run does on its way. A worker gets a resume point,
computes the one segment after it, and confirms with digests that it decoded the same frames. All
the rest is `upscale.run`: the same plan, journal, check and bytes.

Ray itself lets whoever reaches its ports run code, and listens on every network interface: a
cluster belongs in a network of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharpreel.cluster.ray_cluster import Cluster
from sharpreel.cluster.worker import (
    JobSpec,
    SegmentResult,
    WorkerInfo,
    compute_segment,
    describe_worker,
)
from sharpreel.errors import ResumableError, UsageError, write_error
from sharpreel.models.weights import BUNDLED
from sharpreel.pipeline import journal
from sharpreel.pipeline.journal import Journal, ResumePoint, SegmentRecord, identify
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan, versions
from sharpreel.pipeline.segments import (
    SegmentInput,
    lookback,
    open_at,
    open_remaining,
    remaining_segments,
)
from sharpreel.pipeline.stages import Progress, ProgressCallback, ProgressMeter, Result
from sharpreel.system.resources import usable_cpus
from sharpreel.upscale import run

RETRIES = 3  # times that a segment is computed again after its worker was lost
STRAGGLER = 2.5  # times the median time of a segment; then a second worker starts it too
PATIENCE_SECONDS = 5.0  # but not earlier


def upscale_videos(
    sources: Iterable[str | Path],
    folder: str | Path | None = None,
    options: UpscaleOptions | None = None,
    *,
    cluster: str = "auto",
    cpus_per_task: int | None = None,
    gpus_per_task: float = 0,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> list[Result]:
    """Upscale videos on a Ray cluster, with all of it busy until the last one is done.

    Args:
        sources: Video files, or folders of images.
        folder: Where the outputs go; by default next to the inputs.
        options: See `upscale_video` for each field.
        cluster, cpus_per_task, gpus_per_task: See `Cluster`.
        on_progress: Called with the source and its progress, from a thread for each video.

    Raises:
        SharpreelError: As `upscale_video`. The first video that fails stops the others, and the
            same call resumes them.
    """
    chosen = options or UpscaleOptions()
    target = None if folder is None else Path(folder)
    plans = [make_plan(Path(source), target, chosen) for source in sources]

    def callback(plan: Plan) -> ProgressCallback | None:
        if on_progress is None:
            return None
        return lambda progress: on_progress(str(plan.source), progress)

    with Cluster(cluster, cpus_per_task, gpus_per_task) as connected:
        make_runner = runner_on(connected)
        return connected.map(lambda plan: run(plan, callback(plan), make_runner), plans)


def runner_on(cluster: Cluster) -> Callable[[Plan], RaySegmentRunner]:
    """A factory of segment runners on this cluster, for `upscale.run`."""
    return lambda plan: RaySegmentRunner(cluster, plan, cluster.next_rank())


@dataclass
class SegmentTask:
    """A segment still to do."""

    point: ResumePoint
    record: SegmentRecord
    losses: int = 0
    doubled: bool = False


@dataclass(frozen=True)
class Attempt:
    """One try at a segment, on one worker."""

    task: SegmentTask
    began: float
    holds_slot: bool


class RaySegmentRunner:
    """Computes one plan's segments on a cluster; a `SegmentRunner`."""

    def __init__(self, cluster: Cluster, plan: Plan, rank: int) -> None:
        if plan.options.device == "cuda" and not cluster.gpus_per_task:
            raise UsageError("device='cuda' on a cluster needs `gpus_per_task`, such as 1.")
        self._cluster, self._plan, self._rank = cluster, plan, rank
        self._ray = cluster.ray
        self._pending: dict[Any, Attempt] = {}
        self._paces: list[float] = []  # seconds per frame, of finished segments
        self._nodes: dict[str, tuple[int, float]] = {}  # frames computed, and since when
        self._processors: set[str] = set()
        self._job_spec = self._describe()
        self.context = self._ask()
        self.engine_name = self.context.engine_name
        self._ships = not self.context.sees_input

    def make(self, work: Journal, on_progress: ProgressCallback) -> Result:
        plan = self._plan
        tile = self.context.tile
        if work.entries and plan.options.tile is None:
            tile = work.entries[-1].tile
        settings = json.loads(json.dumps(plan.journal_settings(self.engine_name)))
        self._shared_spec = self._ray.put(replace(self._job_spec, tile=tile, settings=settings))
        source = open_remaining(plan, work, lookback(self.context))
        self._work, self._meter = work, ProgressMeter(plan, work, on_progress)
        try:
            self._compute_all(self._tasks(source, dict(work.waiting)))
        except self._cluster.lost as e:
            raise ResumableError(
                "lost connection to the cluster; run the same command again to resume."
            ) from e
        finally:
            self._cancel(list(self._pending))
        result = self._meter.result(plan, work, source.report, self.engine_name)
        if len(self._processors) > 1:
            kinds = "; ".join(sorted(self._processors))
            result.notes.append(
                "segments were computed on different CPU or GPU types, whose rounding may differ: "
                f"{kinds}"
            )
        return result

    def _describe(self) -> JobSpec:
        """What every worker must know: the plan with absolute paths, and the model's files."""
        plan, model = self._plan, self._plan.model
        files = [f for f in (model.tensors, model.graph, model.int8) if f is not None]
        weights = None
        if files and files[0].parent != BUNDLED:
            with_bins = [*files, *(f.with_suffix(".bin") for f in files if f.suffix == ".xml")]
            weights = self._ray.put({f.name: f.read_bytes() for f in with_bins})
        source = Path(os.path.abspath(plan.source))
        portable = replace(
            plan,
            model=replace(model, graph=None, tensors=None, state=None, int8=None),
            source=source,
            input=plan.input.moved(source),
            target=plan.target.moved(Path(os.path.abspath(plan.output))),
        )
        return JobSpec(
            plan=portable,
            weights=weights,
            cpus=self._cluster.cpus_per_task,
            torch_threads=usable_cpus(),
            sharers=self._cluster.sharers,
            settings={"input": identify(plan.source)},
        )

    def _ask(self) -> WorkerInfo:
        """The engine that a worker runs.

        Raises:
            UsageError: It has other versions of the packages that the bytes depend on.
            SharpreelError: As `Plan.choose_engine`, on the worker.
        """
        for left in reversed(range(RETRIES + 1)):
            reference = self._cluster.submit(describe_worker, self._job_spec)
            try:
                while not self._ray.wait([reference], timeout=0.5)[0]:
                    self._check_stopped()
                info: WorkerInfo = self._get(reference)
                break
            except self._ray.exceptions.RayError as e:
                if not left:
                    raise _lost("the first task", e) from e
        if differing := journal.differing(versions(), info.versions):
            words = ", ".join(
                f"{part} {info.versions[part]} there, {versions()[part]} here" for part in differing
            )
            raise UsageError(f"The cluster's machines have other packages: {words}.")
        return info

    def _tasks(
        self, source: SegmentInput, finished: dict[str, SegmentRecord]
    ) -> Iterator[SegmentTask]:
        """The scan: the segments still to do, found as they are requested."""
        for point, record in remaining_segments(self._plan, source, self.context, finished):
            yield SegmentTask(point, record)

    def _compute_all(self, tasks: Iterator[SegmentTask]) -> None:
        """Submit segments while there are slots, and collect what comes back."""
        slots, scanning = self._cluster.slots, True
        while scanning or self._pending:
            self._check_stopped()
            if scanning and slots.take(self._rank, 0 if self._pending else 1):
                scanning = self._submit_next(tasks)
                if scanning:
                    self._collect(0)
            elif self._pending:
                self._collect(0.5)
                if not scanning:
                    self._double_stragglers()

    def _submit_next(self, tasks: Iterator[SegmentTask]) -> bool:
        """Submit one more segment to the slot that was taken; False if there is none."""
        task = None
        try:
            task = next(tasks, None)
            if task is not None:
                self._submit(task, holds_slot=True)
        except BaseException:
            self._cluster.slots.give()
            raise
        if task is None:
            self._cluster.slots.give()
        return task is not None

    def _submit(self, task: SegmentTask, holds_slot: bool) -> None:
        attempt = uuid.uuid4().hex[:8]
        frames = self._shipped(task) if self._ships else []
        reference = self._cluster.submit(
            compute_segment, self._shared_spec, task.point, task.record, attempt, *frames
        )
        self._pending[reference] = Attempt(task, time.monotonic(), holds_slot)

    def _shipped(self, task: SegmentTask) -> list[Any]:
        """References to the frames of a segment and its neighbours, in Ray's store.

        As arguments they reach the worker before its task begins, which then starts where most of
        them are; its process maps them and copies none.
        """
        source = open_at(self._plan, task.point, lookback(self.context))
        count = len(task.point.pts) + len(task.record.pts) + self.context.future
        return [self._ray.put(frame) for frame in itertools.islice(source.frames, count)]

    def _collect(self, timeout: float) -> None:
        done, _ = self._ray.wait(list(self._pending), timeout=timeout)
        for reference in done:
            attempt = self._pending.pop(reference)
            holds = False  # the slot, for another attempt
            try:
                result = self._get(reference)
                if result is None:
                    self._ships = holds = True
                    self._submit(attempt.task, attempt.holds_slot)
                else:
                    self._commit(attempt.task, result)
            except self._ray.exceptions.RayError as e:
                holds = self._retry(attempt, e)
            finally:
                if attempt.holds_slot and not holds:
                    self._cluster.slots.give()

    def _get(self, reference: Any) -> Any:
        """A task's return value; its exception, or Ray's about a lost task, is raised."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as e:
            raise e.cause from None

    def _commit(self, task: SegmentTask, result: SegmentResult) -> None:
        self._cancel([r for r, a in self._pending.items() if a.task is task])
        if result.contents is not None:
            _write(self._work.path(result.part), result.contents)
        record = replace(task.record, order=result.order, tile=result.tile)
        self._work.commit(self._work.path(result.part), record)
        now, count = time.monotonic(), len(record.pts)
        frames, since = self._nodes.get(result.node, (0, now - result.seconds))
        self._nodes[result.node] = frames + count, since
        self._paces.append(result.seconds / count)
        self._processors.add(result.processor)
        rates = {node: n / (now - at) for node, (n, at) in self._nodes.items()}
        self._meter.add(task.point.segment, count, rates)
        self._meter.report("segment")

    def _retry(self, attempt: Attempt, cause: Exception) -> bool:
        """Submit the segment of a lost worker again; False if another attempt is pending."""
        task = attempt.task
        task.losses += 1
        if any(a.task is task for a in self._pending.values()):
            return False
        number = task.point.segment
        if task.losses > RETRIES:
            raise _lost(f"segment {number}", cause) from cause
        self._meter.report("again", f"segment {number}: its worker was lost, computed again")
        self._submit(task, attempt.holds_slot)
        return True

    def _double_stragglers(self) -> None:
        """Where processors are idle, start slow segments a second time; the first to end counts."""
        if not self._paces or self._cluster.slots.taken >= self._cluster.capacity:
            return
        pace, now = statistics.median(self._paces), time.monotonic()
        for attempt in list(self._pending.values()):
            task, usual = attempt.task, pace * len(attempt.task.record.pts)
            if not task.doubled and now - attempt.began > max(STRAGGLER * usual, PATIENCE_SECONDS):
                task.doubled = True
                number = task.point.segment
                self._meter.report(
                    "again", f"segment {number}: slow, computed by a second worker too"
                )
                self._submit(task, holds_slot=False)

    def _cancel(self, references: list[Any]) -> None:
        for reference in references:
            attempt = self._pending.pop(reference)
            if attempt.holds_slot:
                self._cluster.slots.give()
            with contextlib.suppress(Exception):  # a lost cluster has nothing to cancel
                self._ray.cancel(reference)  # by force, Ray ends this process when it is late

    def _check_stopped(self) -> None:
        if self._cluster.stopped.is_set():
            raise ResumableError("stopped; what is finished is kept.")


def _lost(what: str, cause: Exception) -> ResumableError:
    words = " ".join(str(cause).split())[:160]
    return ResumableError(
        f"{what} was lost {RETRIES + 1} times with its worker ({words}). Has each machine enough "
        "memory? `max_memory` and `cpus_per_task` help; run the same command again to resume."
    )


def _write(part: Path, contents: bytes | dict[str, bytes]) -> None:
    """Write what a worker sent: a file, or a folder of files."""
    try:
        if isinstance(contents, bytes):
            part.write_bytes(contents)
            return
        part.mkdir()
        for name, one in contents.items():
            (part / name).write_bytes(one)
    except OSError as e:
        raise write_error(part, e) from e
