"""`sharpreel evaluate` and `compare`: words into arguments, one call, and words again."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Device, Offline, Precision, Quiet
from sharpreel.errors import InputError, MissingExtra, UsageError

if TYPE_CHECKING:
    from sharpreel.evaluation.benchmark import Hear
    from sharpreel.evaluation.scores import FrameScore

ProtocolName = Annotated[
    str, typer.Option("--protocol", help="P1, P1-RGB, P1-Vimeo, P2, P3, P4 or E.")
]
Seams = Annotated[
    str | None,
    typer.Option("--seams", help="Where joins may show: t48+,x640,y360: frames, columns, rows."),
]
NoTemporal = Annotated[
    bool, typer.Option("--no-temporal", help="Leave out tOF, warping error and flicker.")
]
REGRESSED = 1  # exit code


def evaluate(
    model: Annotated[
        list[str], typer.Option("-m", "--model", help="Name or file; as often as you like.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Clips in high resolution: folder, store, video, or vid4, reds4, udm10, spmcs, "
            "vimeo90k-t.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the report.")] = Path(
        "report"
    ),
    degrade: Annotated[
        str, typer.Option("--degrade", help="bi, bd, area, ...: how they are made small.")
    ] = "bi",
    scale: Annotated[
        float | None, typer.Option("-s", "--scale", help="Factor; the first model's by default.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="P1, P1-RGB, P1-Vimeo, P2, P3, P4 or E; P1, or that of the named set.",
        ),
    ] = None,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="Names of the clips to take, one a line.")
    ] = None,
    lr: Annotated[
        Path | None, typer.Option("--lr", help="Low-resolution twins, laid out as --data is.")
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", min=1, help="Of each clip, at most so many.")
    ] = None,
    no_temporal: NoTemporal = False,
    vmaf: Annotated[bool, typer.Option("--vmaf", help="Measure VMAF and VMAF-NEG, too.")] = False,
    lpips: Annotated[
        Path | None, typer.Option("--lpips", help="Measure LPIPS: vgg16 or alexnet of torchvision.")
    ] = None,
    lpips_heads: Annotated[
        Path | None, typer.Option("--lpips-heads", help="Its vgg.pth or alex.pth, of lpips 0.1.")
    ] = None,
    niqe: Annotated[
        Path | None, typer.Option("--niqe", help="Measure NIQE: a model, or a folder of pictures.")
    ] = None,
    seams: Seams = None,
    device: Device = "auto",
    engine: Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")] = "auto",
    precision: Precision = "auto",
    against: Annotated[
        Path | None, typer.Option("--against", help="scores.json of an earlier report.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="dB that may be lost against it.")
    ] = 0.02,
    offline: Offline = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make clips small, enlarge them by networks and bicubic, and measure both by a protocol."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.cli.models import fetch_model
        from sharpreel.evaluation import report, tables
        from sharpreel.evaluation.benchmark import benchmark

        baseline = None if against is None else read_scores(against)
        files = files_of_lpips(lpips, lpips_heads)
        for name in model:
            fetch_model(name, offline, console)
        done = benchmark(
            model, data, degradation=degrade, scale=scale, protocol=protocol,
            list_file=list_file, lr_folder=lr, max_frames=max_frames,
            temporal=not no_temporal, with_vmaf=vmaf, lpips=files, niqe=niqe, seams=seams,
            device=device, engine=engine, precision=precision, tell=clip_told(console),
            hear=frame_told(console),
        )  # fmt: skip
        page = report.write_report(done, output, shlex.join(["sharpreel", *sys.argv[1:]]))
        for note in done.notes:
            console.info(f"note: {note}")
        console.event("evaluated", report=str(page), scores=done.as_dict()["means"])
        console.result(tables.to_markdown(done).rstrip())
        console.info(f"{page}")
        worse = [] if baseline is None else tables.against(done, baseline, tolerance)
        for line in worse:
            console.event("regression", what=line)
            console.result(f"worse than {against}: {line}")
        raise typer.Exit(REGRESSED if worse else 0)


def files_of_lpips(trunk: Path | None, heads: Path | None) -> tuple[Path, Path] | None:
    """Both files or neither.

    Raises:
        UsageError: One is missing; the message says which to get.
        MissingExtra: torch is not there.
    """
    if trunk is not None and heads is not None:
        return trunk, heads
    if trunk is None and heads is None:
        return None
    try:
        from sharpreel.evaluation.metrics.lpips import what_to_get
    except ImportError as e:
        raise MissingExtra("LPIPS", "torch") from e
    raise UsageError(f"LPIPS needs --lpips TRUNK and --lpips-heads HEADS: {what_to_get()}.")


def read_scores(path: Path) -> dict[str, Any]:
    """The scores.json of a report.

    Raises:
        InputError: It is none.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: not the scores.json of a report.") from e
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the scores.json of a report.")
    return content


def clip_told(console: Console) -> Any:
    """A callback that says each clip as it is begun, and with --json how far it is, at most four
    times a second."""
    told, first, since, next_time = "", 0, 0.0, 0.0

    def tell(clip: str, done: int, total: int | None) -> None:
        nonlocal told, first, since, next_time
        now = time.monotonic()
        if clip != told:
            told, first, since, next_time = clip, done, now, now
            console.info(f"  {clip}")
        if now >= next_time or done == total:
            next_time = now + 0.25
            left = None
            if total is not None and done > first:
                left = (now - since) / (done - first) * (total - done)
            console.event("progress", clip=clip, frames=done, total=total, eta_seconds=left)

    return tell


def frame_told(console: Console) -> Hear | None:
    """With --json, a callback that says the scores of each frame, which took longer to measure
    than its line takes to write."""
    if not console.as_json:
        return None
    from sharpreel.evaluation.scores import plain

    def hear(clip: str, scores: Mapping[str, FrameScore]) -> None:
        one = next(iter(scores.values()))
        found = {m: {"psnr": plain(s.psnr), "ssim": plain(s.ssim)} for m, s in scores.items()}
        console.event("frame", clip=clip, frame=one.frame, scores=found)

    return hear


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A video.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same content and size.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="The truth: both are measured against it.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Comparison video; a contact sheet beside it.")
    ] = Path("comparison.mp4"),
    mode: Annotated[str, typer.Option("--mode", help="wipe or side-by-side.")] = "wipe",
    align: Annotated[
        bool, typer.Option("--align", help="Find by how many frames one begins later.")
    ] = False,
    protocol: ProtocolName = "P1",
    no_temporal: NoTemporal = False,
    seams: Seams = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two videos: a wipe, a contact sheet, and numbers where there is a truth."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.evaluation import compare as comparing

        chosen: Any = mode
        told = clip_told(console)
        found = comparing.compare(
            a, b, reference, output, mode=chosen, align=align, protocol=protocol,
            temporal=not no_temporal, seams=seams, tell=lambda done, of: told(b.name, done, of),
        )  # fmt: skip
        console.event("compared", **found.as_dict())
        for note in found.notes:
            console.info(f"note: {note}")
        console.result(
            f"{found.frames} frames; B against A: {found.psnr:.2f} dB ({found.protocol})"
        )
        for kind, seam in (("time", found.seam_time), ("space", found.seam_space)):
            if seam is not None:
                console.result(f"seam in {kind} {seam:.2f} (1: does not stand out)")
        for name, scores in ((found.a, found.a_scores), (found.b, found.b_scores)):
            if scores is not None:
                console.result(f"{name}: {scores.psnr:.2f} dB, SSIM {scores.ssim:.4f}")
        console.result(f"{found.video}\n{found.sheet}")
