"""`sharpreel ...`: words into arguments, one call, and what came of it back into words.

Progress goes to stderr, results to stdout; with --json each line of stdout is one object. Exit
codes are those of `errors.py`. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sharpreel.cli.arguments import seconds_of, size_of, tile_of
from sharpreel.cli.console import Console, errors_as_exit_codes, unexpected
from sharpreel.cli.models import have_model
from sharpreel.cli.options import (
    AsJson,
    Batch,
    CodecName,
    Crf,
    Debug,
    Device,
    End,
    EngineName,
    Height,
    MaxMemory,
    Model,
    Offline,
    Output,
    PixFmt,
    Precision,
    Preset,
    Quiet,
    Recursive,
    Scale,
    SegmentSeconds,
    Settings,
    Size,
    Start,
    TileSide,
    Transcode,
)
from sharpreel.errors import (
    DiskFullError,
    InputError,
    SharpreelError,
    TerminatedError,
    UsageError,
    VerificationError,
)
from sharpreel.models import DEFAULT_MODEL, LIVE_MODEL, MODELS
from sharpreel.system.text import format_duration, parse_settings

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from sharpreel.cluster.ray_cluster import Cluster
    from sharpreel.pipeline.estimate import Estimate
    from sharpreel.pipeline.options import UpscaleOptions
    from sharpreel.pipeline.plan import Plan
    from sharpreel.pipeline.stages import Progress, Result
    from sharpreel.upscale import SegmentRunner


STOP_SECONDS = 5.0  # from Ctrl-C to the end: what a thread still does then is thrown away
T = TypeVar("T")


def upscale(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Video, folder of videos or pictures, or - for y4m on stdin."
        ),
    ],
    output: Output = None,
    model: Model = None,
    scale: Scale = None,
    height: Height = None,
    size: Size = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    precision: Precision = "auto",
    settings: Settings = None,
    tile: TileSide = "auto",
    max_memory: MaxMemory = None,
    offline: Offline = False,
    codec: CodecName = None,
    crf: Crf = None,
    preset: Preset = None,
    pix_fmt: PixFmt = None,
    start: Start = None,
    end: End = None,
    allow_audio_transcode: Transcode = False,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Do not go on with an earlier run; start anew.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave inputs whose output exists.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first frame that does not decode.")
    ] = False,
    segment_seconds: SegmentSeconds = 10.0,
    batch: Batch = 1,
    recursive: Recursive = False,
    live: Annotated[
        bool, typer.Option("--live", help="Newest frame first, late ones left out; for pipes.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Make it on a Ray cluster: auto, ray://HOST:PORT or local."),
    ] = None,
    cpus_per_task: Annotated[
        int | None, typer.Option("--cpus-per-task", help="Processors for each segment: 2.")
    ] = None,
    gpus_per_task: Annotated[
        float, typer.Option("--gpus-per-task", help="GPUs for each segment, such as 1 or 0.25.")
    ] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Upscale a video, or every video of a folder; everything else in it is kept."""
    console = Console(as_json, quiet)
    # A Ray that this command started must be stopped by it, however long that takes.
    with errors_as_exit_codes(console, debug, None if cluster else STOP_SECONDS):
        from sharpreel.pipeline.options import UpscaleOptions
        from sharpreel.system.text import parse_bytes

        model = model or (LIVE_MODEL if live else DEFAULT_MODEL)
        options = UpscaleOptions(
            model=model,
            scale=scale,
            height=height,
            size=size_of(size),
            device=device,
            engine=engine,
            precision=precision,
            codec=codec,
            crf=crf,
            preset=preset,
            pix_fmt=pix_fmt,
            start=seconds_of(start),
            end=seconds_of(end),
            allow_audio_transcode=allow_audio_transcode,
            overwrite=overwrite,
            resume=not no_resume,
            skip_existing=skip_existing,
            strict=strict,
            segment_seconds=segment_seconds,
            choices=parse_settings(settings),
            tile=tile_of(tile),
            max_memory=parse_bytes(max_memory),
            live=live,
            batch=batch,
        )
        if cluster is None and (cpus_per_task is not None or gpus_per_task):
            raise UsageError("--cpus-per-task and --gpus-per-task need --cluster.")
        if cluster is not None and batch > 1:
            raise UsageError("--batch is for one machine; --gpus-per-task 0.25 shares a GPU.")
        have_model(model, offline, console)
        jobs = list_jobs(source, output, recursive)
        piped = str(source) == "-" or str(output) == "-"
        if live and not piped:
            raise UsageError("--live is for pipes: give - as INPUT, or -o -.")
        if piped and cluster is not None:
            raise UsageError("--cluster makes files, not pipes: leave it out, or name files.")
        if piped:
            raise typer.Exit(_stream(source, output, options, console))
        films = UpscaleQueue(options, console, debug, alone=len(jobs) == 1)
        if cluster is None:
            codes = [films.make(job) for job in jobs]
        else:
            codes = _on_cluster(films, jobs, (cluster, cpus_per_task, gpus_per_task))
        if len(jobs) == 1:
            raise typer.Exit(codes[0])
        failed = sum(code != 0 for code in codes)
        console.event("finished", inputs=len(jobs), failed=failed)
        console.info(f"{len(jobs) - failed} of {len(jobs)} inputs done.")
        raise typer.Exit(1 if failed else 0)


def list_jobs(source: Path, output: Path | None, recursive: bool) -> list[tuple[Path, Path | None]]:
    """The (input, output) pairs that an INPUT means.

    A folder with videos means each of them, with the tree kept below the output folder; a folder
    of pictures is one input.

    Raises:
        InputError: A folder without anything to upscale.
        UsageError: Several videos and an output that is a file.
    """
    if not source.is_dir():
        return [(source, output)]
    from sharpreel.media import images
    from sharpreel.media.probe import VIDEO_SUFFIXES

    found = sorted(
        p
        for p in (source.rglob("*") if recursive else source.iterdir())
        if p.suffix.lower() in VIDEO_SUFFIXES
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(source).parts)
        and not any(part.endswith(".sharpreel") for part in p.parts)
    )
    if not found:
        if images.image_files(source):
            return [(source, output)]
        below = "" if recursive else " (subfolders are searched with --recursive)"
        raise InputError(f"{source}: no videos and no PNG or JPEG pictures in this folder{below}.")
    # What an earlier run made is not an input of the next one.
    if output is None or output.resolve() == source.resolve():
        made = {f"_{name}_x{s}" for name, spec in MODELS.items() for s in spec.scales}
        found = [p for p in found if not any(p.stem.endswith(end) for end in made)]
        return [(p, None) for p in found]
    if source.resolve() in output.resolve().parents:
        found = [p for p in found if output.resolve() not in p.resolve().parents]
    if output.suffix and not output.is_dir():
        raise UsageError(f"{output}: many videos need a folder; give -o without suffix.")
    jobs: list[tuple[Path, Path | None]] = []
    for path in found:
        folder = output / path.parent.relative_to(source)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UsageError(f"{folder}: this folder cannot be made ({e.strerror}).") from e
        jobs.append((path, folder))
    return jobs


class UpscaleQueue:
    """Upscales the inputs of one command; several at once on a cluster.

    Args:
        alone: There is only one.
    """

    def __init__(self, options: UpscaleOptions, console: Console, debug: bool, alone: bool) -> None:
        self._options, self.console, self._debug, self.alone = options, console, debug, alone
        self._outputs: set[Path] = set()
        self._lock = threading.Lock()
        self.maker: Callable[[Plan], SegmentRunner] | None = None

    def make(self, job: tuple[Path, Path | None]) -> int:
        """Upscale one input; its exit code. Errors are told here, so that the next one runs."""
        done = self._tried(job, self._upscale)
        if isinstance(done, int):
            return done
        report_result(*done, self.console)
        return 1 if done[1].lost else 0

    def refuse(self, job: tuple[Path, Path | None]) -> int | None:
        """The exit code of an input that cannot be begun, told as by `make`; None: it can."""
        done = self._tried(job, self._plan)
        return done if isinstance(done, int) else None

    def _plan(self, source: Path, output: Path | None) -> Plan:
        from sharpreel.upscale import plan_for

        return plan_for(source, output, self._options)

    def _upscale(self, source: Path, output: Path | None) -> tuple[Plan, Result]:
        from sharpreel.upscale import run

        plan = self._plan(source, output)
        self._claim(plan)
        show_plan_briefly(plan, self.console)
        with progress_shown(plan, self.console) as tell:
            return plan, run(plan, tell, self.maker)

    def _tried(
        self, job: tuple[Path, Path | None], do: Callable[[Path, Path | None], T]
    ) -> T | int:
        """What came of it, or the exit code of why nothing did, which is told."""
        from sharpreel.errors import NothingToDoError

        source, console = job[0], self.console
        try:
            return do(*job)
        except NothingToDoError as e:
            console.event("skipped", input=str(source), reason=str(e))
            console.info(f"{source}: skipped, {e}.")
            return 0
        except SharpreelError as e:
            if isinstance(e, DiskFullError | TerminatedError) and not self.alone:
                raise  # the next input would meet the same full disk, or is not wanted
            if self._debug:
                traceback.print_exc()
            console.error(e, str(source))
            if isinstance(e, VerificationError):
                for difference in e.differences:
                    console.info(f"  {difference}")
            return e.exit_code
        except Exception as e:
            if self.alone:
                raise
            if self._debug:
                traceback.print_exc()
            console.error(unexpected(e), str(source))
            return 1

    def _claim(self, plan: Plan) -> None:
        """Raise UsageError when another input of this command has the same output."""
        with self._lock:
            if plan.output in self._outputs:
                raise UsageError(
                    f"{plan.source}: its output {plan.output} was made of another input just now. "
                    "Rename one of them."
                )
            self._outputs.add(plan.output)


def _on_cluster(
    films: UpscaleQueue, jobs: list[tuple[Path, Path | None]], where: tuple[str, int | None, float]
) -> list[int]:
    """Make all inputs as one plan over a cluster; their exit codes."""
    from sharpreel.cluster.ray_cluster import WARNING, Cluster
    from sharpreel.cluster.runner import runner_on

    wanted = Cluster(*where)
    if films.alone and (code := films.refuse(jobs[0])) is not None:
        return [code]  # before a Ray is started for it
    if where[0] == "local":
        films.console.warn(WARNING)
    # Ray prints what befalls a cluster, such as a lost node, to stdout, which is for our events.
    with redirect_stdout(sys.stderr), wanted as there:
        films.maker = runner_on(there)
        show_cluster(there, films.console)
        return there.map(films.make, jobs)


def show_cluster(there: Cluster, console: Console) -> None:
    nodes, at_once = len(there.nodes), there.capacity
    console.event(
        "cluster", address=there.address, nodes=nodes, at_once=at_once,
        cpus_per_task=there.cpus_per_task, gpus_per_task=there.gpus_per_task,
    )  # fmt: skip
    console.info(
        f"cluster {there.address}: {nodes} node{'' if nodes == 1 else 's'}, {at_once} segments at "
        f"once, each on {there.cpus_per_task} processors"
        + (f" and {there.gpus_per_task:g} GPU" if there.gpus_per_task else "")
    )
    if not at_once:
        console.warn("no node of the cluster has room for a task now; waiting for one that has.")


def show_plan_briefly(plan: Plan, console: Console) -> None:
    info, to = plan.info, plan.settings
    console.event("start", **plan.as_dict())
    console.info(
        f"{plan.source} ({info.width}x{info.height}) -> {plan.output} ({to.width}x{to.height}, "
        f"{to.codec}) with {plan.model.name} x{plan.model.scale}"
    )
    for note in plan.notes:
        console.info(f"  note: {note}")


def report_result(plan: Plan, result: Result, console: Console) -> None:
    console.event(
        "done",
        input=str(plan.source),
        output=str(result.output),
        frames=result.frames,
        lost=result.lost,
        resumed_frames=result.resumed_frames,
        seconds=round(result.seconds, 3),
        fps=round(result.fps, 3),
        engine=result.engine,
        notes=result.notes,
        verified=True,
    )
    for note in result.notes:
        console.info(f"  note: {note}")
    if result.lost:
        print(
            f"sharpreel: {plan.source}: {_frames(result.lost)} did not decode, missing from "
            f"{result.output}; {result.frames} upscaled.",
            file=sys.stderr,
        )
    console.info(
        f"{_frames(result.frames)} in {format_duration(result.seconds)} ({result.fps:.1f} fps, "
        f"{result.engine}), verified."
    )
    if not console.quiet:
        console.result(str(result.output))


def _frames(count: int) -> str:
    return f"{count} frame" + ("" if count == 1 else "s")


@contextmanager
def progress_shown(plan: Plan, console: Console) -> Iterator[Callable[[Progress], None]]:
    """A callback that draws a bar on a terminal, prints objects with --json, else is silent."""
    if console.as_json:
        yield JsonProgress(console, str(plan.source))
    elif console.quiet or not sys.stderr.isatty():
        yield lambda p: console.info(f"  {remark(p)}") if p.note else None
    else:
        with BARS.one(plan.source.name) as tell:
            yield tell


def remark(p: Progress) -> str:
    return p.note if p.event == "again" else f"{p.note}: starting anew"


class JsonProgress:
    """Progress as objects, at most four a second; segments always."""

    def __init__(self, console: Console, source: str) -> None:
        self._voice, self._source, self._next = console, source, 0.0

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if p.event in ("progress", "join") and now < self._next:
            return
        if p.event == "start" and not (p.note or p.resumed_frames):
            return  # nothing to tell yet: the first frame is told at once
        self._next = now + 0.25
        name = {"start": "resume", "segment": "segment", "again": "again"}.get(p.event, "progress")
        eta = None if p.eta_seconds is None else round(p.eta_seconds, 1)
        self._voice.event(
            name,
            input=self._source,
            stage=p.event if p.event in ("join", "verify") else "upscale",
            frames=p.frames,
            total=p.total,
            fps=round(p.fps, 3),
            eta_seconds=eta,
            segment=p.segment,
            **({"nodes": {n: round(fps, 3) for n, fps in p.nodes.items()}} if p.nodes else {}),
            **({"why" if p.event == "again" else "restarted": p.note} if p.note else {}),
        )


class Bars:
    """The terminal's progress: a bar for each film that is being made, one or several."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._lock = threading.Lock()

    @contextmanager
    def one(self, name: str) -> Iterator[Callable[[Progress], None]]:
        """A callback that draws one film's bar."""
        with self._lock:
            rich = self._rich = self._rich or self._begun()
            task = rich.add_task(name, total=None, of="?", fps=0.0, segment=0, eta="?", nodes="")

        def tell(p: Progress) -> None:
            if p.note:
                rich.console.print(f"  {remark(p)}")
            elif p.event == "start" and p.resumed_frames:
                rich.console.print(f"  going on after {p.resumed_frames} frames of an earlier run")
            stage = p.event if p.event in ("join", "verify") else "upscale"
            rich.update(
                task,
                description=stage if len(rich.tasks) == 1 else f"{stage} {name}",
                completed=p.frames,
                total=p.total,
                of=p.total if p.total is not None else "?",
                fps=p.fps,
                segment=p.segment + 1,
                eta=format_duration(p.eta_seconds),
                nodes=nodes_in_words(p),
            )

        try:
            yield tell
        finally:
            with self._lock:
                rich.remove_task(task)
                if not rich.tasks:
                    rich.stop()
                    self._rich = None

    def _begun(self) -> RichProgress:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.fields[of]} frames"),
            TextColumn("{task.fields[fps]:.1f} fps"),
            TextColumn("segment {task.fields[segment]}"),
            TextColumn("ETA {task.fields[eta]}"),
            TextColumn("{task.fields[nodes]}"),
            console=RichConsole(stderr=True),
            transient=True,
        )
        rich.start()
        return rich


BARS = Bars()


def nodes_in_words(p: Progress) -> str:
    """What a cluster's nodes make: each one's fps where they are few."""
    if len(p.nodes) > 3:
        return f"{len(p.nodes)} nodes, {min(p.nodes.values()):.1f} to {max(p.nodes.values()):.1f}"
    return ", ".join(f"{node.split(':')[0]} {fps:.1f}" for node, fps in sorted(p.nodes.items()))


def _stream(source: Path, output: Path | None, options: UpscaleOptions, console: Console) -> int:
    from sharpreel.pipeline.pipes import run

    stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer) if options.live else sys.stdin.buffer
    result = run(source, output, options, stdin, sys.stdout.buffer)
    for note in result.notes:
        console.info(f"  note: {note}")
    console.info(f"{_frames(result.frames)}, {result.fps:.1f} fps ({result.engine}).")
    return 1 if result.lost else 0


def plan(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Video or folder of videos.")],
    output: Output = None,
    model: Model = None,
    scale: Scale = None,
    height: Height = None,
    size: Size = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    precision: Precision = "auto",
    settings: Settings = None,
    tile: TileSide = "auto",
    max_memory: MaxMemory = None,
    offline: Offline = False,
    codec: CodecName = None,
    crf: Crf = None,
    preset: Preset = None,
    pix_fmt: PixFmt = None,
    start: Start = None,
    end: End = None,
    allow_audio_transcode: Transcode = False,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Plan for replacing an existing output.")
    ] = False,
    segment_seconds: SegmentSeconds = 10.0,
    recursive: Recursive = False,
    no_trial: Annotated[
        bool, typer.Option("--no-trial", help="Do not time the first seconds of the input.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what `upscale` would do with these options, how long it takes and what it needs."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.errors import NothingToDoError
        from sharpreel.pipeline.estimate import measure
        from sharpreel.pipeline.options import UpscaleOptions
        from sharpreel.system.text import parse_bytes
        from sharpreel.upscale import plan_for

        model = model or DEFAULT_MODEL
        options = UpscaleOptions(
            model=model,
            scale=scale,
            height=height,
            size=size_of(size),
            device=device,
            engine=engine,
            precision=precision,
            codec=codec,
            crf=crf,
            preset=preset,
            pix_fmt=pix_fmt,
            start=seconds_of(start),
            end=seconds_of(end),
            allow_audio_transcode=allow_audio_transcode,
            overwrite=overwrite,
            segment_seconds=segment_seconds,
            choices=parse_settings(settings),
            tile=tile_of(tile),
            max_memory=parse_bytes(max_memory),
        )
        have_model(model, offline, console)
        code = 0
        jobs = list_jobs(source, output, recursive)
        for one, target in jobs:
            try:
                made = plan_for(one, target, options)
                made.refuse_engine()
                estimate = None if no_trial else measure(made)
            except NothingToDoError as e:
                console.event("skipped", input=str(one), reason=str(e))
                console.result(f"{one}: nothing to do, {e}.")
                continue
            except SharpreelError as e:
                if debug:
                    traceback.print_exc()
                console.error(e, str(one))
                code = e.exit_code if len(jobs) == 1 else 1
                continue
            numbers = None if estimate is None else estimate.as_dict()
            console.event("plan", **made.as_dict(), estimate=numbers)
            if not as_json:
                print_plan(made, estimate)
        raise typer.Exit(code)


def print_plan(plan: Plan, estimate: Estimate | None) -> None:
    from rich.console import Console as RichConsole
    from rich.markup import escape
    from rich.table import Table

    console = RichConsole()
    info, to = plan.info, plan.settings
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, escape(text))

    row("input", str(plan.source))
    length = "" if info.duration_seconds is None else f", {format_duration(info.duration_seconds)}"
    frames = "unknown number of" if plan.num_frames is None else f"about {plan.num_frames}"
    row(
        "",
        f"{info.width}x{info.height} {info.codec} {info.pix_fmt}, {float(info.rate):.3f} fps, "
        f"{frames} frames{length}",
    )
    row("output", str(plan.output))
    quality = "" if to.crf is None else f" crf {to.crf}"
    speed = "" if to.preset is None else f" preset {to.preset}"
    row("", f"{to.width}x{to.height} {to.codec}{quality}{speed} {to.pix_fmt}")
    row("network", f"{plan.model.name} x{plan.model.scale}: {plan.model.spec.summary}")
    row("precision", f"{plan.choice.precision}: {plan.choice.why}")
    for stream in plan.streams:
        words = [stream.kind, stream.codec, *filter(None, [stream.language, stream.title])]
        verb = {
            "copy": "copied",
            "drop": "NOT KEPT",
            "transcode": "re-encoded",
            "convert": "converted",
        }.get(stream.action, stream.action)
        why = f" ({stream.why})" if stream.why else ""
        row(f"stream {stream.index}", f"{' '.join(words)}: {verb}{why}")
    if plan.chapters:
        row("chapters", str(plan.chapters))
    if plan.num_segments is not None:
        row("segments", f"about {plan.num_segments} (each can be redone alone)")
    for note in plan.notes:
        row("note", note)
    if estimate is not None:
        tiles = f", in tiles of {estimate.tile} pixels" if estimate.tile else ""
        row("engine", estimate.engine + tiles)
        row(
            "speed",
            f"{estimate.fps:.1f} fps on {estimate.frames} frames of this input (decode "
            f"{estimate.decode_fps:.0f}, network {estimate.network_fps:.1f}, encode "
            f"{estimate.encode_fps:.0f} fps alone)",
        )
        row("ETA", format_duration(estimate.eta_seconds))
        if estimate.peak_memory_mb is not None:
            row("memory", f"about {estimate.peak_memory_mb} MiB at its peak")
        if estimate.output_mb is not None:
            row(
                "disk",
                f"about {2 * estimate.output_mb:.1f} MB while it runs, {estimate.output_mb:.1f} MB "
                f"in the end; {estimate.free_disk_mb:.0f} MB are free",
            )
    console.print(table)


def verify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The input of a run.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="What was made of it.")],
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check that OUT holds what IN held: frames, times, streams, tags, colour; exit 5 if not."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.media import verify as checking
        from sharpreel.media.frame import time_range_of
        from sharpreel.media.probe import probe

        window = time_range_of(probe(source), seconds_of(start), seconds_of(end))
        differences = checking.verify(source, output, window)
        console.event(
            "verify", input=str(source), output=str(output), ok=not differences,
            differences=differences,
        )  # fmt: skip
        for difference in differences:
            console.result(difference)
        if not differences:
            console.result(f"{output} holds all that {source} holds.")
        raise typer.Exit(VerificationError.exit_code if differences else 0)
