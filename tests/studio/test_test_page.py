"""Tests that are started and watched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpreel.studio import (
    test_page,
)
from sharpreel.studio.folder import (
    FOLDER_VARIABLE,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    ended,
    errors,
    labelled,
    opened,
)


def test_a_test_measures_a_network_of_the_studio_frame_by_frame(
    trained: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(trained))
    at = opened("test")
    labelled(at.selectbox, "Network").set_value("first: reel-fast_x2.safetensors").run()
    labelled(at.text_input, "Path").set_value(str(videos / "clip1.mp4"))
    labelled(at.text_input, "Name").set_value("one")
    labelled(at.button, "Start test").click().run()
    assert errors(at) == []
    job = Job(trained / "tests" / "one")
    assert ended(job).state == "finished", job.log_tail()
    events = [e for e in job.events() if e["event"] == "frame"]
    assert [e["frame"] for e in events] == [0, 1, 2, 3, 4]
    assert set(events[0]["scores"]) == {"bicubic", "reel-fast_x2"}
    scores = json.loads((job.folder / "report" / "scores.json").read_text())
    bicubic = scores["clips"][0]["results"][0]["frames"]["psnr"]
    assert events[0]["scores"]["bicubic"]["psnr"] == bicubic[events[0]["frame"]]
    at.run()
    table = at.markdown[0].value
    assert "| model | gain, dB | score | PSNR, dB | SSIM | QM |" in table
    names = [button.proto.label for button in at.get("download_button")]
    assert names == [f"Download {name}" for name in test_page.FILES]


@pytest.mark.parametrize("mode", ["test", "inference"])
def test_the_progress_of_a_running_job_is_shown(mode: str, home: Path) -> None:
    job = Job(home / "tests" / "one")
    job.start(["0", "--bind", "127.0.0.1"], {"mode": mode}, program="http.server")
    scores = {"bicubic": {"psnr": 30.0, "ssim": 0.9}, "ours": {"psnr": "inf", "ssim": 1.0}}
    events: list[dict[str, Any]] = [
        {"event": "frame", "clip": "a", "frame": k, "scores": scores} for k in range(3)
    ]
    progress = {"frames": 3, "total": 12, "fps": 2.0, "eta_seconds": 65}
    events.append({"event": "progress", "clip": "a", "stage": "upscale", **progress})
    try:
        job.events_path.write_text("".join(json.dumps(row) + "\n" for row in events))
        at = opened("test")
        (bar,) = at.get("progress")
        drawn = at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")
        if mode == "test":
            assert bar.proto.text == "a: 3 of 12 frames, 1:05 left"
            assert len(drawn) == 2
        else:
            assert bar.proto.text == "upscale: 3 of 12 frames, 2.0 fps, 1:05 left"
    finally:
        job.stop()
        ended(job)
    curves = test_page.score_curves(events[:3])
    assert [(p.x, p.y, p.line) for p in curves["ssim"][:3]] == [(k, 1.0, "ours") for k in range(3)]
