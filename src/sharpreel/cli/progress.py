"""Shows the progress of upscaling: a bar on a terminal, JSON objects with `--json`, or nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sharpreel.cli.console import Console
from sharpreel.system.text import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from sharpreel.pipeline.plan import Plan
    from sharpreel.pipeline.stages import Progress, ProgressCallback


@contextmanager
def progress_shown(plan: Plan, console: Console) -> Iterator[ProgressCallback]:
    """A callback that shows the progress of one plan."""
    if console.as_json:
        yield JsonProgress(console, str(plan.source))
    elif console.quiet or not sys.stderr.isatty():
        yield lambda p: console.info(f"  {remark(p)}") if p.note else None
    else:
        with BARS.one(plan.source.name) as callback:
            yield callback


def remark(p: Progress) -> str:
    """The note of a progress event as a line for people."""
    return p.note if p.event == "again" else f"{p.note}: starting over"


class JsonProgress:
    """Progress as JSON objects, at most four per second; every segment."""

    def __init__(self, console: Console, source: str) -> None:
        self._console, self._source, self._next = console, source, 0.0

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if p.event in ("progress", "join") and now < self._next:
            return
        if p.event == "start" and not (p.note or p.resumed_frames):
            return  # nothing to report yet: the first frame is reported at once
        self._next = now + 0.25
        name = {"start": "resume", "segment": "segment", "again": "again"}.get(p.event, "progress")
        eta = None if p.eta_seconds is None else round(p.eta_seconds, 1)
        self._console.event(
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
    """The terminal's progress: a bar for each video that is being upscaled, one or several."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._lock = threading.Lock()

    @contextmanager
    def one(self, name: str) -> Iterator[ProgressCallback]:
        """A callback that draws the bar of one video."""
        with self._lock:
            rich = self._rich = self._rich or self._started()
            task = rich.add_task(name, total=None, of="?", fps=0.0, segment=0, eta="?", nodes="")

        def draw(p: Progress) -> None:
            if p.note:
                rich.console.print(f"  {remark(p)}")
            elif p.event == "start" and p.resumed_frames:
                rich.console.print(f"  resuming after {p.resumed_frames} frames of an earlier run")
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
                nodes=node_rates(p),
            )

        try:
            yield draw
        finally:
            with self._lock:
                rich.remove_task(task)
                if not rich.tasks:
                    rich.stop()
                    self._rich = None

    def _started(self) -> RichProgress:
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


def node_rates(p: Progress) -> str:
    """The frames per second of a cluster's nodes: each one's if they are few."""
    if len(p.nodes) > 3:
        return f"{len(p.nodes)} nodes, {min(p.nodes.values()):.1f} to {max(p.nodes.values()):.1f}"
    return ", ".join(f"{node.split(':')[0]} {fps:.1f}" for node, fps in sorted(p.nodes.items()))
