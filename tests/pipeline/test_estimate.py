"""An estimate from the first seconds of the input: speed, memory, size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpreel.errors import SharpreelError
from sharpreel.models import MODELS
from sharpreel.pipeline.estimate import measure
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.system.resources import cuda_available
from tests.support.videos import make_clip


def plan_of(source: Path, output: Path | None = None, **options: Any) -> Plan:
    return make_plan(source, output, UpscaleOptions(**options))


@pytest.mark.parametrize("model", ["bicubic", "reel-fast"])
def test_an_estimate_measures_speed_and_memory_and_writes_nothing(
    model: str, clip: Path, tmp_path: Path
) -> None:
    plan = plan_of(clip, tmp_path / "out.mp4", model=model)
    estimate = measure(plan, seconds=0.4)
    assert estimate.frames == 10
    assert estimate.fps > 0
    for rate in (estimate.decode_fps, estimate.network_fps, estimate.encode_fps):
        assert rate >= estimate.fps
    assert estimate.eta_seconds == pytest.approx(24 / estimate.fps)
    assert estimate.peak_memory_mb is None or estimate.peak_memory_mb > 10
    assert estimate.output_mb is not None
    assert 0 < estimate.output_mb < 1
    assert estimate.free_disk_mb > 0
    assert sum(estimate.shares.values()) == pytest.approx(1)
    assert list(tmp_path.iterdir()) == []
    json.dumps(estimate.as_dict())


def test_one_frame_is_enough_for_an_estimate(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=1, audio=False)
    estimate = measure(plan_of(source, model="bicubic"))
    assert estimate.frames == 1
    assert list(tmp_path.iterdir()) == [source]


def test_an_estimate_on_a_missing_device_is_an_error(clip: Path) -> None:
    if cuda_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SharpreelError, match="device='cuda'"):
        measure(plan_of(clip, device="cuda"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tsrcnn", {"size": "small", "scale": 2}),
        ("basicvsr", {"channels": 8, "blocks": 1, "scale": 2}),
    ],
)
def test_a_network_that_uses_neighbouring_frames_is_timed(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(MODELS[name].build(arguments).state_dict(), tmp_path / "m.pth")
    clip = make_clip(tmp_path / "in.mp4", frames=20, size=(64, 64), audio=False)
    estimate = measure(plan_of(clip, model=str(tmp_path / "m.pth")), seconds=0.2)
    assert estimate.frames >= 3
    assert estimate.network_fps > 0
    assert estimate.tile == 0
