"""What a cluster costs compared with one process, and how it would scale to more machines.

    python benchmarks/cluster.py [--seconds 60] [--size 640x360] [--video FILE] [--json FILE]
                                 [--update-docs]

Two things are measured on this machine, in seconds of CPU time, which other load changes less than
wall-clock time: the same video upscaled by one process and by a Ray cluster on this machine
(driver, workers and Ray's own processes, all counted), which must produce the same bytes; and the
cost of each step of a segment. From these an event-driven simulation of a video's segments
estimates how many machines the driver, its network and the storage can keep busy.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from pages import replace_block

from sharpreel.cluster.ray_cluster import WAITING, Cluster
from sharpreel.cluster.runner import RaySegmentRunner, SegmentTask
from sharpreel.cluster.worker import SegmentResult
from sharpreel.pipeline.journal import ResumePoint
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.pipeline.segments import Context, cues_from, open_at
from sharpreel.pipeline.stages import Progress
from sharpreel.system.resources import usable_cpus
from sharpreel.upscale import run

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "cluster.md"
SHARPREEL = [sys.executable, "-m", "sharpreel"]
MARK = "SHARPREEL_BENCHMARK"
MODEL = "reel-fast"
VIDEO_SECONDS = 7200
LINK_BYTES = 1.25e9  # a second: 10 Gbit/s, for the driver's network and for the storage
WORKERS = (1, 10, 100, 1000)


def cpu_seconds(command: list[str]) -> float:
    """CPU seconds of a command and of every process that it or its children start.

    Raises:
        SystemExit: It failed.
    """
    token = uuid.uuid4().hex
    spent: dict[tuple[int, float], float] = {}
    env = {**os.environ, MARK: token}
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    while True:
        ended = child.poll() is not None
        left = 0
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) != token:
                    continue
                times = process.cpu_times()
                spent[process.pid, process.create_time()] = times.user + times.system
                left += 1
            except psutil.Error:
                continue
        if ended and not left:
            break
        time.sleep(0.2)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return sum(spent.values())


def compare(video: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of the video upscaled here and by a cluster; the bytes must be equal."""
    seconds, digests = {}, set()
    for name, more in {"here": [], "cluster": ["--cluster", "local"]}.items():
        output = folder / f"{name}.mp4"
        seconds[name] = cpu_seconds(
            [*SHARPREEL, "upscale", str(video), "-o", str(output), "-m", MODEL, *more]
        )
        digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
        print(f"{name}: {seconds[name]:.1f} s of processor time", flush=True)
    if len(digests) != 1:
        raise SystemExit("the cluster made other bytes")
    return seconds


@dataclass(frozen=True)
class Steps:
    """The measured cost of each step: CPU seconds and bytes.

    Attributes:
        scan: Driver, a frame: decode and find the cuts.
        ship: Driver, a frame: decode once more and put it into Ray's store.
        commit: Driver, a segment: flush, rename, journal.
        finish: Driver, a frame: join and verify.
        segments: Worker: each segment's time.
        frames: Frames of a segment.
        frame_bytes, input_bytes, output_bytes: A raw frame; a segment's part of both files.
    """

    scan: float
    ship: float
    commit: float
    finish: float
    segments: list[float]
    frames: float
    frame_bytes: int
    input_bytes: float
    output_bytes: float


class Watched(RaySegmentRunner):
    """Records the cost of its tasks."""

    made: list[tuple[SegmentTask, SegmentResult]]
    commits: list[float]

    def _commit(self, job: SegmentTask, made: SegmentResult) -> None:
        began = time.thread_time()
        super()._commit(job, made)
        self.commits.append(time.thread_time() - began)
        self.made.append((job, made))


def measure(video: Path, folder: Path) -> Steps:
    """Measure every step of a cluster run separately."""
    plan = make_plan(video, folder / "steps.mp4", UpscaleOptions(model=MODEL))
    watched: list[Watched] = []
    marks: dict[str, float] = {}

    with Cluster("local") as there:

        def maker(plan: Plan) -> Watched:
            one = Watched(there, plan, 0)
            one.made, one.commits = [], []
            watched.append(one)
            return one

        def mark(progress: Progress) -> None:
            marks.setdefault(progress.event, time.process_time())

        result = run(plan, mark, maker)
        ended = time.process_time()
        (one,) = watched
        scan = seconds_a_frame(plan, one.context)
        sample = [frame for frame, _ in zip(plan.frames()[0], range(50), strict=False)]
        began = time.process_time()
        kept = [there.ray.put(frame) for frame in sample]
        put = (time.process_time() - began) / len(kept)
    # A video's last segment is shorter than the others, and the first compiles the network.
    whole = [(job, made) for job, made in one.made if 0 < job.point.segment < len(one.made) - 1]
    frames = sum(len(job.record.pts) for job, _ in whole) / len(whole)
    share = frames / result.frames
    return Steps(
        scan=scan,
        ship=scan + put,
        commit=sum(one.commits) / len(one.commits),
        finish=(ended - marks["join"]) / result.frames,
        segments=[made.cpu_seconds for _, made in whole],
        frames=frames,
        frame_bytes=sample[0].pixels.nbytes,
        input_bytes=video.stat().st_size * share,
        output_bytes=result.output.stat().st_size * share,
    )


def seconds_a_frame(plan: Plan, context: Context) -> float:
    """CPU seconds of the scan alone."""
    source = open_at(plan, ResumePoint(), 1)
    began, count = time.process_time(), 0
    for _ in cues_from(source.point, source.frames, plan, context):
        count += 1
    return (time.process_time() - began) / count


@dataclass(frozen=True)
class Outcome:
    """A simulated run: its speed, and how busy each part was."""

    workers: int
    shipped: bool
    seconds: float
    fps: float
    busy: dict[str, float]


def simulate(steps: Steps, workers: int, cpus: int, shipped: bool) -> Outcome:
    """A video of two hours on `workers` machines with `cpus` CPUs each.

    Every part serves one segment after the other: the driver's scan, the network (the driver's
    where frames are shipped, the storage's where they are read by path), and the journal. A segment
    is scanned when fewer than `WAITING` for each worker are under way.
    """
    count = round(VIDEO_SECONDS * 25 / steps.frames)
    scan = steps.frames * (steps.scan + (steps.ship if shipped else 0))
    inward = (
        steps.frames * steps.frame_bytes if shipped else 1.25 * steps.input_bytes
    ) / LINK_BYTES
    outward = steps.output_bytes / LINK_BYTES
    spent = dict.fromkeys(("scan", "network", "workers", "journal"), 0.0)
    scanned = sent = 0.0
    free = [0.0] * workers  # when each worker is
    ends: list[float] = []  # of the running segments
    made: list[float] = []
    for k in range(count):
        if len(ends) == WAITING * workers:
            scanned = max(scanned, heapq.heappop(ends))
        scanned += scan
        sent = max(sent, scanned) + inward + outward
        work = steps.segments[k % len(steps.segments)] / cpus
        end = max(heapq.heappop(free), sent) + work
        heapq.heappush(free, end)
        heapq.heappush(ends, end)
        made.append(end)
        spent["scan"] += scan
        spent["network"] += inward + outward
        spent["workers"] += work / workers
        spent["journal"] += steps.commit
    committed = 0.0
    for end in sorted(made):
        committed = max(committed, end) + steps.commit
    busy = {name: seconds / committed for name, seconds in spent.items()}
    seconds = committed + VIDEO_SECONDS * 25 * steps.finish
    return Outcome(workers, shipped, seconds, VIDEO_SECONDS * 25 / seconds, busy)


def processor() -> str:
    """The name of this machine's CPU, as the system reports it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def tables(size: str, seconds: dict[str, float], steps: Steps, cpus: int) -> str:
    """The tables of docs/cluster.md."""
    more = 100 * (seconds["cluster"] / seconds["here"] - 1)
    work = sum(steps.segments) / len(steps.segments)
    lines = [
        f"A video of {size}, {MODEL}, 2x, tasks with {cpus} CPUs, {processor()}:",
        "",
        "| | CPU time |",
        "| --- | --- |",
        f"| one process, whole run | {seconds['here']:.1f} s |",
        f"| `--cluster local`, including Ray | {seconds['cluster']:.1f} s (**{more:+.1f} %**) |",
        f"| worker, per segment of {steps.frames:.0f} frames | {work:.1f} s |",
        f"| driver, scan | {1000 * steps.scan:.2f} ms per frame |",
        f"| driver, extra when it ships frames of {steps.frame_bytes / 1e6:.2f} MB | "
        f"{1000 * steps.ship:.2f} ms per frame |",
        f"| driver, journal | {1000 * steps.commit:.1f} ms per segment |",
        f"| driver, join and verify | {1000 * steps.finish:.3f} ms per frame |",
        "",
        f"Simulated from these: two hours at 25 fps, workers with {cpus} CPUs, 10 Gbit/s.",
        "",
        "| workers | frames | video fps | whole video | workers busy | scan | network | journal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for shipped in (False, True):
        for workers in WORKERS:
            o = simulate(steps, workers, cpus, shipped)
            share = {name: f"{100 * value:.0f} %" for name, value in o.busy.items()}
            lines.append(
                f"| {workers} | {'shipped' if shipped else 'by path'} | {o.fps:.0f} | "
                f"{o.seconds / 60:.1f} min | {share['workers']} | {share['scan']} | "
                f"{share['network']} | {share['journal']} |"
            )
    return "\n".join(lines)


def make_video(video: Path, size: str, seconds: float) -> Path:
    script = [sys.executable, str(ROOT / "examples" / "make_clip.py"), str(video)]
    command = [*script, "--size", size, "--seconds", str(seconds)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return video


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--video", type=Path, help="a video that make_clip.py wrote earlier")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--update-docs", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = chosen.video or make_video(folder / "video.mp4", chosen.size, chosen.seconds)
        seconds = compare(video, folder)
        steps = measure(video, folder)
    cpus = min(2, usable_cpus())
    said = tables(chosen.size, seconds, steps, cpus)
    print(said)
    if chosen.json:
        found: dict[str, Any] = {"seconds": seconds, "steps": asdict(steps)}
        chosen.json.write_text(json.dumps(found, indent=1))
    if chosen.update_docs:
        replace_block(DOCS, "cluster", said)


if __name__ == "__main__":
    main()
