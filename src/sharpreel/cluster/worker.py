"""What runs on a machine of the cluster: makes one segment of a run."""

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

# What travels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobSpec:
    """What every worker must know of a film.

    Attributes:
        plan: With absolute paths, and without the network's files.
        weights: Ray's reference to the model's files by name; None: it is in the package.
        cpus: Processor threads of a task.
        torch_threads: Those of a local run, on which the last bits of torch's sums depend.
        sharers: Tasks that share a machine's memory.
        tile: The engine's, once it is decided.
        settings: The journal's, by which a worker knows the input and the work folder.
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
    """What the first worker says: the engine it runs, how far that looks, and its versions."""

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
    """A segment that a worker made.

    Attributes:
        part: Its name in the work folder, where the worker sees that.
        contents: Its bytes where it does not; of a folder of pictures, by their names.
        seconds, cpu_seconds: From the task's start to its end, and of all its threads.
        processor: What the pictures' last bits depend on.
    """

    part: str
    contents: bytes | dict[str, bytes] | None
    order: list[int]
    tile: int
    seconds: float
    cpu_seconds: float
    node: str
    processor: str


# On a worker -------------------------------------------------------------------------------------

_held: dict[str, tuple[Model, Engine]] = {}  # a process keeps its compiled network


def describe_worker(commission: JobSpec) -> WorkerInfo:
    """Get the engine ready and describe it."""
    plan, engine = _ready(commission)
    engine.fit(plan.info.height, plan.info.width)
    return WorkerInfo(
        engine.name, engine.warm_up, engine.clip_len, engine.past, engine.future, engine.tile,
        versions(), _sees_input(commission),
    )  # fmt: skip


def make_segment(
    commission: JobSpec, place: ResumePoint, entry: SegmentRecord, attempt: str, *shipped: Frame
) -> SegmentResult | None:
    """Make the segment behind a place; None when this machine does not see the input.

    Args:
        entry: What the driver knows of it; pts and digest must come out the same.
        attempt: Tells two tries of one segment apart.
        shipped: The frames from the place on, where they do not come by path.
    """
    began, busy = time.perf_counter(), time.process_time()
    if not shipped and not _sees_input(commission):
        return None
    plan, engine = _ready(commission)
    engine.tile = commission.tile
    source = _source(plan, place, lookback(engine), shipped)
    cues = cues_from(place, prefetch(source.frames), plan, engine)
    with _part_folder(commission) as (folder, shared):
        part = folder / f"part-{attempt}-{entry.name}"
        sink = plan.sink(part)
        pictures = itertools.islice(run_network(cues, engine), len(entry.pts))
        with contextlib.closing(prefetch(pictures)) as made:
            write_segment(made, sink, source.tail)
        if sink.pts != entry.pts or digest(source.tail) != entry.tail:
            raise _decodes_otherwise(plan)
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


def _ready(commission: JobSpec) -> tuple[Plan, Engine]:
    """The plan with its network, and the engine, kept from task to task."""
    plan = commission.plan
    o = plan.options
    key = repr((plan.model.sha256, o.device, o.engine, o.precision, o.tile, o.max_memory,
                o.choices, commission.cpus))  # fmt: skip
    if key not in _held:
        _held.clear()
        plan = replace(plan, model=_model(commission))
        engine = plan.choose_engine(commission.cpus)
        engine.sharers = commission.sharers
        _held[key] = plan.model, engine
    model, engine = _held[key]
    if engine.kind.library == "torch" and engine.kind.device == "cpu":
        import torch

        torch.set_num_threads(commission.torch_threads)
    return replace(plan, model=model), engine


def _model(commission: JobSpec) -> Model:
    wanted, choices = commission.plan.model, commission.plan.options.choices
    if commission.weights is None:
        model = load_model(wanted.name, wanted.scale, choices=choices)
    else:
        import ray

        folder = Path(tempfile.mkdtemp(prefix="sharpreel-"))
        files: dict[str, bytes] = ray.get(commission.weights)
        for name, contents in files.items():
            (folder / name).write_bytes(contents)
        model = load_model(folder / next(iter(files)), wanted.scale, choices=choices)
    if model.sha256 != wanted.sha256:
        raise UsageError(
            f"{platform.node()}: has another {wanted.name} than the machine that began; install "
            "the same sharpreel on both."
        )
    return replace(model, name=wanted.name)


def _sees_input(commission: JobSpec) -> bool:
    """Is the input here under the same name?"""
    try:
        there = identify(commission.plan.source)
    except OSError:
        return False
    return bool(there == commission.settings["input"])


def _source(plan: Plan, place: ResumePoint, length: int, shipped: Sequence[Frame]) -> SegmentInput:
    if shipped:
        tail = deque(shipped[: len(place.pts)], length)
        return SegmentInput(place, iter(shipped), ReadReport(), tail)
    try:
        return open_at(plan, place, length)
    except InputChangedError:
        raise _decodes_otherwise(plan) from None


def _decodes_otherwise(plan: Plan) -> SharpreelError:
    return SharpreelError(
        f"{platform.node()}: {plan.source} decodes to other frames there than on the machine that "
        "began. Use machines of one kind with the same packages."
    )


@contextlib.contextmanager
def _part_folder(commission: JobSpec) -> Iterator[tuple[Path, bool]]:
    """Where a segment is written, and whether that is the run's own work folder."""
    folder = folder_of(commission.plan.output)
    try:
        shared = settings_of(folder) == commission.settings
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
