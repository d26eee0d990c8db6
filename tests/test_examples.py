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
WEIGHTS = REPO / "src" / "sharpreel" / "weights"
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
    """What a script prints; it must end well and say nothing on stderr that Python warns of."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    assert {path.name for path in (REPO / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_makes_the_files_it_names(name: str, tmp_path: Path) -> None:
    said = run(REPO / "examples" / name, EXAMPLES[name], tmp_path)
    for line in said.splitlines():
        path = Path(line.split(":")[0])
        if path.suffix in (".mp4", ".png", ".safetensors"):
            assert (tmp_path / path).stat().st_size > 0
    assert bool(said) == bool(EXAMPLES[name])


def test_a_mixture_lies_between_its_parts(tmp_path: Path) -> None:
    run(REPO / "examples" / "interpolate.py", EXAMPLES["interpolate.py"], tmp_path)
    names = WEIGHTS / "reel_x4.safetensors", WEIGHTS / "reel-gan_x4.safetensors"
    a, b, mixed = map(load_file, (*names, tmp_path / "mixed.safetensors"))
    for name in a:
        np.testing.assert_allclose(mixed[name], 0.75 * a[name] + 0.25 * b[name], atol=1e-6)


def test_the_demo_makes_a_film_twice_as_large_with_its_sound(tmp_path: Path) -> None:
    run(REPO / "examples" / "demo.py", EXAMPLES["demo.py"], tmp_path)
    with av.open(str(tmp_path / "demo" / "film_reel_x2.mp4")) as video:
        picture, sound = video.streams.video[0], video.streams.audio[0]
        assert (picture.codec_context.width, picture.codec_context.height) == (192, 108)
        assert picture.frames == 15
        loud = np.concatenate([f.to_ndarray() for f in video.decode(sound)], axis=1)
    assert loud.shape[0] == 2
    assert np.abs(loud).max() > 0.05


def test_the_throughput_is_measured_and_put_into_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- throughput:start -->\nold\n<!-- throughput:end -->\nafter\n")
    arguments = ["--quick", "--json", "found.json", "--readme", "README.md", "--update-readme"]
    table = run(REPO / "benchmarks" / "throughput.py", arguments, tmp_path).strip()
    wanted = f"before\n<!-- throughput:start -->\n{table}\n<!-- throughput:end -->\nafter\n"
    assert readme.read_text() == wanted
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["frames"] == 10
    assert row["stages"].keys() == {"decode", "network", "encode"}
    ours, peer = row["ours"][0], row["peer"][0]
    assert 0 < ours["first_frame_seconds"] < ours["seconds"]
    assert peer["seconds"] > 0
    assert min(ours["peak_mb"], peer["peak_mb"]) > 10


@pytest.mark.slow
def test_what_a_site_holds_is_measured(tmp_path: Path) -> None:
    said = run(REPO / "benchmarks" / "web.py", ["--quick", "--json", "found.json"], tmp_path)
    assert "| 320x180 | 1 |" in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["size"] for row in found["live"]] == ["160x90", "320x180"]
    assert all(row["fps"] > 0 and row["server_cpu_ms"] > 0 for row in found["live"])
    assert found["uploads"][0]["megabytes_a_second"] > 0


@pytest.mark.parametrize("block", ["throughput", "models"])
def test_the_readme_has_the_marks_that_scripts_write_between(block: str) -> None:
    text = (REPO / "README.md").read_text()
    assert 0 <= text.find(f"<!-- {block}:start -->") < text.find(f"<!-- {block}:end -->")
