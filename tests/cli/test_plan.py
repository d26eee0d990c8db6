"""`sharpreel plan` and `verify`: what is shown and how they exit."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.system.resources import cuda_available
from tests.support.commands import one_line, run, upscale
from tests.support.terminal import events
from tests.support.videos import make_clip


def test_verify_exits_with_zero_or_five(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    assert upscale(clip, "-o", output, "-q").exit_code == 0
    good = run("verify", clip, output)
    assert good.exit_code == 0
    assert "holds all" in good.stdout
    other = make_clip(tmp_path / "other.mp4", frames=23)
    bad = run("verify", other, output)
    assert bad.exit_code == 5
    assert bad.stdout
    reported = run("verify", other, output, "--json")
    assert reported.exit_code == 5
    (one,) = events(reported.stdout)
    assert one["ok"] is False
    assert one["differences"]


def test_verifying_a_missing_file_exits_with_three(clip: Path, tmp_path: Path) -> None:
    result = run("verify", clip, tmp_path / "gone.mp4")
    assert result.exit_code == 3
    assert str(tmp_path / "gone.mp4") in one_line(result)


def test_plan_shows_the_run_and_writes_nothing(clip: Path, tmp_path: Path) -> None:
    result = run("plan", clip, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0
    for word in ("64x48", "128x96", "h264", "reel", "ETA", "memory", "disk", "copied"):
        assert word in result.stdout, word
    assert list(tmp_path.iterdir()) == []


def test_plan_as_json_has_the_estimate_as_numbers(clip: Path) -> None:
    result = run("plan", clip, "-m", "bicubic", "--json")
    (one,) = events(result.stdout)
    assert one["event"] == "plan"
    assert one["to"]["height"] == 96
    assert one["estimate"]["fps"] > 0
    assert one["estimate"]["eta_seconds"] > 0
    without = run("plan", clip, "--json", "--no-trial")
    assert events(without.stdout)[0]["estimate"] is None


def test_plan_of_a_folder_names_each_video_and_the_bad_ones(folder: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"bad" * 1000)
    result = run("plan", folder, "-r", "--json", "--no-trial")
    assert result.exit_code == 1
    assert [one["event"] for one in events(result.stdout)] == ["plan", "error", "plan"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-d", "cuda"], 4),
        (["-m", "bicubic", "--precision", "int8"], 2),
        (["-m", "reel-quality", "-s", "4", "--engine", "openvino"], 2),
    ],
)
def test_plan_refuses_what_the_run_would_refuse(
    clip: Path, arguments: list[str], code: int
) -> None:
    if cuda_available() and "cuda" in arguments:
        pytest.skip("there is a GPU")
    planned = run("plan", clip, "--no-trial", *arguments)
    refused = run("upscale", clip, *arguments)
    assert planned.exit_code == refused.exit_code == code
    assert planned.stderr.splitlines()[-1] == refused.stderr.splitlines()[-1]
    assert "sharpreel export" not in planned.stderr  # which cannot do it either


def test_plan_reports_that_there_is_nothing_to_do(clip: Path) -> None:
    result = run("plan", clip, "--height", "40")
    assert result.exit_code == 0
    assert "nothing to do" in result.stdout
