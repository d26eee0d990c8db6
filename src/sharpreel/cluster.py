"""The same run on many machines: Ray carries the segments of `upscale.py` to them.

    this process                                a worker, any machine
    scan: decode, cue ────────place──────────>  the input behind that place (by path, or shipped)
          (no network)                          cues ──> network ──> encoder
    journal <──────── segment, any order ─────  the same code as a local run's
    join, verify, name

The scan finds where segments begin, as a local run does on its way. A worker is given a place
(`journal.Place`), makes the one segment behind it and proves by digests that it saw the same
frames. All the rest is `upscale.run`: the same plan, journal, check and bytes.

What travels is data: a plan, numbers, frames, model files. No code does, so that nothing a client
of the web site sends is ever run. Ray itself lets whoever reaches its ports run code, and listens
on every network interface: a cluster belongs into a network of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sharpreel import journal, video
from sharpreel.diagnose import instruction_sets
from sharpreel.engine import Engine, cuda_available
from sharpreel.errors import (
    MissingExtra,
    ResumableError,
    SharpreelError,
    UsageError,
    write_error,
)
from sharpreel.journal import Entry, Journal, Place
from sharpreel.plan import Options, Plan, versions
from sharpreel.upscale import (
    Meter,
    OtherFrames,
    Progress,
    Result,
    Source,
    ahead,
    cues_behind,
    frames_behind,
    frames_left,
    lookback,
    plan_for,
    run,
    segments_behind,
    sharpen,
    write_segment,
)
from sharpreel.video import Frame
from sharpreel.weights import BUNDLED, Model, load_model

T = TypeVar("T")
U = TypeVar("U")
WAITING = 2  # segments given out for each that can be made at once: the next one lies ready
RETRIES = 3  # times that a segment is made again after its worker was lost
STRAGGLER = 2.5  # times the median time of a segment, after which a second worker tries it too
PATIENCE_SECONDS = 5.0  # but not before
FILMS_AT_ONCE = 16
CONNECTING = 3  # times that a driver asks a client server for its process
SLOW_START = "Initialization failure from server"  # what the client says when that was too slow
OWN_STORE_BYTES = 256 << 20  # a cluster that we start is one machine: frames are read by path
WARNING = (
    "starting Ray on this machine; while it runs it listens on every network interface, and who "
    "reaches it can run code. Use it in a private network only."
)
RAY_SETTINGS = {  # read when Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",  # it would send statistics of its use to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # it would start one here when that of --cluster is lost
    "GRPC_VERBOSITY": "ERROR",  # it would say that this process has threads
}
CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # what every driver asks first
HELLO_SECONDS = 10.0  # for a connection, and for the answer to it
START_ONE = "Start one with `ray start --head`, or use --cluster local."
OTHER_PORT = "`ray start --head` says its port; that of ray:// is --ray-client-server-port, 10001."
GIVE_TOKEN = "Is its token in RAY_AUTH_TOKEN or ~/.ray/auth_token here? See docs/cluster.md."


# What travels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commission:
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
class Answer:
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
class Made:
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


def answer(commission: Commission) -> Answer:
    """Get the engine ready and describe it."""
    plan, engine = _ready(commission)
    engine.fit(plan.info.height, plan.info.width)
    return Answer(
        engine.name, engine.warm_up, engine.clip_len, engine.past, engine.future, engine.tile,
        versions(), _sees_input(commission),
    )  # fmt: skip


def make_segment(
    commission: Commission, place: Place, entry: Entry, attempt: str, *shipped: Frame
) -> Made | None:
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
    cues = cues_behind(place, ahead(source.frames), plan, engine)
    with _part_folder(commission) as (folder, shared):
        part = folder / f"part-{attempt}-{entry.name}"
        sink = plan.sink(part)
        pictures = itertools.islice(sharpen(cues, engine), len(entry.pts))
        with contextlib.closing(ahead(pictures)) as made:
            write_segment(made, sink, source.tail)
        if sink.pts != entry.pts or journal.digest(source.tail) != entry.tail:
            raise _decodes_otherwise(plan)
        contents = None if shared else _contents(part)
    return Made(
        part=part.name,
        contents=contents,
        order=sink.order,
        tile=engine.tile or 0,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - busy,
        node=_node(),
        processor=_processor(engine.name),
    )


def _ready(commission: Commission) -> tuple[Plan, Engine]:
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
    if engine.name == "torch-cpu":
        import torch

        torch.set_num_threads(commission.torch_threads)
    return replace(plan, model=model), engine


def _model(commission: Commission) -> Model:
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


def _sees_input(commission: Commission) -> bool:
    """Is the input here under the same name?"""
    try:
        there = journal.identify(commission.plan.source)
    except OSError:
        return False
    return bool(there == commission.settings["input"])


def _source(plan: Plan, place: Place, length: int, shipped: Sequence[Frame]) -> Source:
    if shipped:
        tail = deque(shipped[: len(place.pts)], length)
        return Source(place, iter(shipped), video.ReadReport(), tail)
    try:
        return frames_behind(plan, place, length)
    except OtherFrames:
        raise _decodes_otherwise(plan) from None


def _decodes_otherwise(plan: Plan) -> SharpreelError:
    return SharpreelError(
        f"{platform.node()}: {plan.source} decodes to other frames there than on the machine that "
        "began. Use machines of one kind with the same packages."
    )


@contextlib.contextmanager
def _part_folder(commission: Commission) -> Iterator[tuple[Path, bool]]:
    """Where a segment is written, and whether that is the run's own work folder."""
    folder = journal.folder_of(commission.plan.output)
    try:
        shared = journal.settings_of(folder) == commission.settings
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


def _processor(engine_name: str) -> str:
    if "cuda" in engine_name:
        import torch

        return str(torch.cuda.get_device_name())
    return f"{platform.machine()} {' '.join(instruction_sets())}"


# On the driver -----------------------------------------------------------------------------------


class Slots:
    """How many segments may be given out at a time; films that came first are served first.

    Args:
        limit: Says how many, each time anew: a cluster grows and shrinks.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit, self.taken = limit, 0
        self._waiting: list[int] = []
        self._changed = threading.Condition()

    def take(self, rank: int, timeout: float) -> bool:
        """Wait for a slot; False when there was none in time."""
        with self._changed:
            self._waiting.append(rank)
            try:
                free = self._changed.wait_for(
                    lambda: self.taken < self._limit() and rank == min(self._waiting), timeout
                )
            finally:
                self._waiting.remove(rank)
                self._changed.notify_all()
            self.taken += free
            return free

    def give(self, count: int = 1) -> None:
        with self._changed:
            self.taken -= count
            self._changed.notify_all()


class Cluster:
    """A Ray cluster that films are made on; a context manager.

    Args:
        address: "auto" (the cluster this machine belongs to), "ray://HOST:PORT", or "local": one
            is started on this machine and ends with the context.
        cpus_per_task: Processors for each segment that is made; by default 2, or what there is.
        gpus_per_task: GPUs for each; 0.25 lets four tasks share one.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: No such cluster, it cannot be reached, or a task has no room on this machine.
    """

    def __init__(
        self, address: str = "auto", cpus_per_task: int | None = None, gpus_per_task: float = 0
    ) -> None:
        if address not in ("auto", "local") and not address.startswith("ray://"):
            raise UsageError(f"--cluster {address}: write auto, local or ray://HOST:PORT.")
        if cpus_per_task is not None and cpus_per_task < 1:
            raise UsageError(f"--cpus-per-task must be 1 or more, got {cpus_per_task}.")
        if gpus_per_task < 0 or (gpus_per_task > 1 and gpus_per_task != int(gpus_per_task)):
            raise UsageError(f"--gpus-per-task {gpus_per_task}: a share of one, or a whole number.")
        if address == "local":
            _check_room(cpus_per_task, gpus_per_task)
        self.address, self.gpus_per_task = address, gpus_per_task
        self._cpus = cpus_per_task
        self.stopped = threading.Event()
        self.slots = Slots(lambda: WAITING * max(self.capacity, 1))
        self._ranks = itertools.count()
        self._seen: tuple[float, int] = (0.0, 0)

    def __enter__(self) -> Cluster:
        for name, value in RAY_SETTINGS.items():
            os.environ.setdefault(name, value)
        before: Any = sys.modules.get("ray")
        self._ours = before is None or not before.is_initialized()
        try:
            grpc = importlib.import_module("grpc")
            answers = self._ours and self._knock(grpc)
            import ray
        except ImportError as e:
            raise MissingExtra("--cluster", "cluster") from e
        self.ray: Any = ray
        self.lost = ConnectionError, ray.exceptions.RaySystemError, grpc.RpcError
        if self._ours:
            self._connect(GIVE_TOKEN if answers else START_ONE)
        self.nodes = [n for n in ray.nodes() if n["Alive"]]
        largest = max((int(n["Resources"].get("CPU", 0)) for n in self.nodes), default=0)
        self.cpus_per_task = self._cpus or (min(2, largest) or 2)
        if self._ours and self.address == "local" and not self.capacity:
            ray.shutdown()
            raise UsageError(
                f"--gpus-per-task {self.gpus_per_task:g}: this machine has fewer GPUs, and a local "
                "cluster does not grow."
            )
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
        if self._ours:
            self.ray.shutdown()

    def _connect(self, advice: str) -> None:
        quietly = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self.address == "local":
                self.ray.init(
                    address="local",
                    num_cpus=video.usable_cpus(), include_dashboard=False,
                    object_store_memory=OWN_STORE_BYTES, **quietly,
                )  # fmt: skip
            else:
                self._join(quietly)
        except Exception as e:  # Ray raises of many kinds here
            raise self._unreachable(e, advice) from e

    def _join(self, quietly: dict[str, Any]) -> None:
        """Connect to a cluster that is there.

        A client server starts a process for each driver and does not wait long for it: on a busy
        machine the second or third one is in time.
        """
        for left in reversed(range(CONNECTING)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # ray:// warns of what it raises too
                    self.ray.init(address=self.address, **quietly)
                return
            except Exception as e:
                if not left or SLOW_START not in str(e):
                    raise

    def _knock(self, grpc: Any) -> bool:
        """Did it answer? False where only Ray knows the address.

        Sets the variable that makes Ray send a token, before Ray is imported and reads it: a
        driver that is given an address does not look for one, and in a cluster without tokens the
        workers cannot reach a driver that wants them.

        Raises:
            UsageError: Nobody listens there, and Ray would end this process; it is not Ray, for
                which that would wait for minutes; it asks for a token and there is none.
        """
        named = os.environ.get("RAY_ADDRESS", "") if self.address == "auto" else self.address
        host, colon, port = named.removeprefix("ray://").rpartition(":")
        if not (colon and port.isdecimal()):
            return False
        try:
            socket.create_connection((host.strip("[]"), int(port)), HELLO_SECONDS).close()
        except OSError as e:
            raise self._unreachable(e, START_ONE) from e
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return True
        said = _said_of_its_id(grpc, f"{host}:{port}")
        if said in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise self._unreachable("what listens there is not Ray", OTHER_PORT)
        if said != grpc.StatusCode.OK and _has_token():
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        elif said == grpc.StatusCode.UNAUTHENTICATED:
            raise self._unreachable("it asks for a token", GIVE_TOKEN)
        return True

    def _unreachable(self, cause: Exception | str, advice: str) -> UsageError:
        reason = " ".join(str(cause).split())[:160] or type(cause).__name__
        return UsageError(
            f"--cluster {self.address}: no Ray cluster can be reached there ({reason}). {advice}"
        )

    @property
    def capacity(self) -> int:
        """Segments that can be made at once, now."""
        at, count = self._seen
        if time.monotonic() > at + 2:
            count = sum(map(self._room, self.ray.nodes()))
            self._seen = (time.monotonic(), count)
        return count

    def _room(self, node: dict[str, Any]) -> int:
        if not node["Alive"]:
            return 0
        has = node["Resources"]
        room = int(has.get("CPU", 0) // self.cpus_per_task)
        if self.gpus_per_task:
            room = min(room, int(has.get("GPU", 0) / self.gpus_per_task))
        return room

    @property
    def sharers(self) -> int:
        """Tasks that share the memory of one device."""
        if self.gpus_per_task:
            return max(int(1 / self.gpus_per_task), 1)
        return max([self._room(node) for node in self.nodes] + [1])

    def task(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ray's reference to what a function of this module will return from a worker."""
        remote = self.ray.remote(function).options(
            num_cpus=self.cpus_per_task,
            num_gpus=self.gpus_per_task,
            max_retries=0,  # retries are counted, told and bounded by `Film`
        )
        return remote.remote(*arguments)

    def film(self, plan: Plan) -> Film:
        """Who makes a plan's segments on this cluster; see `upscale.run`."""
        return Film(self, plan, next(self._ranks))

    def map(self, do: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """do(item) of each, side by side, in threads: films that share the cluster.

        While one film's last segments are made, or it is joined and verified, the next has begun.
        This thread only waits, as what a signal raises would be lost in a finalizer of Ray's.
        """
        with ThreadPoolExecutor(min(len(items), FILMS_AT_ONCE)) as pool:
            try:
                futures = [pool.submit(do, item) for item in items]
                return [future.result() for future in futures]
            except BaseException:
                self.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stop(self) -> None:
        """Let all films end; what is finished is kept."""
        self.stopped.set()


def _check_room(cpus: int | None, gpus: float) -> None:
    """Raise UsageError where a task asks for more than this machine has."""
    if cpus is not None and cpus > (there := video.usable_cpus()):
        raise UsageError(
            f"--cpus-per-task {cpus}: this machine has {there}, and a local cluster does not grow."
        )
    if gpus and not cuda_available():
        raise UsageError(
            f"--gpus-per-task {gpus:g}: this machine has no GPU that torch can use, and a local "
            "cluster does not grow."
        )


def _has_token() -> bool:
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    return named or Path("~/.ray/auth_token").expanduser().exists()


def _said_of_its_id(grpc: Any, address: str) -> Any:
    """The gRPC status with which it answers a driver without a token; OK: it needs none."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(CLUSTER_ID)(b"", timeout=HELLO_SECONDS)
        except grpc.RpcError as e:
            return e.code()
    return grpc.StatusCode.OK


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
        options: Fields of `plan.Options`.

    Raises:
        SharpreelError: As `upscale_video`; the first film that fails stops the others, and the
            same call goes on.
    """
    chosen = Options(**options)
    target = None if folder is None else Path(folder)
    plans = [plan_for(Path(source), target, chosen) for source in sources]

    def told(plan: Plan) -> Callable[[Progress], None] | None:
        if on_progress is None:
            return None
        return lambda progress: on_progress(str(plan.source), progress)

    with Cluster(cluster, cpus_per_task, gpus_per_task) as there:
        return there.map(lambda plan: run(plan, told(plan), there.film), plans)


@dataclass
class Job:
    """A segment that is to be made."""

    place: Place
    entry: Entry
    losses: int = 0
    doubled: bool = False


@dataclass(frozen=True)
class Attempt:
    job: Job
    began: float
    holds_slot: bool


class Film:
    """Makes one plan's segments on a cluster; a `upscale.Maker`."""

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
        source = frames_left(plan, work, lookback(self.context))
        self._work, self._meter = work, Meter(plan, work, tell)
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

    def _describe(self) -> Commission:
        plan, model = self._plan, self._plan.model
        files = [f for f in (model.tensors, model.graph, model.int8) if f is not None]
        weights = None
        if files and files[0].parent != BUNDLED:
            with_bins = [*files, *(f.with_suffix(".bin") for f in files if f.suffix == ".xml")]
            weights = self._ray.put({f.name: f.read_bytes() for f in with_bins})
        source = Path(os.path.abspath(plan.source))
        bare = replace(model, graph=None, tensors=None, state=None, int8=None)
        return Commission(
            plan=replace(
                plan, model=bare, source=source, output=Path(os.path.abspath(plan.output)),
                info=replace(plan.info, path=str(source)),
            ),
            weights=weights,
            cpus=self._cluster.cpus_per_task,
            torch_threads=video.usable_cpus(),
            sharers=self._cluster.sharers,
            settings={"input": journal.identify(plan.source)},
        )  # fmt: skip

    def _ask(self) -> Answer:
        """What a worker says of the engine.

        Raises:
            UsageError: It has other versions of what the bytes depend on.
            SharpreelError: As `Plan.choose_engine`, on the worker.
        """
        for left in reversed(range(RETRIES + 1)):
            reference = self._cluster.task(answer, self._commission)
            try:
                while not self._ray.wait([reference], timeout=0.5)[0]:
                    self._check_stopped()
                told: Answer = self._get(reference)
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

    def _jobs(self, source: Source, finished: dict[str, Entry]) -> Iterator[Job]:
        """The scan: the segments that are to be made, found as they are wanted."""
        for place, entry in segments_behind(self._plan, source, self.context, finished):
            yield Job(place, entry)

    def _make_all(self, jobs: Iterator[Job]) -> None:
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

    def _submit(self, job: Job, holds_slot: bool) -> None:
        attempt = uuid.uuid4().hex[:8]
        frames = self._shipped(job) if self._ships else []
        reference = self._cluster.task(
            make_segment, self._there, job.place, job.entry, attempt, *frames
        )
        self._pending[reference] = Attempt(job, time.monotonic(), holds_slot)

    def _shipped(self, job: Job) -> list[Any]:
        """References to the frames of a segment and its neighbours, in Ray's store.

        As arguments they go to the worker before its task begins, which then starts where most of
        them are; its process maps them and copies none.
        """
        source = frames_behind(self._plan, job.place, lookback(self.context))
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

    def _commit(self, job: Job, made: Made) -> None:
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
