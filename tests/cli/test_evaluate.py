"""`sharpreel evaluate` and `compare` from the command line, as users give them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharpreel.cli.console import Console
from sharpreel.cli.evaluate import progress_events
from sharpreel.cli.main import app
from tests.support.videos import count_frames, make_clip


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("measured")
    for name in ("one", "two"):
        make_clip(made / f"{name}.mp4", frames=4, size=(96, 64), audio=False)
    return made


def test_a_report_compares_models_with_bicubic_and_detects_regressions(
    folder: Path, tmp_path: Path
) -> None:
    words = ["evaluate", "-m", "reel-fast", "--data", folder, "--no-temporal"]
    done = run(*words, "-o", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert "P1" in done.stdout
    names = {"report.html", "scores.json", "scores.csv", "frames.csv", "scores.md"}
    assert names <= {p.name for p in (tmp_path / "report").iterdir()}
    scores = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert set(scores["means"]) >= {"bicubic", "reel-fast"}
    again = run(*words, "-o", tmp_path / "again", "--against", tmp_path / "report" / "scores.json")
    assert again.exit_code == 0, again.output
    for clip in scores["clips"]:
        for result in clip["results"]:
            result["psnr"] += 1
    (tmp_path / "better.json").write_text(json.dumps(scores))
    worse = run(*words, "-o", tmp_path / "again", "--against", tmp_path / "better.json")
    assert worse.exit_code == 1, worse.output
    assert "worse than" in worse.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-m", "reel-fats"], 2, "Did you mean reel-fast"),
        (["-m", "reel-fast", "--protocol", "P9"], 2, "P1"),
        (["-m", "reel-fast", "--degrade", "bx"], 2, "bi"),
        (["-m", "reel-fast", "--lpips", "vgg16.pth"], 2, "--lpips-heads HEADS: https://"),
        (["-m", "reel-fast", "--lpips-heads", "vgg.pth"], 2, "vgg16-397923af.pth with https://"),
        (["-m", "reel-fast", "--niqe", "nothing.npz"], 3, "nothing.npz: cannot be read"),
        (["-m", "reel-fast", "--seams", "48"], 2, "'48' is not a position"),
        (["-m", "reel-fast", "--against", "nothing.json"], 3, "not the scores.json"),
    ],
)
def test_invalid_requests_are_one_line(
    words: list[str], code: int, message: str, folder: Path, tmp_path: Path
) -> None:
    done = run("evaluate", *words, "--data", folder, "-o", tmp_path / "r", "--quiet")
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_test_set_states_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARPREEL_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = run("evaluate", "-m", "reel-fast", "--data", "reds4", "-o", tmp_path / "r", "--quiet")
    assert done.exit_code == 3, done.output
    assert "sharpreel data fetch reds -o" in done.stderr
    assert done.stderr.count("\n") == 1


def test_seams_are_measured_in_the_difference_of_two_videos(folder: Path, tmp_path: Path) -> None:
    words = ["compare", folder / "one.mp4", folder / "two.mp4", "-o", tmp_path / "wipe.mp4"]
    done = run(*words, "--seams", "t2,x48", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["seam_time"] == found["seam_space"] == 1  # the two are equal
    assert "seam in time 1.00" in run(*words, "--seams", "t2").stdout


def test_two_videos_are_compared_in_one_video(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "wipe.mp4"
    done = run("compare", folder / "one.mp4", folder / "two.mp4", "-o", out, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["event"] == "compared"
    assert count_frames(out) == found["frames"] == 4
    assert out.with_suffix(".png").stat().st_size > 0
    small = make_clip(tmp_path / "small.mp4", frames=4, size=(64, 48), audio=False)
    done = run("compare", folder / "one.mp4", small, "-o", out)
    assert done.exit_code == 3
    assert "frame 0: 96x64" in done.stderr


def test_progress_events_state_the_frames_of_each_clip_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    events: list[dict[str, Any]] = []
    console = Console(as_json=True, quiet=False)
    monkeypatch.setattr(console, "event", lambda event, **values: events.append(values))
    on_progress = progress_events(console)
    for done in range(1, 5):
        on_progress("a", done, 4)
        now += 0.2
    on_progress("b", 1, None)
    assert [(e["clip"], e["frames"]) for e in events] == [("a", 1), ("a", 3), ("a", 4), ("b", 1)]
    left = [e["eta_seconds"] for e in events]
    assert left[0] is left[3] is None
    assert left[1:3] == pytest.approx([0.2, 0.0])
