"""`sharpreel evaluate` and `sharpreel compare`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Device, Offline, Precision, Quiet
from sharpreel.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from sharpreel.evaluation.benchmark import BenchmarkSettings, FrameCallback, ProgressCallback
    from sharpreel.evaluation.compare import Comparison
    from sharpreel.evaluation.results import Evaluation, FrameScore

REGRESSED = 1  # exit code
PROGRESS_SECONDS = 0.25  # between two progress events

Models = Annotated[
    list[str], typer.Option("-m", "--model", help="Model name or file; may be repeated.")
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        help="High-resolution clips: folder, store, video, or vid4, reds4, udm10, spmcs, "
        "vimeo90k-t.",
    ),
]
ReportFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder of the report.")]
Degradation = Annotated[
    str,
    typer.Option("--degrade", help="Degradation used to create the LR input: bi, bd, area, ..."),
]
Scale = Annotated[
    float | None, typer.Option("-s", "--scale", help="Scale; the first model's by default.")
]
SetProtocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="P1, P1-RGB, P1-Vimeo, P2, P3, P4 or E; default: P1, or that of the named set.",
    ),
]
ListFile = Annotated[
    Path | None, typer.Option("--list", help="Names of the clips to take, one per line.")
]
LrFolder = Annotated[
    Path | None,
    typer.Option("--lr", help="Low-resolution versions, with the same layout as --data."),
]
MaxFrames = Annotated[
    int | None, typer.Option("--max-frames", min=1, help="At most N frames of each clip.")
]
NoTemporal = Annotated[
    bool, typer.Option("--no-temporal", help="Skip tOF, warping error and flicker.")
]
Vmaf = Annotated[bool, typer.Option("--vmaf", help="Also measure VMAF and VMAF-NEG.")]
LpipsTrunk = Annotated[
    Path | None, typer.Option("--lpips", help="Measure LPIPS: torchvision's vgg16 or alexnet.")
]
LpipsHeads = Annotated[
    Path | None,
    typer.Option("--lpips-heads", help="For --lpips: vgg.pth or alex.pth of lpips 0.1."),
]
NiqeModel = Annotated[
    Path | None, typer.Option("--niqe", help="Measure NIQE: a model, or a folder of images.")
]
Seams = Annotated[
    str | None,
    typer.Option("--seams", help="Seam positions to check: t48+,x640,y360: frames, columns, rows."),
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]
Against = Annotated[
    Path | None, typer.Option("--against", help="scores.json of an earlier report.")
]
Tolerance = Annotated[
    float,
    typer.Option("--tolerance", min=0, help="Allowed PSNR drop (dB) relative to --against."),
]


def evaluate(
    model: Models,
    data: Data,
    output: ReportFolder = Path("report"),
    degrade: Degradation = "bi",
    scale: Scale = None,
    protocol: SetProtocol = None,
    list_file: ListFile = None,
    lr: LrFolder = None,
    max_frames: MaxFrames = None,
    no_temporal: NoTemporal = False,
    vmaf: Vmaf = False,
    lpips: LpipsTrunk = None,
    lpips_heads: LpipsHeads = None,
    niqe: NiqeModel = None,
    seams: Seams = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    precision: Precision = "auto",
    against: Against = None,
    tolerance: Tolerance = 0.02,
    offline: Offline = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Downscale clips, upscale them by models and bicubic, and measure both by a protocol."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.evaluation.benchmark import BenchmarkSettings

        settings = BenchmarkSettings(
            degradation=degrade,
            scale=scale,
            protocol=protocol,
            list_file=list_file,
            lr_folder=lr,
            max_frames=max_frames,
            temporal=not no_temporal,
            vmaf=vmaf,
            lpips=_lpips_files(lpips, lpips_heads),
            niqe=niqe,
            seams=seams,
            device=device,
            engine=engine,
            precision=precision,
        )
        earlier = _Baseline(against, tolerance)
        done = _benchmark(model, data, settings, offline, console)
        _print_report(done, output, console)
        raise typer.Exit(earlier.exit_code(done, console))


def _lpips_files(trunk: Path | None, heads: Path | None) -> tuple[Path, Path] | None:
    """Both files or neither.

    Raises:
        UsageError: One is missing; the message names the files to download.
        MissingExtra: torch is not installed.
    """
    if trunk is not None and heads is not None:
        return trunk, heads
    if trunk is None and heads is None:
        return None
    try:
        from sharpreel.evaluation.metrics.lpips import needed_files
    except ImportError as e:
        raise MissingExtra("LPIPS", "torch") from e
    raise UsageError(f"LPIPS needs --lpips TRUNK and --lpips-heads HEADS: {needed_files()}.")


def _benchmark(
    models: list[str], data: Path, settings: BenchmarkSettings, offline: bool, console: Console
) -> Evaluation:
    """Fetch the models if necessary and run the benchmark."""
    from sharpreel.cli.models import fetch_model
    from sharpreel.evaluation.benchmark import benchmark

    for name in models:
        fetch_model(name, offline, console)
    return benchmark(
        models,
        data,
        settings,
        on_progress=progress_events(console),
        on_frame=_frame_events(console),
    )


def _print_report(done: Evaluation, folder: Path, console: Console) -> None:
    from sharpreel.evaluation import report, tables

    path = report.write_report(done, folder, shlex.join(["sharpreel", *sys.argv[1:]]))
    for note in done.notes:
        console.info(f"note: {note}")
    console.event("evaluated", report=str(path), scores=done.as_dict()["means"])
    console.result(tables.to_markdown(done).rstrip())
    console.info(f"{path}")


class _Baseline:
    """The report of --against, read before the benchmark so that a wrong file fails early."""

    def __init__(self, path: Path | None, tolerance: float) -> None:
        from sharpreel.evaluation.baseline import read_scores

        self._path, self._tolerance = path, tolerance
        self._scores = None if path is None else read_scores(path)

    def exit_code(self, done: Evaluation, console: Console) -> int:
        """Print where PSNR fell; REGRESSED or 0."""
        if self._scores is None:
            return 0
        from sharpreel.evaluation.baseline import regressions

        worse = regressions(done, self._scores, self._tolerance)
        for line in worse:
            console.event("regression", what=line)
            console.result(f"worse than {self._path}: {line}")
        return REGRESSED if worse else 0


def progress_events(console: Console) -> ProgressCallback:
    """A callback that names each clip once, and with --json reports its progress regularly."""
    current, first, since, next_time = "", 0, 0.0, 0.0

    def on_progress(clip: str, done: int, total: int | None) -> None:
        nonlocal current, first, since, next_time
        now = time.monotonic()
        if clip != current:
            current, first, since, next_time = clip, done, now, now
            console.info(f"  {clip}")
        if now >= next_time or done == total:
            next_time = now + PROGRESS_SECONDS
            left = None
            if total is not None and done > first:
                left = (now - since) / (done - first) * (total - done)
            console.event("progress", clip=clip, frames=done, total=total, eta_seconds=left)

    return on_progress


def _frame_events(console: Console) -> FrameCallback | None:
    """With --json, a callback that prints the scores of each frame.

    Measuring a frame takes longer than writing its line.
    """
    if not console.as_json:
        return None
    from sharpreel.evaluation.results import plain

    def on_frame(clip: str, scores: Mapping[str, FrameScore]) -> None:
        frame = next(iter(scores.values())).frame
        values = {m: {"psnr": plain(s.psnr), "ssim": plain(s.ssim)} for m, s in scores.items()}
        console.event("frame", clip=clip, frame=frame, scores=values)

    return on_frame


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A video.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same content and size.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Ground truth: both are measured against it.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Comparison video; a contact sheet beside it.")
    ] = Path("comparison.mp4"),
    mode: Annotated[str, typer.Option("--mode", help="wipe or side-by-side.")] = "wipe",
    align: Annotated[
        bool, typer.Option("--align", help="Find by how many frames one begins later.")
    ] = False,
    protocol: Annotated[
        str, typer.Option("--protocol", help="P1, P1-RGB, P1-Vimeo, P2, P3, P4 or E.")
    ] = "P1",
    no_temporal: NoTemporal = False,
    seams: Seams = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two videos: a wipe, a contact sheet, and scores if there is a reference."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.evaluation import compare as comparing

        chosen: Any = mode
        on_progress = progress_events(console)
        comparison = comparing.compare(
            a,
            b,
            reference,
            output,
            mode=chosen,
            align=align,
            protocol=protocol,
            temporal=not no_temporal,
            seams=seams,
            on_progress=lambda done, total: on_progress(b.name, done, total),
        )
        _print_comparison(comparison, console)


def _print_comparison(comparison: Comparison, console: Console) -> None:
    console.event("compared", **comparison.as_dict())
    for note in comparison.notes:
        console.info(f"note: {note}")
    console.result(
        f"{comparison.frames} frames; B against A: {comparison.psnr:.2f} dB ({comparison.protocol})"
    )
    for axis, value in (("time", comparison.seam_time), ("space", comparison.seam_space)):
        if value is not None:
            console.result(f"seam in {axis} {value:.2f} (1: not visible)")
    for name, scores in (
        (comparison.a, comparison.a_scores),
        (comparison.b, comparison.b_scores),
    ):
        if scores is not None:
            console.result(f"{name}: {scores.psnr:.2f} dB, SSIM {scores.ssim:.4f}")
    console.result(f"{comparison.video}\n{comparison.sheet}")
