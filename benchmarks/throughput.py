"""Speed and memory of whole runs beside FFmpeg's bicubic, from file to file.

    python benchmarks/throughput.py [--runs 3] [--json FILE] [--update-docs] [--quick]

Each run is a separate process. Ours and the peer alternate on the same videos of moving photographs
with sound (examples/make_clip.py), with the same encoder, quality and preset; each program chooses
its own number of threads. The table reports medians, the speed of each stage alone as `sharpreel
plan` estimates it, and the share of a run, from first to last frame, in which the network computes.
This script imports nothing large, because a child's peak memory includes what its parent held when
it was started.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from pages import replace_block

ROOT = Path(__file__).resolve().parent.parent
SHARPREEL = [sys.executable, "-m", "sharpreel"]
MODEL = ["--model", "reel-fast"]


@dataclass(frozen=True)
class Run:
    """One process, from start to end."""

    seconds: float
    peak_mb: float
    first_frame_seconds: float | None = None  # until the first progress event
    running_fps: float | None = None  # as the program reports it, without start-up and end


@dataclass(frozen=True)
class Row:
    """One video with one preset: every run of both programs, and our stages alone."""

    size: str
    preset: str
    crf: int
    frames: int
    stages: dict[str, float]  # decode, network and encode, frames a second alone
    busy: float  # share of the time in which the network works
    ours: list[Run] = field(default_factory=list)
    peer: list[Run] = field(default_factory=list)

    def fps(self, runs: list[Run]) -> float:
        return self.frames / statistics.median(r.seconds for r in runs)


def run(command: list[str]) -> Run:
    """Run a program to its end, and time the events of our --json stream.

    Raises:
        SystemExit: The program failed; its output is shown.
    """
    first, fps = None, None
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and first is None:
                first = time.perf_counter() - began
            fps = event["fps"] if event["event"] == "done" else fps
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.stdout.close()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Run(seconds, usage.ru_maxrss / unit, first, fps)


def plan(video: Path, preset: str | None) -> dict[str, Any]:
    """The output of `sharpreel plan --json`, with its estimate of each stage."""
    command = [*SHARPREEL, "plan", str(video), "--overwrite", "--json", *MODEL, *_preset(preset)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[0])
    return found


def busy(video: Path, preset: str | None) -> float:
    """Share of a run, from the first frame to the last, in which the network computes."""
    command = [sys.executable, __file__, "--busy", str(video), preset or ""]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def busy_here(video: Path, preset: str | None) -> float:
    """`busy` for a run in this process."""
    from sharpreel import upscale_video
    from sharpreel.engines.openvino import OpenVinoEngine

    times: list[tuple[float, float]] = []
    honest = OpenVinoEngine.run

    def timed(engine: OpenVinoEngine, frame: Any) -> Any:
        began = time.perf_counter()
        made = honest(engine, frame)
        times.append((began, time.perf_counter()))
        return made

    OpenVinoEngine.run = timed  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder:
        upscale_video(video, Path(folder) / "out.mp4", model=MODEL[1], preset=preset)
    settled = times[1:]  # the first one compiles the graph
    return sum(end - began for began, end in settled) / (settled[-1][1] - settled[0][0])


def _preset(preset: str | None) -> list[str]:
    return [] if preset is None else ["--preset", preset]


def measure(folder: Path, size: str, seconds: float, presets: list[str | None], runs: int) -> Any:
    """A Row per preset; None is our default, whose settings the peer uses too."""
    video = folder / f"video-{size}.mp4"
    script = ROOT / "examples" / "make_clip.py"
    arguments = ["--size", size, "--seconds", str(seconds)]
    subprocess.run(
        [sys.executable, str(script), str(video), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    for preset in presets:
        said = plan(video, preset)
        to, trial = said["to"], said["estimate"]
        stages = {stage: trial[f"{stage}_fps"] for stage in ("decode", "network", "encode")}
        row = Row(
            size, to["preset"], to["crf"], said["from"]["frames"], stages, busy(video, preset)
        )
        ours = [*SHARPREEL, "upscale", str(video), "-o", str(folder / "ours.mp4"), "--overwrite"]
        ours += [*MODEL, "--no-resume", "--json", *_preset(preset)]
        peer = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(video)]
        peer += ["-vf", "scale=iw*2:ih*2:flags=bicubic", "-c:v", "libx264", "-crf", str(row.crf)]
        peer += ["-preset", row.preset, "-c:a", "copy", str(folder / "peer.mp4")]
        for _ in range(runs):
            row.ours.append(run(ours))
            row.peer.append(run(peer))
        print(f"{size} {row.preset}: {row.fps(row.ours):.1f} fps", file=sys.stderr, flush=True)
        yield row


def machine() -> dict[str, Any]:
    """The machine and the versions that the numbers depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    version = [imageio_ffmpeg.get_ffmpeg_version(), platform.python_version()]
    ours = subprocess.run([*SHARPREEL, "--version"], check=True, capture_output=True, text=True)
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "date": datetime.date.today().isoformat(),
        "processor": names[0] if names else platform.machine(),
        "threads": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "sharpreel": ours.stdout.split()[-1],
        "ffmpeg": version[0],
        "python": version[1],
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def markdown(rows: list[Row], facts: dict[str, Any], runs: int) -> str:
    """The table of docs/benchmarks.md."""
    head = (
        "| video, 2x | x264 preset | sharpreel, fps | without start-up | first frame after "
        "| memory | decode / network / encode alone, fps | network busy "
        "| FFmpeg bicubic, fps | its memory |"
    )
    lines = [head, "|" + " --- |" * 10]
    for row in rows:

        def median(name: str, runs: list[Run]) -> float:
            return statistics.median(getattr(r, name) or 0.0 for r in runs)

        stages = " / ".join(f"{row.stages[s]:.0f}" for s in ("decode", "network", "encode"))
        lines.append(
            f"| {row.size} | {row.preset} | **{row.fps(row.ours):.1f}** "
            f"| {median('running_fps', row.ours):.1f} "
            f"| {median('first_frame_seconds', row.ours):.2f} s "
            f"| {median('peak_mb', row.ours):.0f} MiB | {stages} | {row.busy:.0%} "
            f"| {row.fps(row.peer):.0f} | {median('peak_mb', row.peer):.0f} MiB |"
        )
    lines += [
        "",
        f"{facts['processor']}, {facts['threads']} threads, no GPU; sharpreel "
        f"{facts['sharpreel']}, FFmpeg {facts['ffmpeg']}, {facts['date']}; videos of "
        f"{rows[0].frames} frames with sound, crf {rows[0].crf}; whole processes, including "
        f"start-up and, for sharpreel, verification of the output; median of {runs}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["160x90", "320x180", "640x360"])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each video")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "throughput.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--update-docs", action="store_true", help="rewrite the table of the page")
    parser.add_argument(
        "--quick", action="store_true", help="one tiny video, once, as a smoke test"
    )
    parser.add_argument("--busy", nargs=2, metavar=("VIDEO", "PRESET"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.busy:
        print(busy_here(Path(a.busy[0]), a.busy[1] or None))
        return
    presets: list[str | None] = [None, "ultrafast"]
    if a.quick:
        a.sizes, a.seconds, a.runs, presets = ["64x36"], 0.4, 1, [None]
    facts = machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in a.sizes:
            rows += measure(Path(folder), size, a.seconds, presets, a.runs)
    found = {"machine": facts, "runs": a.runs, "rows": [asdict(row) for row in rows]}
    a.json.write_text(json.dumps(found, indent=1) + "\n")
    table = markdown(rows, facts, a.runs)
    print(table)
    if a.update_docs:
        replace_block(a.page, "throughput", table)


if __name__ == "__main__":
    main()
