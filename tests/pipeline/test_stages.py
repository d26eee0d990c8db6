"""The network over scheduled frames: its state, valid frames, progress and notes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.media.frame import Frame
from sharpreel.media.reader import ReadReport, read_frames
from sharpreel.models import MODELS
from sharpreel.models.weights import load_model
from sharpreel.pipeline.journal import Journal
from sharpreel.pipeline.schedule import FrameCue
from sharpreel.pipeline.stages import (
    Progress,
    ProgressMeter,
    checked_frames,
    engine_for,
    input_notes,
    single_segment,
    upscaled,
)
from sharpreel.upscale import upscale_frames
from tests.support.plans import plan_of
from tests.support.videos import Pixels, moving

SMALL = "reel-fast"  # as any causal network, and in the least time


def psnr(a: Pixels, b: Pixels) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * np.log10(255**2 / error) if error else float("inf")


def real_clips() -> dict[str, list[Pixels]]:
    """28 frames each of three real clips where they are at hand, else a pan over a photograph."""
    from tests.support.videos import REPO

    size = (96, 128)
    clips: dict[str, list[Pixels]] = {}
    for path in sorted((REPO.parent / "shared" / "data" / "val").glob("*.mp4"))[:4]:
        whole = read_frames(path)
        y, x = (whole.shape[1] - size[0]) // 2, (whole.shape[2] - size[1]) // 2
        clips[path.stem] = list(whole[:, y : y + size[0], x : x + size[1]])
    photo: Pixels = skimage.data.astronaut()
    clips["pan"] = [photo[60 + t : 60 + t + size[0], 3 * t : 3 * t + size[1]] for t in range(28)]
    return clips


@pytest.mark.parametrize("scale", [2, 4])
def test_after_its_warm_up_a_network_reproduces_the_frames_of_an_uncut_run(
    scale: int,
) -> None:
    warm_up = MODELS[SMALL].warm_up
    engine = OpenVinoEngine(load_model(SMALL, scale))
    for name, frames in real_clips().items():
        engine.reset()
        uncut = [engine.run(f) for f in frames]
        begin = len(frames) - 4
        engine.reset()
        resumed = [engine.run(f) for f in frames[max(begin - warm_up, 0) :]][-4:]
        worst = min(psnr(a, b) for a, b in zip(resumed, uncut[begin:], strict=True))
        assert worst >= 60, f"{name}: {worst:.1f} dB after {warm_up} frames"


def test_a_scene_cut_resets_the_state() -> None:
    one, two = real_clips()["pan"][:6], list(moving((128, 96), 6))
    joined = list(upscale_frames([*one, *two]))
    np.testing.assert_array_equal(np.stack(joined[6:]), np.stack(list(upscale_frames(two))))


def test_within_a_scene_the_state_is_kept() -> None:
    frames = real_clips()["pan"][:6]
    whole, last = list(upscale_frames(frames)), list(upscale_frames(frames[-1:]))
    assert (whole[-1] != last[0]).any()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([np.zeros((8, 8, 3), np.float32)], "Frame 0 must be an array of uint8 or uint16, got f"),
        ([[[1, 2, 3]]], "Frame 0 must be an array of uint8 or uint16, got list"),
        ([np.zeros((8, 8), np.uint8)], r"Frame 0 must be RGB of shape \(H, W, 3\), got \(8, 8\)"),
        ([np.zeros((3, 8, 8), np.uint8)], r"got \(3, 8, 8\)"),
        ([np.zeros((8, k, 3), np.uint8) for k in (8, 9)], r"Frame 1 is uint8 \(8, 9, 3\), those"),
        ([np.zeros((8, 8, 3), k) for k in (np.uint8, np.uint16)], "Frame 1 is uint16"),
    ],
)
def test_invalid_frames_are_refused_with_what_was_received(frames: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(upscale_frames(frames, "bicubic"))


def test_valid_frames_pass_one_by_one() -> None:
    taken = 0

    def source() -> Iterator[Pixels]:
        nonlocal taken
        for _ in range(3):
            taken += 1
            yield np.zeros((4, 6, 3), np.uint8)

    checked = checked_frames(source())
    next(checked)
    assert taken == 1
    assert len(list(checked)) == 2


def test_alpha_is_enlarged_with_its_frame() -> None:
    alpha = np.full((4, 6, 1), 255, np.uint8)
    cue = FrameCue(2, Frame(np.zeros((4, 6, 3), np.uint8), 7, alpha=alpha), True, True)
    result = upscaled(cue, np.zeros((8, 12, 3), np.uint8))
    assert (result.segment, result.sr.pts) == (2, 7)
    assert result.lr is cue.frame
    assert result.sr.alpha is not None
    assert result.sr.alpha.shape == (8, 12, 1)
    assert (result.sr.alpha == 255).all()


def test_a_single_segment_never_ends() -> None:
    engine = OpenVinoEngine(load_model("bicubic"))
    frames = (Frame(np.zeros((8, 8, 3), np.uint8), k) for k in range(3000))
    cues = list(single_segment(frames, engine, Fraction(1)))
    assert {(cue.segment, cue.shown) for cue in cues} == {(0, True)}
    assert len(cues) == 3000


@pytest.mark.parametrize(
    ("total", "fps", "eta"), [(100, 10.0, 6.0), (None, 10.0, None), (100, 0.0, None), (30, 10.0, 0)]
)
def test_the_eta_needs_a_total_and_a_rate(total: int | None, fps: float, eta: float | None) -> None:
    assert Progress("progress", 40, total, fps, 0).eta_seconds == eta


def test_notes_count_what_the_reader_reports() -> None:
    errors = [(0, "bad packet"), (1, "bad packet"), (2, "cut short")]
    report = ReadReport(missing=2, damaged=3, retimed=4, errors=errors)
    assert input_notes(report) == [
        "bad packet (2 times)",
        "cut short (1 times)",
        "the file ends 2 frames before its index does",
        "3 frames are damaged but were decoded",
        "4 frames had no later timestamp of their own and were given one",
    ]
    assert input_notes(ReadReport()) == []


def test_a_meter_counts_frames_and_lost_ones(clip: Path, tmp_path: Path) -> None:
    plan = plan_of(clip, tmp_path / "out.mp4", model="bicubic")
    seen: list[Progress] = []
    work = Journal(plan.output, {})
    meter = ProgressMeter(plan, work, seen.append)
    meter.add(0)
    meter.add(1, frames=5, nodes={"a": 1.0})
    meter.report("segment", "note")
    work.close()
    assert [(p.event, p.frames) for p in seen] == [
        ("start", 0),
        ("progress", 1),
        ("progress", 6),
        ("segment", 6),
    ]
    assert seen[-1].note == "note"
    assert seen[-1].nodes == {"a": 1.0}
    assert seen[-1].fps > 0
    result = meter.result(plan, work, ReadReport(missing=1, errors=[(3, "bad")]), "engine")
    assert (result.frames, result.lost, result.engine) == (6, 2, "engine")
    assert result.output == plan.output


def test_an_engine_is_used_as_it_is() -> None:
    engine = OpenVinoEngine(load_model("bicubic"))
    assert engine_for("reel", None, "auto", engine) is engine
    assert engine_for("bicubic", 4, "cpu", "auto").scale == 4
