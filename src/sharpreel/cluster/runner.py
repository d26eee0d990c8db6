"""The same run on many machines: Ray carries the segments of `upscale.py` to them.

    this process                                a worker, any machine
    scan: decode, cue ────────place──────────>  the input behind that place (by path, or shipped)
          (no network)                          cues ──> network ──> encoder
    journal <──────── segment, any order ─────  the same code as a local run's
    join, verify, name

The scan finds where segments begin, as a local run does on its way. A worker is given a place
(`journal.ResumePoint`), makes the one segment behind it and proves by digests that it saw the same
frames. All the rest is `upscale.run`: the same plan, journal, check and bytes.

What travels is data: a plan, numbers, frames, model files. No code does, so that nothing a client
of the web site sends is ever run. Ray itself lets whoever reaches its ports run code, and listens
on every network interface: a cluster belongs into a network of its own.
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
    describe_worker,
    make_segment,
)
from sharpreel.errors import ResumableError, UsageError, write_error
from sharpreel.models.weights import BUNDLED
from sharpreel.pipeline import journal
from sharpreel.pipeline.journal import Journal, ResumePoint, SegmentRecord, identify
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, versions
from sharpreel.pipeline.segments import (
    SegmentInput,
    lookback,
    open_at,
    open_remaining,
    remaining_segments,
)
from sharpreel.pipeline.stages import Progress, ProgressMeter, Result
from sharpreel.system.resources import usable_cpus
from sharpreel.upscale import plan_for, run

RETRIES = 3  # times that a segment is made again after its worker was lost
STRAGGLER = 2.5  # times the median time of a segment, after which a second worker tries it too
PATIENCE_SECONDS = 5.0  # but not before


def upscale_videos(
    sources: Iterable[str | Path],
    folder: str | Path | None = None,
    *,
    cluster: str = "auto",
    cpus_per_task: int | None = None,
    gpus_per_task: float = 0,
    on_progress: Callable[[str, Progress], None] | None = None,
    **options: Any,
) -> list[Result]:
    """Upscale videos on a Ray cluster, all of it busy until the last one is done.

    Args:
        sources: Video files, or folders of pictures.
        folder: Where the outputs go; by default beside the inputs.
        cluster, cpus_per_task, gpus_per_task: See `Cluster`.
        on_progress: Called with the source and how far it is, from a thread for each film.
        options: Fields of `options.UpscaleOptions`.

    Raises:
        SharpreelError: As `upscale_video`; the first film that fails stops the others, and the
            same call goes on.
    """
    chosen = UpscaleOptions(**options)
    target = None if folder is None else Path(folder)
    plans = [plan_for(Path(source), target, chosen) for source in sources]

    def told(plan: Plan) -> Callable[[Progress], None] | None:
        if on_progress is None:
            return None
        return lambda progress: on_progress(str(plan.source), progress)

    with Cluster(cluster, cpus_per_task, gpus_per_task) as there:
        return there.map(lambda plan: run(plan, told(plan), runner_on(there)), plans)


def runner_on(cluster: Cluster) -> Callable[[Plan], RaySegmentRunner]:
    """A factory of segment runners on this cluster, for `upscale.run`."""
    return lambda plan: RaySegmentRunner(cluster, plan, cluster.next_rank())


@dataclass
class SegmentTask:
    """A segment that is to be made."""

    place: ResumePoint
    entry: SegmentRecord
    losses: int = 0
    doubled: bool = False


@dataclass(frozen=True)
class Attempt:
    job: SegmentTask
    began: float
    holds_slot: bool


class RaySegmentRunner:
    """Makes one plan's segments on a cluster; a `upscale.SegmentRunner`."""

    def __init__(self, cluster: Cluster, plan: Plan, rank: int) -> None:
        if plan.options.device == "cuda" and not cluster.gpus_per_task:
            raise UsageError("--device cuda on a cluster needs --gpus-per-task, such as 1.")
        self._cluster, self._plan, self._rank = cluster, plan, rank
        self._ray = cluster.ray
        self._pending: dict[Any, Attempt] = {}
        self._paces: list[float] = []  # seconds a frame, of finished segments
        self._nodes: dict[str, tuple[int, float]] = {}  # frames made, and since when
        self._processors: set[str] = set()
        self._commission = self._describe()
        self.context = self._ask()
        self.engine_name = self.context.engine_name
        self._ships = not self.context.sees_input

    def make(self, work: Journal, tell: Callable[[Progress], None]) -> Result:
        plan = self._plan
        tile = self.context.tile
        if work.entries and plan.options.tile is None:
            tile = work.entries[-1].tile
        settings = json.loads(json.dumps(plan.journal_settings(self.engine_name)))
        self._there = self._ray.put(replace(self._commission, tile=tile, settings=settings))
        source = open_remaining(plan, work, lookback(self.context))
        self._work, self._meter = work, ProgressMeter(plan, work, tell)
        try:
            self._make_all(self._jobs(source, dict(work.waiting)))
        except self._cluster.lost as e:
            raise ResumableError(
                "the cluster was lost on the way. Give the same command again to go on."
            ) from e
        finally:
            self._cancel(list(self._pending))
        result = self._meter.result(plan, work, source.report, self.engine_name)
        if len(self._processors) > 1:
            kinds = "; ".join(sorted(self._processors))
            result.notes.append(
                f"made on processors of several kinds, which may round otherwise: {kinds}"
            )
        return result

    def _describe(self) -> JobSpec:
        plan, model = self._plan, self._plan.model
        files = [f for f in (model.tensors, model.graph, model.int8) if f is not None]
        weights = None
        if files and files[0].parent != BUNDLED:
            with_bins = [*files, *(f.with_suffix(".bin") for f in files if f.suffix == ".xml")]
            weights = self._ray.put({f.name: f.read_bytes() for f in with_bins})
        source = Path(os.path.abspath(plan.source))
        bare = replace(model, graph=None, tensors=None, state=None, int8=None)
        return JobSpec(
            plan=replace(
                plan, model=bare, source=source, output=Path(os.path.abspath(plan.output)),
                info=replace(plan.info, path=str(source)),
            ),
            weights=weights,
            cpus=self._cluster.cpus_per_task,
            torch_threads=usable_cpus(),
            sharers=self._cluster.sharers,
            settings={"input": identify(plan.source)},
        )  # fmt: skip

    def _ask(self) -> WorkerInfo:
        """What a worker says of the engine.

        Raises:
            UsageError: It has other versions of what the bytes depend on.
            SharpreelError: As `Plan.choose_engine`, on the worker.
        """
        for left in reversed(range(RETRIES + 1)):
            reference = self._cluster.task(describe_worker, self._commission)
            try:
                while not self._ray.wait([reference], timeout=0.5)[0]:
                    self._check_stopped()
                told: WorkerInfo = self._get(reference)
                break
            except self._ray.exceptions.RayError as e:
                if not left:
                    raise _lost("the first task", e) from e
        if differing := journal.differing(versions(), told.versions):
            words = ", ".join(
                f"{part} {told.versions[part]} there, {versions()[part]} here" for part in differing
            )
            raise UsageError(f"The cluster's machines have other packages: {words}.")
        return told

    def _jobs(
        self, source: SegmentInput, finished: dict[str, SegmentRecord]
    ) -> Iterator[SegmentTask]:
        """The scan: the segments that are to be made, found as they are wanted."""
        for place, entry in remaining_segments(self._plan, source, self.context, finished):
            yield SegmentTask(place, entry)

    def _make_all(self, jobs: Iterator[SegmentTask]) -> None:
        """Give out segments while there are slots, take in what comes back."""
        slots, scanning = self._cluster.slots, True
        while scanning or self._pending:
            self._check_stopped()
            if scanning and slots.take(self._rank, 0 if self._pending else 1):
                try:
                    job = next(jobs, None)
                    if job is not None:
                        self._submit(job, holds_slot=True)
                except BaseException:
                    slots.give()
                    raise
                if job is None:
                    scanning = False
                    slots.give()
                else:
                    self._collect(0)
            elif self._pending:
                self._collect(0.5)
                if not scanning:
                    self._double_stragglers()

    def _submit(self, job: SegmentTask, holds_slot: bool) -> None:
        attempt = uuid.uuid4().hex[:8]
        frames = self._shipped(job) if self._ships else []
        reference = self._cluster.task(
            make_segment, self._there, job.place, job.entry, attempt, *frames
        )
        self._pending[reference] = Attempt(job, time.monotonic(), holds_slot)

    def _shipped(self, job: SegmentTask) -> list[Any]:
        """References to the frames of a segment and its neighbours, in Ray's store.

        As arguments they go to the worker before its task begins, which then starts where most of
        them are; its process maps them and copies none.
        """
        source = open_at(self._plan, job.place, lookback(self.context))
        count = len(job.place.pts) + len(job.entry.pts) + self.context.future
        return [self._ray.put(frame) for frame in itertools.islice(source.frames, count)]

    def _collect(self, timeout: float) -> None:
        done, _ = self._ray.wait(list(self._pending), timeout=timeout)
        for reference in done:
            attempt = self._pending.pop(reference)
            holds = False  # the slot, for another attempt
            try:
                made = self._get(reference)
                if made is None:
                    self._ships = holds = True
                    self._submit(attempt.job, attempt.holds_slot)
                else:
                    self._commit(attempt.job, made)
            except self._ray.exceptions.RayError as e:
                holds = self._make_again(attempt, e)
            finally:
                if attempt.holds_slot and not holds:
                    self._cluster.slots.give()

    def _get(self, reference: Any) -> Any:
        """What a task returned; what it raised is raised, what Ray says of a lost one too."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as e:
            raise e.cause from None

    def _commit(self, job: SegmentTask, made: SegmentResult) -> None:
        self._cancel([r for r, a in self._pending.items() if a.job is job])
        if made.contents is not None:
            _write(self._work.path(made.part), made.contents)
        entry = replace(job.entry, order=made.order, tile=made.tile)
        self._work.commit(self._work.path(made.part), entry)
        now, count = time.monotonic(), len(entry.pts)
        frames, since = self._nodes.get(made.node, (0, now - made.seconds))
        self._nodes[made.node] = frames + count, since
        self._paces.append(made.seconds / count)
        self._processors.add(made.processor)
        rates = {node: n / (now - at) for node, (n, at) in self._nodes.items()}
        self._meter.add(job.place.segment, count, rates)
        self._meter.tell("segment")

    def _make_again(self, attempt: Attempt, cause: Exception) -> bool:
        """A worker was lost, and its segment with it; False when another makes that already."""
        job = attempt.job
        job.losses += 1
        if any(a.job is job for a in self._pending.values()):
            return False
        if job.losses > RETRIES:
            raise _lost(f"segment {job.place.segment}", cause) from cause
        self._meter.tell("again", f"segment {job.place.segment}: its worker was lost, made again")
        self._submit(job, attempt.holds_slot)
        return True

    def _double_stragglers(self) -> None:
        """Where processors are idle, try once more what takes long; the first to end counts."""
        if not self._paces or self._cluster.slots.taken >= self._cluster.capacity:
            return
        pace, now = statistics.median(self._paces), time.monotonic()
        for attempt in list(self._pending.values()):
            job, usual = attempt.job, pace * len(attempt.job.entry.pts)
            if not job.doubled and now - attempt.began > max(STRAGGLER * usual, PATIENCE_SECONDS):
                job.doubled = True
                number = job.place.segment
                self._meter.tell(
                    "again", f"segment {number}: takes long, made by a second worker too"
                )
                self._submit(job, holds_slot=False)

    def _cancel(self, references: list[Any]) -> None:
        for reference in references:
            attempt = self._pending.pop(reference)
            if attempt.holds_slot:
                self._cluster.slots.give()
            with contextlib.suppress(Exception):  # a cluster that is gone has nothing to cancel
                self._ray.cancel(reference)  # by force, Ray ends this process when it comes late

    def _check_stopped(self) -> None:
        if self._cluster.stopped.is_set():
            raise ResumableError("stopped; what is finished is kept.")


def _lost(what: str, cause: Exception) -> ResumableError:
    words = " ".join(str(cause).split())[:160]
    return ResumableError(
        f"{what} was lost {RETRIES + 1} times with its worker ({words}). Has each machine enough "
        "memory? --max-memory and --cpus-per-task help; the same command goes on."
    )


def _write(part: Path, contents: bytes | dict[str, bytes]) -> None:
    try:
        if isinstance(contents, bytes):
            part.write_bytes(contents)
            return
        part.mkdir()
        for name, one in contents.items():
            (part / name).write_bytes(one)
    except OSError as e:
        raise write_error(part, e) from e
