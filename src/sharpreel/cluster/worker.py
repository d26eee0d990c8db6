"""What runs on a machine of the cluster: computes one segment of a run.

    driver ──JobSpec, ResumePoint, SegmentRecord──> compute_segment ──SegmentResult──> driver

What travels is data: a plan, numbers, frames, model files. No code does, so nothing that a client
of the web site sends is ever executed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sharpreel.engines.base import Engine
from sharpreel.errors import InputChangedError, SharpreelError, UsageError
from sharpreel.media.frame import Frame
from sharpreel.media.reader import ReadReport
from sharpreel.models.weights import Model, load_model
from sharpreel.pipeline.journal import (
    ResumePoint,
    SegmentRecord,
    digest,
    folder_of,
    identify,
    settings_of,
)
from sharpreel.pipeline.plan import Plan, versions
from sharpreel.pipeline.segments import (
    SegmentInput,
    cues_from,
    lookback,
    open_at,
    write_segment,
)
from sharpreel.pipeline.stages import run_network
from sharpreel.system.prefetch import prefetch
from sharpreel.system.resources import instruction_sets


@dataclass(frozen=True)
class JobSpec:
    """What every worker must know of a run.

    Attributes:
        plan: With absolute paths, and without the network's files.
        weights: Ray's reference to the model's files by name; None: the model is bundled.
        cpus: Processor threads of a task.
        torch_threads: Those of a local run: the last bits of PyTorch's sums depend on them.
        sharers: Tasks that share a machine's memory.
        tile: The engine's, once it is decided.
        settings: The journal's, which identify the input and the work folder.
    """

    plan: Plan
    weights: Any
    cpus: int
    torch_threads: int
    sharers: int
    tile: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerInfo:
    """The engine that a worker runs, its context, and the versions of its packages."""

    engine_name: str
    warm_up: int
    clip_len: int
    past: int
    future: int
    tile: int | None
    versions: dict[str, str]
    sees_input: bool


@dataclass(frozen=True)
class SegmentResult:
    """A segment that a worker computed.

    Attributes:
        part: Its name in the work folder, where the worker sees that.
        contents: Its bytes if it does not; those of a folder of images by their names.
        seconds, cpu_seconds: From the task's start to its end, and of all its threads.
        processor: What the last bits of the frames depend on.
    """

    part: str
    contents: bytes | dict[str, bytes] | None
    order: list[int]
    tile: int
    seconds: float
    cpu_seconds: float
    node: str
    processor: str


_held: dict[str, tuple[Model, Engine]] = {}  # a process keeps its compiled network


def describe_worker(job: JobSpec) -> WorkerInfo:
    """Get the engine ready and describe it."""
    plan, engine = _ready(job)
    engine.fit(plan.info.height, plan.info.width)
    return WorkerInfo(
        engine_name=engine.name,
        warm_up=engine.warm_up,
        clip_len=engine.clip_len,
        past=engine.past,
        future=engine.future,
        tile=engine.tile,
        versions=versions(),
        sees_input=_sees_input(job),
    )


def compute_segment(
    job: JobSpec, point: ResumePoint, record: SegmentRecord, attempt: str, *shipped: Frame
) -> SegmentResult | None:
    """Compute the segment at a resume point; None if this machine does not see the input.

    Args:
        record: What the driver knows of it; pts and digest must be the same here.
        attempt: Distinguishes two attempts at one segment.
        shipped: The frames from the resume point on, if the input cannot be read by path.
    """
    began, busy = time.perf_counter(), time.process_time()
    if not shipped and not _sees_input(job):
        return None
    plan, engine = _ready(job)
    engine.tile = job.tile
    source = _source(plan, point, lookback(engine), shipped)
    cues = cues_from(point, prefetch(source.frames), plan, engine)
    with _part_folder(job) as (folder, shared):
        part = folder / f"part-{attempt}-{record.name}"
        sink = plan.target.sink(part)
        frames = itertools.islice(run_network(cues, engine), len(record.pts))
        with contextlib.closing(prefetch(frames)) as upscaled:
            write_segment(upscaled, sink, source.tail)
        if sink.pts != record.pts or digest(source.tail) != record.tail:
            raise _decoded_differently(plan)
        contents = None if shared else _contents(part)
    return SegmentResult(
        part=part.name,
        contents=contents,
        order=sink.order,
        tile=engine.tile or 0,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - busy,
        node=_node(),
        processor=_processor(engine.kind.device),
    )


def _ready(job: JobSpec) -> tuple[Plan, Engine]:
    """The plan with its network, and the engine, kept from task to task."""
    plan = job.plan
    o = plan.options
    settings = (o.device, o.engine, o.precision, o.tile, o.max_memory, o.choices)
    key = repr((plan.model.sha256, *settings, job.cpus))
    if key not in _held:
        _held.clear()
        plan = replace(plan, model=_model(job))
        engine = plan.choose_engine(job.cpus)
        engine.sharers = job.sharers
        _held[key] = plan.model, engine
    model, engine = _held[key]
    if engine.kind.library == "torch" and engine.kind.device == "cpu":
        import torch

        torch.set_num_threads(job.torch_threads)
    return replace(plan, model=model), engine


def _model(job: JobSpec) -> Model:
    wanted, choices = job.plan.model, job.plan.options.choices
    if job.weights is None:
        model = load_model(wanted.name, wanted.scale, choices=choices)
    else:
        import ray

        folder = Path(tempfile.mkdtemp(prefix="sharpreel-"))
        files: dict[str, bytes] = ray.get(job.weights)
        for name, contents in files.items():
            (folder / name).write_bytes(contents)
        model = load_model(folder / next(iter(files)), wanted.scale, choices=choices)
    if model.sha256 != wanted.sha256:
        raise UsageError(
            f"{platform.node()}: has a different version of {wanted.name} than the driver; install "
            "the same sharpreel on both."
        )
    return replace(model, name=wanted.name)


def _sees_input(job: JobSpec) -> bool:
    """Is the input here under the same path?"""
    try:
        return bool(identify(job.plan.source) == job.settings["input"])
    except OSError:
        return False


def _source(plan: Plan, point: ResumePoint, length: int, shipped: Sequence[Frame]) -> SegmentInput:
    if shipped:
        tail = deque(shipped[: len(point.pts)], length)
        return SegmentInput(point, iter(shipped), ReadReport(), tail)
    try:
        return open_at(plan, point, length)
    except InputChangedError:
        raise _decoded_differently(plan) from None


def _decoded_differently(plan: Plan) -> SharpreelError:
    return SharpreelError(
        f"{platform.node()}: {plan.source} decodes to other frames there than on the driver. Use "
        "machines of one kind with the same packages."
    )


@contextlib.contextmanager
def _part_folder(job: JobSpec) -> Iterator[tuple[Path, bool]]:
    """Where a segment is written, and whether that is the run's own work folder."""
    folder = folder_of(job.plan.output)
    try:
        shared = settings_of(folder) == job.settings
    except OSError:
        shared = False
    if shared and os.access(folder, os.W_OK):
        yield folder, True
    else:
        with tempfile.TemporaryDirectory(prefix="sharpreel-") as own:
            yield Path(own), False


def _contents(part: Path) -> bytes | dict[str, bytes]:
    if part.is_dir():
        return {p.name: p.read_bytes() for p in part.iterdir()}
    return part.read_bytes()


def _node() -> str:
    """This machine's address, and Ray's name for it, as several may share the address."""
    import ray

    context = ray.get_runtime_context()
    return f"{ray.util.get_node_ip_address()}:{context.get_node_id()[:6]}"


def _processor(device: str) -> str:
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return f"{platform.machine()} {' '.join(instruction_sets())}"
