"""`sharpreel plan` and `verify`: what a run would do, and whether an output holds its input."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpreel.cli.arguments import seconds_of
from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.models import fetch_model
from sharpreel.cli.options import AsJson, Debug, End, Start, UpscaleArguments, expanded
from sharpreel.errors import NothingToDoError, SharpreelError, UsageError, VerificationError
from sharpreel.system.text import format_duration

if TYPE_CHECKING:
    from sharpreel.pipeline.estimate import Estimate
    from sharpreel.pipeline.plan import Plan
    from sharpreel.queue import Job


@expanded
def plan(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Video or folder of videos.")],
    chosen: UpscaleArguments,
    no_trial: Annotated[
        bool, typer.Option("--no-trial", help="Do not time the first seconds of the input.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what `upscale` would do with these options, how long it takes and what it needs."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.pipeline.inputs import find_inputs

        chosen.options()  # refuse what cannot be parsed before anything else
        if "-" in (str(source), str(chosen.output)):
            raise UsageError("A pipe cannot be planned: nothing of it is known before it is read.")
        fetch_model(chosen.model_name, chosen.offline, console)
        jobs = find_inputs(source, chosen.output, chosen.recursive)
        codes = [_plan_one(job, chosen, console, no_trial, debug) for job in jobs]
        raise typer.Exit(codes[0] if len(codes) == 1 else int(any(codes)))


def _plan_one(
    job: Job, chosen: UpscaleArguments, console: Console, no_trial: bool, debug: bool
) -> int:
    """Print the plan of one input; the exit code."""
    from sharpreel.pipeline.estimate import measure
    from sharpreel.pipeline.plan import make_plan

    source, output = job
    try:
        plan = make_plan(source, output, chosen.options())
        plan.validate_engine()
        estimate = None if no_trial else measure(plan)
    except NothingToDoError as e:
        console.event("skipped", input=str(source), reason=str(e))
        console.result(f"{source}: nothing to do, {e}.")
        return 0
    except SharpreelError as e:
        if debug:
            traceback.print_exc()
        console.error(e, str(source))
        return e.exit_code
    console.event(
        "plan", **plan.as_dict(), estimate=None if estimate is None else estimate.as_dict()
    )
    if not console.as_json:
        print_plan(plan, estimate)
    return 0


def print_plan(plan: Plan, estimate: Estimate | None) -> None:
    """Print a plan as a table for people."""
    from rich.console import Console as RichConsole
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = _plan_rows(plan) + ([] if estimate is None else _estimate_rows(estimate))
    for name, text in rows:
        table.add_row(name, escape(text))
    RichConsole().print(table)


def _plan_rows(plan: Plan) -> list[tuple[str, str]]:
    info, to = plan.info, plan.settings
    length = "" if info.duration_seconds is None else f", {format_duration(info.duration_seconds)}"
    frames = "unknown number of" if plan.num_frames is None else f"about {plan.num_frames}"
    quality = "" if to.crf is None else f" crf {to.crf}"
    speed = "" if to.preset is None else f" preset {to.preset}"
    rows = [
        ("input", str(plan.source)),
        (
            "",
            f"{info.width}x{info.height} {info.codec} {info.pix_fmt}, {float(info.rate):.3f} fps, "
            f"{frames} frames{length}",
        ),
        ("output", str(plan.output)),
        ("", f"{to.width}x{to.height} {to.codec}{quality}{speed} {to.pix_fmt}"),
        ("network", f"{plan.model.name} x{plan.model.scale}: {plan.model.spec.summary}"),
        ("precision", f"{plan.choice.precision}: {plan.choice.why}"),
    ]
    verbs = {
        "copy": "copied",
        "drop": "NOT KEPT",
        "transcode": "re-encoded",
        "convert": "converted",
    }
    for stream in plan.streams:
        words = [stream.kind, stream.codec, *filter(None, [stream.language, stream.title])]
        why = f" ({stream.why})" if stream.why else ""
        verb = verbs.get(stream.action, stream.action)
        rows.append((f"stream {stream.index}", f"{' '.join(words)}: {verb}{why}"))
    if plan.target.chapters:
        rows.append(("chapters", str(plan.target.chapters)))
    if plan.num_segments is not None:
        rows.append(("segments", f"about {plan.num_segments} (each can be redone alone)"))
    return rows + [("note", note) for note in plan.notes]


def _estimate_rows(estimate: Estimate) -> list[tuple[str, str]]:
    tiles = f", in tiles of {estimate.tile} pixels" if estimate.tile else ""
    rows = [
        ("engine", estimate.engine + tiles),
        (
            "speed",
            f"{estimate.fps:.1f} fps on {estimate.frames} frames of this input (decode "
            f"{estimate.decode_fps:.0f}, network {estimate.network_fps:.1f}, encode "
            f"{estimate.encode_fps:.0f} fps alone)",
        ),
        ("ETA", format_duration(estimate.eta_seconds)),
    ]
    if estimate.peak_memory_mb is not None:
        rows.append(("memory", f"about {estimate.peak_memory_mb} MiB at its peak"))
    if estimate.output_mb is not None:
        rows.append(
            (
                "disk",
                f"about {2 * estimate.output_mb:.1f} MB while it runs, {estimate.output_mb:.1f} MB "
                f"in the end; {estimate.free_disk_mb:.0f} MB are free",
            )
        )
    return rows


def verify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The input of a run.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The output file to check.")],
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
            "verify",
            input=str(source),
            output=str(output),
            ok=not differences,
            differences=differences,
        )
        for difference in differences:
            console.result(difference)
        if not differences:
            console.result(f"{output} holds all that {source} holds.")
        raise typer.Exit(VerificationError.exit_code if differences else 0)
