"""Every file in examples/ runs, and so do the measurements in benchmarks/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import load_file

REPO = Path(__file__).resolve().parent.parent
WEIGHTS = REPO / "src" / "sharpreel" / "models" / "bundled"
EXAMPLES = {
    "make_clip.py": ["clip.mp4", "--size", "64x36", "--seconds", "0.5"],
    "demo.py": ["--folder", "demo", "--size", "96x54", "--seconds", "0.6"],
    "compare_picture.py": ["pictures/compare.png", "--side", "32"],
    "learn_pictures.py": ["learn", "--frames", "4"],
    "interpolate.py": [
        *(str(WEIGHTS / f"{n}_x4.safetensors") for n in ("reel", "reel-gan")),
        "0.25",
        "mixed.safetensors",
    ],
    "panels.py": [],
}


def run(script: Path, arguments: list[str], folder: Path) -> str:
    """The output of a script; a Python warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    assert {path.name for path in (REPO / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_writes_the_files_it_names(name: str, tmp_path: Path) -> None:
    output = run(REPO / "examples" / name, EXAMPLES[name], tmp_path)
    for line in output.splitlines():
        path = Path(line.split(":")[0])
        if path.suffix in (".mp4", ".png", ".safetensors"):
            assert (tmp_path / path).stat().st_size > 0
    assert bool(output) == bool(EXAMPLES[name])


def test_interpolated_weights_are_the_weighted_mean(tmp_path: Path) -> None:
    run(REPO / "examples" / "interpolate.py", EXAMPLES["interpolate.py"], tmp_path)
    names = WEIGHTS / "reel_x4.safetensors", WEIGHTS / "reel-gan_x4.safetensors"
    a, b, mixed = map(load_file, (*names, tmp_path / "mixed.safetensors"))
    for name in a:
        np.testing.assert_allclose(mixed[name], 0.75 * a[name] + 0.25 * b[name], atol=1e-6)


def test_the_demo_doubles_a_video_and_keeps_its_sound(tmp_path: Path) -> None:
    run(REPO / "examples" / "demo.py", EXAMPLES["demo.py"], tmp_path)
    with av.open(str(tmp_path / "demo" / "clip_reel_x2.mp4")) as file:
        video, sound = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.width, video.codec_context.height) == (192, 108)
        assert video.frames == 15
        loud = np.concatenate([f.to_ndarray() for f in file.decode(sound)], axis=1)
    assert loud.shape[0] == 2
    assert np.abs(loud).max() > 0.05


def test_the_demo_shows_bicubic_and_sharpreel_side_by_side(tmp_path: Path) -> None:
    output = run(REPO / "examples" / "demo.py", EXAMPLES["demo.py"], tmp_path)
    assert "bicubic on the left, sharpreel on the right" in output
    with av.open(str(tmp_path / "demo" / "side-by-side.png")) as file:
        sheet = next(file.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    # Two panels of 190 x 108 pixels, each pixel 3 x 3, with a divider of 2; three rows.
    left, right = sheet[:324, :570], sheet[:324, 572:1142]
    assert left.shape == right.shape
    assert left.std() > 5
    assert 0.1 < np.abs(left - right).mean() < 30


def test_the_throughput_is_measured_and_written_into_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- throughput:start -->\nold\n<!-- throughput:end -->\nafter\n")
    arguments = ["--quick", "--json", "found.json", "--page", "page.md", "--update-docs"]
    table = run(REPO / "benchmarks" / "throughput.py", arguments, tmp_path).strip()
    expected = f"before\n<!-- throughput:start -->\n{table}\n<!-- throughput:end -->\nafter\n"
    assert page.read_text() == expected
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["frames"] == 10
    assert row["stages"].keys() == {"decode", "network", "encode"}
    ours, peer = row["ours"][0], row["peer"][0]
    assert 0 < ours["first_frame_seconds"] < ours["seconds"]
    assert peer["seconds"] > 0
    assert min(ours["peak_mb"], peer["peak_mb"]) > 10


@pytest.mark.slow
def test_the_capacity_of_a_site_is_measured(tmp_path: Path) -> None:
    output = run(REPO / "benchmarks" / "web.py", ["--quick", "--json", "found.json"], tmp_path)
    assert "| 320x180 | 1 |" in output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["size"] for row in found["live"]] == ["160x90", "320x180"]
    assert all(row["fps"] > 0 and row["server_cpu_ms"] > 0 for row in found["live"])
    assert found["uploads"][0]["megabytes_a_second"] > 0


@pytest.mark.parametrize(
    ("page", "block"),
    [
        ("README.md", "models"),
        ("docs/benchmarks.md", "throughput"),
        ("docs/benchmarks.md", "quality"),
        ("docs/benchmarks.md", "cost"),
        ("docs/cluster.md", "cluster"),
    ],
)
def test_a_page_has_the_marks_that_a_script_writes_between(page: str, block: str) -> None:
    text = (REPO / page).read_text()
    assert text.count(f"<!-- {block}:start -->") == text.count(f"<!-- {block}:end -->") == 1
    assert text.find(f"<!-- {block}:start -->") < text.find(f"<!-- {block}:end -->")


def test_the_readme_has_at_most_900_words() -> None:
    assert len((REPO / "README.md").read_text().split()) <= 900
