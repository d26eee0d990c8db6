"""A few seconds of the real input through the main path, timed: what a whole run would take."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sharpreel.errors import InputError
from sharpreel.media import writer
from sharpreel.media.frame import Frame
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.schedule import frame_cues
from sharpreel.pipeline.stages import run_network
from sharpreel.system.resources import peak_memory_mb


@dataclass(frozen=True)
class Estimate:
    """What a short trial on the real input tells of the whole run.

    Rates are frames a second of each stage alone; `fps` is the trial's own, all stages together.
    `tile` is the side of the tiles in lr pixels, 0 for whole frames.
    """

    engine: str
    tile: int
    frames: int
    fps: float
    decode_fps: float
    network_fps: float
    encode_fps: float
    eta_seconds: float | None
    peak_memory_mb: int | None
    output_mb: float | None
    free_disk_mb: float
    shares: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(plan: Plan, seconds: float = 2.5) -> Estimate:
    """Run the first seconds of the input through decoder, network and encoder, and time them."""
    runner = plan.choose_engine()
    info = plan.info
    wanted = max(min(round(seconds * float(info.rate)), 120), 3, 2 * runner.clip_len)
    spent = {"decode": 0.0, "network": 0.0, "encode": 0.0}

    def decoded(frames: Iterator[Frame]) -> Iterator[Frame]:
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            spent["decode"] += time.perf_counter() - began
            if frame is None:
                return
            yield frame

    with tempfile.TemporaryDirectory() as folder:
        encoder = writer.SegmentWriter(Path(folder) / "trial.mkv", plan.settings)
        frames = decoded(itertools.islice(plan.frames()[0], wanted))
        cues = frame_cues(
            frames, info.time_base, 0, max_frames=None, segment_seconds=float("inf"),
            keeps_state=not runner.clip_len,
        )  # fmt: skip
        pictures = run_network(cues, runner)
        count = timed = 0
        budget = time.perf_counter() + 20  # a slow network on a large frame: a few frames do
        while count < 3 or time.perf_counter() < budget:
            began, before = time.perf_counter(), spent["decode"]
            picture = next(pictures, None)
            if picture is None:
                break
            made = time.perf_counter()
            encoder.write(picture.sr)
            stored = time.perf_counter()
            spent["network"] += made - began - (spent["decode"] - before)
            spent["encode"] += stored - made
            count, timed = count + 1, timed + 1
            if count == 1 and runner.clip_len <= 1:  # the first compiles and warms up
                timed, spent = 0, dict.fromkeys(spent, 0.0)
        began = time.perf_counter()
        encoder.close()
        spent["encode"] += time.perf_counter() - began
        size = (Path(folder) / "trial.mkv").stat().st_size
    if count == 0:
        raise InputError(f"{plan.source}: no frame decodes.")
    timed = max(timed, 1)
    total = sum(spent.values())
    # Stages overlap, but share the processor: the truth lies at their sum when it is full.
    fps = timed / total if total else 0.0
    frames_in_all = plan.num_frames
    rate = {key: timed / value if value else 0.0 for key, value in spent.items()}
    return Estimate(
        engine=runner.name,
        tile=runner.tile or 0,
        frames=count,
        fps=fps,
        decode_fps=rate["decode"],
        network_fps=rate["network"],
        encode_fps=rate["encode"],
        eta_seconds=None if frames_in_all is None or not fps else frames_in_all / fps,
        peak_memory_mb=peak_memory_mb(),
        output_mb=None if frames_in_all is None else size / count * frames_in_all / 1e6,
        free_disk_mb=shutil.disk_usage(plan.output.parent).free / 1e6,
        shares={key: value / total if total else 0.0 for key, value in spent.items()},
    )
