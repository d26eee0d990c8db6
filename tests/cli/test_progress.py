"""Progress of upscaling: JSON objects, and lines for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.cli.console import Console
from sharpreel.cli.progress import BARS, JsonProgress, node_rates, remark
from sharpreel.pipeline.stages import Progress
from tests.support.terminal import events, sharpreel


def test_json_lines_report_the_whole_run(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    done = sharpreel("upscale", clip, "-o", output, "--json", "--segment-seconds", "0.24")
    assert done.returncode == 0
    assert done.stderr == ""
    reported = events(done.stdout)
    names = [one["event"] for one in reported]
    assert names[0] == "start"
    assert names[-1] == "done"
    assert {"progress", "segment"} <= set(names)
    assert (reported[0]["input"], reported[0]["output"]) == (str(clip), str(output))
    assert reported[-1]["frames"] == 24
    assert reported[-1]["verified"] is True
    for one in reported:
        if one["event"] == "progress":
            assert 0 <= one["frames"] <= one["total"] == 24
            assert one["fps"] > 0
    assert [one["segment"] for one in reported if one["event"] == "segment"] == [0, 1, 2]


def at(event: str, frames: int = 0, note: str = "", resumed_frames: int = 0) -> Progress:
    return Progress(event, frames, 10, 2.0, 0, resumed_frames, note)


def test_progress_is_limited_in_rate_but_segments_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = JsonProgress(Console(as_json=True, quiet=False), "in.mp4")
    for frames in range(5):
        report(at("progress", frames))
    report(at("segment", 5))
    report(at("segment", 6))
    shown = [(one["event"], one["frames"]) for one in events(capsys.readouterr().out)]
    assert shown == [("progress", 0), ("segment", 5), ("segment", 6)]


def test_a_start_is_reported_only_for_resumed_and_restarted_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = JsonProgress(Console(as_json=True, quiet=False), "in.mp4")
    report(at("start"))
    assert capsys.readouterr().out == ""
    report(at("start", 4, resumed_frames=4))
    report(at("start", note="scale changed"))
    resumed, restarted = events(capsys.readouterr().out)
    assert (resumed["event"], resumed["frames"]) == ("resume", 4)
    assert restarted["restarted"] == "scale changed"


def test_the_stage_and_the_eta_are_in_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    report = JsonProgress(Console(as_json=True, quiet=False), "in.mp4")
    report(at("progress", 4))
    report(at("verify", 10))
    first, second = events(capsys.readouterr().out)
    assert (first["stage"], first["eta_seconds"]) == ("upscale", 3.0)
    assert (second["stage"], second["eta_seconds"]) == ("verify", 0.0)


def test_a_note_states_whether_the_run_starts_over() -> None:
    assert remark(at("start", note="scale changed")) == "scale changed: starting over"
    assert remark(at("again", note="segment 3: slow")) == "segment 3: slow"


def test_few_nodes_are_named_and_many_are_summed_up() -> None:
    few = Progress("progress", 1, 2, 1.0, 0, nodes={"10.0.0.2:ab": 2.0, "10.0.0.1:cd": 1.25})
    assert node_rates(few) == "10.0.0.1 1.2, 10.0.0.2 2.0"
    many = Progress("progress", 1, 2, 1.0, 0, nodes={f"n{k}": float(k) for k in range(1, 6)})
    assert node_rates(many) == "5 nodes, 1.0 to 5.0"


def test_the_bars_of_two_videos_share_one_display() -> None:
    with BARS.one("a.mp4") as first:
        first(at("start", 4, resumed_frames=4))
        with BARS.one("b.mp4") as second:
            second(at("progress", 3))
            assert BARS._rich is not None
            assert len(BARS._rich.tasks) == 2
            assert BARS._rich.tasks[1].completed == 3
        assert BARS._rich is not None
    assert BARS._rich is None
