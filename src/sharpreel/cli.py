"""`sharpreel ...`: words into arguments, one call, and what came of it back into words.

Progress goes to stderr, results to stdout; with --json each line of stdout is one object. Exit
codes are those of `errors.py`. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

import sharpreel
from sharpreel import cli_measuring, cli_studio, cli_training, cli_web
from sharpreel.errors import (
    DiskFullError,
    InputError,
    SharpreelError,
    Terminated,
    UsageError,
    VerificationError,
)
from sharpreel.models import DEFAULT_MODEL, LIVE_MODEL, MODELS
from sharpreel.voice import (
    AsJson,
    Debug,
    Device,
    Offline,
    Precision,
    Quiet,
    Voice,
    clock,
    errors_as_exit_codes,
    settings_of,
    unexpected,
)

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from sharpreel.cluster import Cluster
    from sharpreel.plan import Options, Plan
    from sharpreel.trial import Estimate
    from sharpreel.upscale import Maker, Progress, Result

T = TypeVar("T")
STOP_SECONDS = 5.0  # from Ctrl-C to the end: what a thread still does then is thrown away
app = typer.Typer(
    name="sharpreel",
    help="Turn low-resolution video into high-resolution video, with everything else in it kept.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def seconds_of(text: str | None) -> Fraction | None:
    """Seconds from "12.5", "1:02" or "1:02:03.25".

    Raises:
        UsageError: Not a time.
    """
    if text is None:
        return None
    try:
        parts = [Fraction(part) for part in text.split(":")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if not 1 <= len(parts) <= 3 or any(p < 0 for p in parts):
        raise UsageError(f"{text!r} is not a time; write 12.5, 1:02 or 1:02:03.25.")
    total = Fraction(0)
    for part in parts:
        total = total * 60 + part
    return total


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) from "1920x1080"."""
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"{text!r} is not a size; write 1920x1080.")
    return int(width), int(height)


def tile_of(text: str) -> int | None:
    """Pixels from "256", None from "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise UsageError(f"--tile {text}: write auto, or a number of pixels (0: whole frames).")
    return int(text)


def have_model(name: str, offline: bool, voice: Voice) -> None:
    """Download a published model before anything else, with progress for people."""
    from sharpreel.models.published import PUBLISHED

    if name not in PUBLISHED:
        return
    from sharpreel import fetch

    row, told = PUBLISHED[name], 0.0

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        now = time.monotonic()
        if now >= told + 1 or done == total:
            told = now
            voice.event("download", model=name, url=row.url, bytes=done, total=total)
            of = "" if total is None else f" of {total / 1e6:.1f}"
            voice.say(f"  {row.file}: {done / 1e6:.1f}{of} MB")

    path = fetch.cached(row.file, row.url, row.sha256, tell, offline)
    if told:
        voice.say(f"{name} ({row.licence}): {path}")


# Options that several commands share.
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        "-n",
        "--model-name",
        help=f"Name, or model file; {DEFAULT_MODEL} by default, {LIVE_MODEL} with --live.",
    ),
]
Scale = Annotated[
    float | None, typer.Option("-s", "--scale", help="Factor: 2 or 4; any for tsrcnn.")
]
Height = Annotated[int | None, typer.Option("--height", help="Height of the output as shown.")]
Size = Annotated[str | None, typer.Option("--size", help="Exact size, WIDTHxHEIGHT.")]
EngineName = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="What a checkpoint cannot tell: residual=true, ..."
    ),
]
TileSide = Annotated[
    str, typer.Option("--tile", help="Pixels a side that the network sees at once, 0: all; auto.")
]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", help="What the network may take, such as 800M or 4G.")
]
CodecName = Annotated[
    str | None,
    typer.Option("-c", "--codec", help="h264, hevc, av1, vp9, ffv1, prores, ...; default: fits."),
]
Crf = Annotated[
    int | None, typer.Option("--crf", help="Quality of the encoder; less is better and larger.")
]
Preset = Annotated[str | None, typer.Option("--preset", help="Speed of the encoder.")]
PixFmt = Annotated[str | None, typer.Option("--pix-fmt", help="Pixel format of the output.")]
Start = Annotated[str | None, typer.Option("--start", help="Begin here: 12.5 or 1:02:03.")]
End = Annotated[str | None, typer.Option("--end", help="Stop before this time.")]
Transcode = Annotated[
    bool,
    typer.Option(
        "--allow-audio-transcode", help="Re-encode audio that the output container refuses."
    ),
]
Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders too.")]
SegmentSeconds = Annotated[
    float,
    typer.Option(
        "--segment-seconds", help="About how much video is finished at a time and never redone."
    ),
]
Batch = Annotated[
    int, typer.Option("--batch", help="Segments that go through the network at once; for GPUs.")
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="File or folder to make; - writes y4m to stdout."),
]


@app.command()
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
    voice = Voice(as_json, quiet)
    # A Ray that this command started must be stopped by it, however long that takes.
    with errors_as_exit_codes(voice, debug, None if cluster else STOP_SECONDS):
        from sharpreel.memory import bytes_of
        from sharpreel.plan import Options

        model = model or (LIVE_MODEL if live else DEFAULT_MODEL)
        options = Options(
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
            choices=settings_of(settings),
            tile=tile_of(tile),
            max_memory=bytes_of(max_memory),
            live=live,
            batch=batch,
        )
        if cluster is None and (cpus_per_task is not None or gpus_per_task):
            raise UsageError("--cpus-per-task and --gpus-per-task need --cluster.")
        if cluster is not None and batch > 1:
            raise UsageError("--batch is for one machine; --gpus-per-task 0.25 shares a GPU.")
        have_model(model, offline, voice)
        jobs = list_jobs(source, output, recursive)
        piped = str(source) == "-" or str(output) == "-"
        if live and not piped:
            raise UsageError("--live is for pipes: give - as INPUT, or -o -.")
        if piped and cluster is not None:
            raise UsageError("--cluster makes files, not pipes: leave it out, or name files.")
        if piped:
            raise typer.Exit(_stream(source, output, options, voice))
        films = Films(options, voice, debug, alone=len(jobs) == 1)
        if cluster is None:
            codes = [films.make(job) for job in jobs]
        else:
            codes = _on_cluster(films, jobs, (cluster, cpus_per_task, gpus_per_task))
        if len(jobs) == 1:
            raise typer.Exit(codes[0])
        failed = sum(code != 0 for code in codes)
        voice.event("finished", inputs=len(jobs), failed=failed)
        voice.say(f"{len(jobs) - failed} of {len(jobs)} inputs done.")
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
    from sharpreel import images, video

    found = sorted(
        p
        for p in (source.rglob("*") if recursive else source.iterdir())
        if p.suffix.lower() in video.VIDEO_SUFFIXES
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(source).parts)
        and not any(part.endswith(".sharpreel") for part in p.parts)
    )
    if not found:
        if images.picture_files(source):
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


class Films:
    """Upscales the inputs of one command; several at once on a cluster.

    Args:
        alone: There is only one.
    """

    def __init__(self, options: Options, voice: Voice, debug: bool, alone: bool) -> None:
        self._options, self.voice, self._debug, self.alone = options, voice, debug, alone
        self._outputs: set[Path] = set()
        self._lock = threading.Lock()
        self.maker: Callable[[Plan], Maker] | None = None

    def make(self, job: tuple[Path, Path | None]) -> int:
        """Upscale one input; its exit code. Errors are told here, so that the next one runs."""
        done = self._tried(job, self._upscale)
        if isinstance(done, int):
            return done
        report_result(*done, self.voice)
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
        show_plan_briefly(plan, self.voice)
        with progress_shown(plan, self.voice) as tell:
            return plan, run(plan, tell, self.maker)

    def _tried(
        self, job: tuple[Path, Path | None], do: Callable[[Path, Path | None], T]
    ) -> T | int:
        """What came of it, or the exit code of why nothing did, which is told."""
        from sharpreel.plan import NothingToDo

        source, voice = job[0], self.voice
        try:
            return do(*job)
        except NothingToDo as e:
            voice.event("skipped", input=str(source), reason=str(e))
            voice.say(f"{source}: skipped, {e}.")
            return 0
        except SharpreelError as e:
            if isinstance(e, DiskFullError | Terminated) and not self.alone:
                raise  # the next input would meet the same full disk, or is not wanted
            if self._debug:
                traceback.print_exc()
            voice.error(e, str(source))
            if isinstance(e, VerificationError):
                for difference in e.differences:
                    voice.say(f"  {difference}")
            return e.exit_code
        except Exception as e:
            if self.alone:
                raise
            if self._debug:
                traceback.print_exc()
            voice.error(unexpected(e), str(source))
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
    films: Films, jobs: list[tuple[Path, Path | None]], where: tuple[str, int | None, float]
) -> list[int]:
    """Make all inputs as one plan over a cluster; their exit codes."""
    from sharpreel.cluster import WARNING, Cluster

    wanted = Cluster(*where)
    if films.alone and (code := films.refuse(jobs[0])) is not None:
        return [code]  # before a Ray is started for it
    if where[0] == "local":
        films.voice.warn(WARNING)
    # Ray prints what befalls a cluster, such as a lost node, to stdout, which is for our events.
    with redirect_stdout(sys.stderr), wanted as there:
        films.maker = there.film
        show_cluster(there, films.voice)
        return there.map(films.make, jobs)


def show_cluster(there: Cluster, voice: Voice) -> None:
    nodes, at_once = len(there.nodes), there.capacity
    voice.event(
        "cluster", address=there.address, nodes=nodes, at_once=at_once,
        cpus_per_task=there.cpus_per_task, gpus_per_task=there.gpus_per_task,
    )  # fmt: skip
    voice.say(
        f"cluster {there.address}: {nodes} node{'' if nodes == 1 else 's'}, {at_once} segments at "
        f"once, each on {there.cpus_per_task} processors"
        + (f" and {there.gpus_per_task:g} GPU" if there.gpus_per_task else "")
    )
    if not at_once:
        voice.warn("no node of the cluster has room for a task now; waiting for one that has.")


def show_plan_briefly(plan: Plan, voice: Voice) -> None:
    info, to = plan.info, plan.settings
    voice.event("start", **plan.as_dict())
    voice.say(
        f"{plan.source} ({info.width}x{info.height}) -> {plan.output} ({to.width}x{to.height}, "
        f"{to.codec}) with {plan.model.name} x{plan.model.scale}"
    )
    for note in plan.notes:
        voice.say(f"  note: {note}")


def report_result(plan: Plan, result: Result, voice: Voice) -> None:
    voice.event(
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
        voice.say(f"  note: {note}")
    if result.lost:
        print(
            f"sharpreel: {plan.source}: {_frames(result.lost)} did not decode, missing from "
            f"{result.output}; {result.frames} upscaled.",
            file=sys.stderr,
        )
    voice.say(
        f"{_frames(result.frames)} in {clock(result.seconds)} ({result.fps:.1f} fps, "
        f"{result.engine}), verified."
    )
    if not voice.quiet:
        voice.result(str(result.output))


def _frames(count: int) -> str:
    return f"{count} frame" + ("" if count == 1 else "s")


@contextmanager
def progress_shown(plan: Plan, voice: Voice) -> Iterator[Callable[[Progress], None]]:
    """A callback that draws a bar on a terminal, prints objects with --json, else is silent."""
    if voice.as_json:
        yield JsonProgress(voice, str(plan.source))
    elif voice.quiet or not sys.stderr.isatty():
        yield lambda p: voice.say(f"  {remark(p)}") if p.note else None
    else:
        with BARS.one(plan.source.name) as tell:
            yield tell


def remark(p: Progress) -> str:
    return p.note if p.event == "again" else f"{p.note}: starting anew"


class JsonProgress:
    """Progress as objects, at most four a second; segments always."""

    def __init__(self, voice: Voice, source: str) -> None:
        self._voice, self._source, self._next = voice, source, 0.0

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
                eta=clock(p.eta_seconds),
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
        from rich.console import Console
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
            console=Console(stderr=True),
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


def _stream(source: Path, output: Path | None, options: Options, voice: Voice) -> int:
    from sharpreel import pipes

    stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer) if options.live else sys.stdin.buffer
    result = pipes.run(source, output, options, stdin, sys.stdout.buffer)
    for note in result.notes:
        voice.say(f"  note: {note}")
    voice.say(f"{_frames(result.frames)}, {result.fps:.1f} fps ({result.engine}).")
    return 1 if result.lost else 0


@app.command()
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
    voice = Voice(as_json, quiet=False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel.memory import bytes_of
        from sharpreel.plan import NothingToDo, Options
        from sharpreel.trial import measure
        from sharpreel.upscale import plan_for

        model = model or DEFAULT_MODEL
        options = Options(
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
            choices=settings_of(settings),
            tile=tile_of(tile),
            max_memory=bytes_of(max_memory),
        )
        have_model(model, offline, voice)
        code = 0
        jobs = list_jobs(source, output, recursive)
        for one, target in jobs:
            try:
                made = plan_for(one, target, options)
                made.refuse_engine()
                estimate = None if no_trial else measure(made)
            except NothingToDo as e:
                voice.event("skipped", input=str(one), reason=str(e))
                voice.result(f"{one}: nothing to do, {e}.")
                continue
            except SharpreelError as e:
                if debug:
                    traceback.print_exc()
                voice.error(e, str(one))
                code = e.exit_code if len(jobs) == 1 else 1
                continue
            numbers = None if estimate is None else estimate.as_dict()
            voice.event("plan", **made.as_dict(), estimate=numbers)
            if not as_json:
                print_plan(made, estimate)
        raise typer.Exit(code)


def print_plan(plan: Plan, estimate: Estimate | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    info, to = plan.info, plan.settings
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, escape(text))

    row("input", str(plan.source))
    length = "" if info.duration_seconds is None else f", {clock(info.duration_seconds)}"
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
        row("ETA", clock(estimate.eta_seconds))
        if estimate.peak_memory_mb is not None:
            row("memory", f"about {estimate.peak_memory_mb} MiB at its peak")
        if estimate.output_mb is not None:
            row(
                "disk",
                f"about {2 * estimate.output_mb:.1f} MB while it runs, {estimate.output_mb:.1f} MB "
                f"in the end; {estimate.free_disk_mb:.0f} MB are free",
            )
    console.print(table)


@app.command()
def verify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The input of a run.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="What was made of it.")],
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check that OUT holds what IN held: frames, times, streams, tags, colour; exit 5 if not."""
    voice = Voice(as_json, quiet=False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import mux, video
        from sharpreel import verify as checking

        window = mux.window_of(video.probe(source), seconds_of(start), seconds_of(end))
        differences = checking.verify(source, output, window)
        voice.event(
            "verify", input=str(source), output=str(output), ok=not differences,
            differences=differences,
        )  # fmt: skip
        for difference in differences:
            voice.result(difference)
        if not differences:
            voice.result(f"{output} holds all that {source} holds.")
        raise typer.Exit(VerificationError.exit_code if differences else 0)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the networks: in the package, to download by name, and those to give a checkpoint of."""
    from rich.console import Console

    from sharpreel import weights
    from sharpreel.models.published import PUBLISHED

    voice = Voice(as_json, quiet=False)
    rows: dict[str, list[tuple[str, ...]]] = {"package": [], "download": [], "checkpoint": []}
    for name, spec in MODELS.items():
        shared = {"context": spec.context, "summary": spec.summary, "licence": spec.licence}
        if not spec.bundled:
            factors = "x" + ", ".join(map(str, spec.scales))
            choices = {
                k: v if isinstance(v, tuple) else v.__name__ for k, v in spec.choices.items()
            }
            for scale in spec.scales:
                voice.event("model", name=name, family=name, scale=scale, **shared,
                            where="checkpoint", source=spec.source,
                            choices=choices)  # fmt: skip
            rows["checkpoint"].append(
                (name, factors, spec.context, spec.licence, f"{spec.summary}; {spec.source}")
            )
            continue
        for scale in weights.available_scales(name):
            card = weights.load_model(name, scale).card
            voice.event("model", name=name, family=name, scale=scale, **shared,
                        parameters=card.get("parameters", 0), where="package",
                        source=spec.source, card=card)  # fmt: skip
            gain = f"+{card['val_psnr_y']['gain_db']:.2f} dB" if card else "-"
            default = " (default)" if name == DEFAULT_MODEL else ""
            rows["package"].append(
                (name, f"x{scale}", f"{card.get('parameters', 0):,}", gain, spec.context,
                 spec.licence, spec.summary + default)
            )  # fmt: skip
    for name, row in PUBLISHED.items():
        spec = MODELS[row.model]
        voice.event("model", name=name, family=row.model, scale=row.scale,
                    parameters=row.parameters, context=spec.context, licence=row.licence,
                    where="download", source=row.url, trained=row.trained)  # fmt: skip
        rows["download"].append(
            (name, f"x{row.scale}", f"{row.parameters:,}", spec.context, row.licence,
             f"{row.model}, {row.trained}")
        )  # fmt: skip
    if as_json:
        return
    print_table(
        ("in the package", "scale", "parameters", "over bicubic", "frames", "licence", "what"),
        rows["package"],
    )
    print_table(
        ("to download", "scale", "parameters", "frames", "licence", "network, trained on"),
        rows["download"],
    )
    print_table(
        ("give a checkpoint of", "scale", "frames", "licence", "what; where from"),
        rows["checkpoint"],
    )
    Console().print(
        "frames: those it looks at; 3+1+3 sees three before and three after. Downloads come from "
        "their publishers: --json has the addresses."
    )


def print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table whose last column alone may be folded."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, "")


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models to download.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Download published models to the cache, for use without a network; says where they lie."""
    voice = Voice(as_json, quiet=False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import weights
        from sharpreel.models.published import PUBLISHED

        for name in names:
            if name not in PUBLISHED:
                known = ", ".join(PUBLISHED)
                raise UsageError(f"{name}: nothing to download; there are {known}.")
            have_model(name, False, voice)
            model = weights.load_model(name)
            voice.event("fetched", model=name, path=model.tensors, sha256=model.sha256)
            voice.result(str(model.tensors))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this installation has: versions, devices, codecs, instruction sets."""
    from sharpreel import diagnose

    facts = diagnose.facts()
    voice = Voice(as_json, quiet=False)
    voice.event("doctor", **facts)
    for name, value in facts.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        voice.result(f"{name:<22} {words}")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Name of a bundled model, or a model file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for .xml and .bin.")],
    scale: Scale = None,
    precision: Annotated[str, typer.Option("--precision", help="float32 or int8.")] = "float32",
    videos: Annotated[
        Path | None, typer.Option("--data", help="For int8: folder of videos to calibrate on.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Build a model's OpenVINO graph, which runs without torch, from its weights."""
    voice = Voice(False, False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import weights

        loaded = weights.load_model(model, scale)
        if precision == "int8":
            if videos is None:
                raise UsageError("--precision int8 needs videos to calibrate on: --data FOLDER.")
            from sharpreel.quantize import quantize

            print(quantize(loaded, videos, output, voice.say))
        elif precision == "float32":
            print(weights.export_graph(loaded, output))
        else:
            raise UsageError(f"--precision {precision} is not known; choose float32 or int8.")


cli_measuring.register(app)
cli_training.register(app)
cli_web.register(app)
cli_studio.register(app)


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"sharpreel {sharpreel.__version__}")
        raise typer.Exit


def main() -> None:
    """The `sharpreel` command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    app()


if __name__ == "__main__":
    main()
