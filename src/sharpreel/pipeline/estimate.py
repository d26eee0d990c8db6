"""Times the first seconds of the input on the main path, to estimate the whole run."""

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
from sharpreel.media.frame import Frame, FrameSink
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.stages import UpscaledFrame, run_network, single_segment
from sharpreel.system.resources import peak_memory_mb

TRIAL_FRAMES = 120  # at most
BUDGET_SECONDS = 20.0  # a slow network on a large frame: a few frames are enough


@dataclass(frozen=True)
class Estimate:
    """What a short trial on the real input predicts for the whole run.

    Rates are frames per second of each stage alone; `fps` is that of all stages together. `tile`
    is the side of the tiles in lr pixels, 0 for whole frames.
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
    """Run the first seconds of the input through decoder, network and encoder, and time them.

    Raises:
        InputError: No frame decodes.
    """
    engine, info = plan.choose_engine(), plan.info
    wanted = max(min(round(seconds * float(info.rate)), TRIAL_FRAMES), 3, 2 * engine.clip_len)
    times = _StageTimes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.mkv"
        frames = times.decoded(itertools.islice(plan.frames()[0], wanted))
        upscaled = run_network(single_segment(frames, engine, info.time_base), engine)
        # The first frame compiles the network; of a clip, that is spread over all its frames.
        count = times.run(upscaled, writer.SegmentWriter(path, plan.settings), engine.clip_len <= 1)
        size = path.stat().st_size
    if count == 0:
        raise InputError(f"{plan.source}: no frame decodes.")
    # Stages overlap but share the processors: when those are full, the sum is what counts.
    total, timed = sum(times.spent.values()), max(times.frames, 1)
    fps = timed / total if total else 0.0
    rate = {stage: timed / spent if spent else 0.0 for stage, spent in times.spent.items()}
    all_frames = plan.num_frames
    return Estimate(
        engine=engine.name,
        tile=engine.tile or 0,
        frames=count,
        fps=fps,
        decode_fps=rate["decode"],
        network_fps=rate["network"],
        encode_fps=rate["encode"],
        eta_seconds=None if all_frames is None or not fps else all_frames / fps,
        peak_memory_mb=peak_memory_mb(),
        output_mb=None if all_frames is None else size / count * all_frames / 1e6,
        free_disk_mb=shutil.disk_usage(plan.output.parent).free / 1e6,
        shares={stage: spent / total if total else 0.0 for stage, spent in times.spent.items()},
    )


class _StageTimes:
    """Seconds that each stage took, over `frames` frames."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.frames = 0
        self.spent = {"decode": 0.0, "network": 0.0, "encode": 0.0}

    def decoded(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The same frames, with the time that each took to decode."""
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            self.spent["decode"] += time.perf_counter() - began
            if frame is None:
                return
            yield frame

    def run(self, upscaled: Iterator[UpscaledFrame], sink: FrameSink, skip_first: bool) -> int:
        """Write frames until they or the time are over; the number of all, the skipped one too."""
        count, budget = 0, time.perf_counter() + BUDGET_SECONDS
        while count < 3 or time.perf_counter() < budget:
            if not self._step(upscaled, sink):
                break
            count += 1
            if count == 1 and skip_first:
                self.reset()
        began = time.perf_counter()
        sink.close()
        self.spent["encode"] += time.perf_counter() - began
        return count

    def _step(self, upscaled: Iterator[UpscaledFrame], sink: FrameSink) -> bool:
        """Upscale and write one frame; False if there is none."""
        began, decoding = time.perf_counter(), self.spent["decode"]
        frame = next(upscaled, None)
        if frame is None:
            return False
        ready = time.perf_counter()
        sink.write(frame.sr)
        self.spent["network"] += ready - began - (self.spent["decode"] - decoding)
        self.spent["encode"] += time.perf_counter() - ready
        self.frames += 1
        return True
