"""Training runs that are watched, stopped and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.studio.folder import (
    FOLDER_VARIABLE,
)
from sharpreel.studio.follower import Follower
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    SMALL,
    ended,
    errors,
    labelled,
    opened,
    start_training,
    wait_until,
)


def test_a_finished_run_shows_bars_nine_charts_and_its_model(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(trained))
    at = opened("train")
    assert labelled(at.selectbox, "Show").options == ["New training run", "first"]
    labelled(at.selectbox, "Show").set_value("first").run()
    assert errors(at) == []
    assert [s.value for s in at.success] == ["Finished"]
    drawn = at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")
    assert len(drawn) == 9
    texts = [bar.proto.text for bar in at.get("progress")]
    assert texts == [
        "Clips: loaded",
        "Epochs: 3 of 3",
        "Training batches: 4 of 4",
        "Validation batches: 1 of 1",
    ]
    assert "first" in at.query_params["run"]
    assert "reel-fast_x2.safetensors" in at.caption[0].value


def test_a_failed_run_shows_its_error_and_the_end_of_its_log(home: Path, videos: Path) -> None:
    at = opened("train")
    labelled(at.number_input, "Patch size").set_value(64)
    labelled(at.number_input, "Steps").set_value(3)
    labelled(at.text_area, "Other settings").set_value("arguments.blocks=1")
    at = start_training(at, videos)
    job = Job(home / "runs" / "reel-fast-1")
    assert ended(job).state == "failed"
    at.run()
    (message,) = errors(at)
    assert "patch=64 is larger than every clip: in low resolution they are 48x40" in message
    log = " ".join(code.value for code in at.code)
    assert f"sharpreel: {message}" in log
    assert "sharpreel train reel-fast" in log
    assert at.get("vega_lite_chart") == at.get("arrow_vega_lite_chart") == []  # no empty frames
    assert [c.value for c in at.caption].count("None yet.") == 3


@pytest.mark.slow
def test_a_run_is_found_by_a_new_page_stopped_and_resumed(home: Path, videos: Path) -> None:
    job = Job(home / "runs" / "long")
    words = ["train", "reel-fast", "--data", str(videos), "--out", str(job.folder), *SMALL]
    job.start([*words, "--set", "steps=20000"])
    try:
        batches = Follower(job.folder / "batches.jsonl")
        wait_until(lambda: any(row["step"] > 0 for row in batches.read()), "a step is done")
        at = opened("train")  # a page that has never heard of it
        assert labelled(at.selectbox, "Show").value == "long"
        labelled(at.button, "Stop").click().run()
        assert ended(job).state == "stopped"
        saved = batches.read()[-1]["step"]
        at.run()
        assert at.warning[0].value == "Stopped."
        labelled(at.button, "Resume").click().run()
        assert job.running()
        assert job.facts()["words"][-1] == "--resume"
        wait_until(lambda: batches.read()[-1]["step"] > saved, "it resumes")
    finally:
        job.stop()
    assert ended(job).state == "stopped"
