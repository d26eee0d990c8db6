"""`sharpreel upscale`: parse the options, run the queue of inputs, and print the results."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes, unexpected
from sharpreel.cli.models import fetch_model
from sharpreel.cli.options import AsJson, Debug, Quiet, UpscaleArguments, expanded
from sharpreel.cli.progress import progress_shown
from sharpreel.errors import SharpreelError, UsageError, VerificationError
from sharpreel.system.text import format_duration

if TYPE_CHECKING:
    from sharpreel.cluster.ray_cluster import Cluster
    from sharpreel.pipeline.plan import Plan
    from sharpreel.pipeline.stages import ProgressCallback, Result
    from sharpreel.queue import Job, Outcome, UpscaleQueue

STOP_SECONDS = 5.0  # from Ctrl-C to the end: what a thread still does then is discarded


@dataclass(frozen=True)
class ClusterArguments:
    """Where and how to run on a cluster."""

    address: str
    cpus_per_task: int | None
    gpus_per_task: float


@expanded
def upscale(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Video, folder of videos or images, or - for y4m on stdin."
        ),
    ],
    chosen: UpscaleArguments,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Run on a Ray cluster: auto, ray://HOST:PORT or local."),
    ] = None,
    cpus_per_task: Annotated[
        int | None, typer.Option("--cpus-per-task", help="Processors per segment; default 2.")
    ] = None,
    gpus_per_task: Annotated[
        float, typer.Option("--gpus-per-task", help="GPUs per segment, such as 1 or 0.25.")
    ] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Upscale a video, or every video of a folder, and keep everything else in it."""
    console = Console(as_json, quiet)
    # A Ray that this command started must be stopped by it, however long that takes.
    with errors_as_exit_codes(console, debug, None if cluster else STOP_SECONDS):
        from sharpreel.pipeline.inputs import find_inputs
        from sharpreel.queue import UpscaleQueue

        options = chosen.options()
        piped = "-" in (str(source), str(chosen.output))
        if cluster is None and (cpus_per_task is not None or gpus_per_task):
            raise UsageError("`cpus_per_task` and `gpus_per_task` need `cluster`.")
        if cluster is not None and options.batch > 1:
            raise UsageError("`batch` is for one machine; gpus_per_task=0.25 shares a GPU.")
        fetch_model(chosen.model_name, chosen.offline, console)
        jobs = find_inputs(source, chosen.output, chosen.recursive)
        if options.live and not piped:
            raise UsageError("`live` is for pipes: give - as INPUT or as `output`.")
        if piped and cluster is not None:
            raise UsageError("`cluster` writes files, not pipes: remove it, or name files.")
        show = _Reporter(console, debug)
        if piped:
            stdin = sys.stdin.buffer
            unbuffered = getattr(stdin, "raw", stdin) if options.live else stdin
            queue = UpscaleQueue(
                options, jobs, progress_of=show.started, stdin=unbuffered, stdout=sys.stdout.buffer
            )
        else:
            queue = UpscaleQueue(options, jobs, progress_of=show.started)
        if cluster is None:
            codes = [show.ended(queue.run(job)) for job in jobs]
        else:
            codes = _on_cluster(
                queue, show, ClusterArguments(cluster, cpus_per_task, gpus_per_task)
            )
        raise typer.Exit(_exit_code(codes, console))


def _exit_code(codes: list[int], console: Console) -> int:
    """The command's exit code; for several inputs a summary is printed."""
    if len(codes) == 1:
        return codes[0]
    failed = sum(code != 0 for code in codes)
    console.event("finished", inputs=len(codes), failed=failed)
    console.info(f"{len(codes) - failed} of {len(codes)} inputs done.")
    return 1 if failed else 0


def _on_cluster(queue: UpscaleQueue, show: _Reporter, chosen: ClusterArguments) -> list[int]:
    """Upscale all inputs on a cluster; their exit codes."""
    from sharpreel.cluster.ray_cluster import WARNING, Cluster
    from sharpreel.cluster.runner import runner_on

    cluster = Cluster(chosen.address, chosen.cpus_per_task, chosen.gpus_per_task)
    if queue.is_single and (refused := queue.check(queue.jobs[0])) is not None:
        return [show.ended(refused)]  # before a Ray is started for it
    if chosen.address == "local":
        show.console.warn(WARNING)

    def upscale_one(job: Job) -> int:
        return show.ended(queue.run(job))

    # Ray prints what happens to a cluster, such as a lost node, to stdout, where our events go.
    with redirect_stdout(sys.stderr), cluster as connected:
        queue.make_runner = runner_on(connected)
        show_cluster(connected, show.console)
        return connected.map(upscale_one, queue.jobs)


def show_cluster(cluster: Cluster, console: Console) -> None:
    nodes, at_once = len(cluster.nodes), cluster.capacity
    console.event(
        "cluster",
        address=cluster.address,
        nodes=nodes,
        at_once=at_once,
        cpus_per_task=cluster.cpus_per_task,
        gpus_per_task=cluster.gpus_per_task,
    )
    console.info(
        f"cluster {cluster.address}: {nodes} node{'' if nodes == 1 else 's'}, {at_once} segments "
        f"at once, each on {cluster.cpus_per_task} processors"
        + (f" and {cluster.gpus_per_task:g} GPU" if cluster.gpus_per_task else "")
    )
    if not at_once:
        console.warn("no node of the cluster has room for a task now; waiting for one that has.")


class _Reporter:
    """Prints what happens to each input: its plan, its progress, its result or its error."""

    def __init__(self, console: Console, debug: bool) -> None:
        self.console, self._debug = console, debug

    def started(self, plan: Plan) -> AbstractContextManager[ProgressCallback]:
        """Print a plan; a context manager that yields its progress callback."""
        if not plan.is_piped:
            _show_start(plan, self.console)
            return progress_shown(plan, self.console)
        return nullcontext(lambda progress: None)

    def ended(self, outcome: Outcome) -> int:
        """Print the result or the error of one input; its exit code."""
        console, source = self.console, outcome.source
        if outcome.skipped:
            console.event("skipped", input=str(source), reason=outcome.skipped)
            console.info(f"{source}: skipped, {outcome.skipped}.")
            return 0
        if outcome.error is not None:
            return self._failed(source, outcome.error)
        assert outcome.plan is not None
        assert outcome.result is not None
        if outcome.plan.is_piped:
            _show_pipe_result(outcome.result, console)
        else:
            _show_result(outcome.plan, outcome.result, console)
        return 1 if outcome.result.lost else 0

    def _failed(self, source: Path, error: Exception) -> int:
        if self._debug:
            traceback.print_exception(error)
        if not isinstance(error, SharpreelError):
            self.console.error(unexpected(error), str(source))
            return 1
        self.console.error(error, str(source))
        if isinstance(error, VerificationError):
            _print_all(error.differences, self.console)
        return error.exit_code


def _print_all(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.info(f"  {line}")


def _show_start(plan: Plan, console: Console) -> None:
    info, to = plan.info, plan.settings
    console.event("start", **plan.as_dict())
    console.info(
        f"{plan.source} ({info.width}x{info.height}) -> {plan.output} ({to.width}x{to.height}, "
        f"{to.codec}) with {plan.model.name} x{plan.model.scale}"
    )
    _print_all((f"note: {note}" for note in plan.notes), console)


def _show_result(plan: Plan, result: Result, console: Console) -> None:
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
    _print_all((f"note: {note}" for note in result.notes), console)
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


def _show_pipe_result(result: Result, console: Console) -> None:
    _print_all((f"note: {note}" for note in result.notes), console)
    console.info(f"{_frames(result.frames)}, {result.fps:.1f} fps ({result.engine}).")


def _frames(count: int) -> str:
    return f"{count} frame" + ("" if count == 1 else "s")
