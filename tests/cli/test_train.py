"""`sharpreel train`, `tune` and `recipes` from the command line, as users type them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.data.clips import find_clips
from sharpreel.data.store import open_store, prepare
from sharpreel.media.probe import probe
from sharpreel.models.weights import load_model
from sharpreel.training.recipes import RECIPES
from sharpreel.training.run import run_lock
from tests.support.tiles import tiles
from tests.support.videos import REPO, write_frames

QUICK = [
    *("--set", "arguments.channels=8", "--set", "arguments.blocks=1", "--set", "patch=16"),
    *("--set", "stages=[[1.0,2,2]]", "--set", "save_every=2", "--set", "validate_every=4"),
    *("--no-mlflow", "--threads", "2"),
]


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(4):
        frames = [tiles(k, t) for t in range(5)]
        write_frames(folder / f"clip{k}.mp4", frames, options={"crf": "5"})
    return folder


def test_a_folder_of_videos_becomes_a_model_that_upscales(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "reel-fast", "--data", videos, "--out", out, *QUICK]
    done = run(*words, "--set", "steps=4", "--json")
    assert done.exit_code == 0, done.output
    reported = events(done.stdout)
    assert [e["step"] for e in reported if e["event"] == "train"] == [0, 2, 4]
    (trained,) = [e for e in reported if e["event"] == "trained"]
    path = Path(trained["path"])
    assert path == out / "reel-fast_x2.safetensors"
    assert Path(trained["graph"]).is_file()
    card = load_model(path).card
    assert card["data"]["clips"] == 2  # of four: two to train on, one to validate on, one left
    assert card["data"]["clips by rights"] == {"unknown": 2}
    assert set(card["val_psnr_y"]["clips"]) < {f"clip{k}" for k in range(4)}
    assert (out / "log.jsonl").is_file()
    larger = tmp_path / "larger.mp4"
    done = run("upscale", videos / "clip0.mp4", "-m", path, "-o", larger)
    assert done.exit_code == 0, done.output
    assert probe(larger).shown_size == (192, 160)


def test_the_same_command_resumes_and_resume_never_starts_a_run(
    videos: Path, tmp_path: Path
) -> None:
    words = ["train", "reel-fast", "--data", videos, "--out", tmp_path / "run", *QUICK]
    words += ["--set", "steps=4"]
    done = run(*words, "--resume")
    assert done.exit_code == 2
    assert "no resumable training run found" in done.output
    assert run(*words).exit_code == 0
    done = run(*words, "--resume", "--json")
    assert done.exit_code == 0, done.output
    assert [e for e in events(done.stdout) if e["event"] == "train"] == []
    done = run(*words, "--set", "learning_rate=1")
    assert done.exit_code == 2
    assert "started with other settings (learning_rate)" in done.output


def test_two_training_runs_do_not_share_a_folder(videos: Path, tmp_path: Path) -> None:
    words = ["train", "reel-fast", "--data", videos, "--out", tmp_path / "run", *QUICK]
    words += ["--set", "steps=2"]
    with run_lock(tmp_path / "run"):
        done = run(*words)
        assert done.exit_code == 6
        assert "another training run is using this folder" in done.output
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]
    assert run(*words).exit_code == 0
    (tmp_path / "file").write_text("no folder")
    done = run(*words[:4], "--out", tmp_path / "file", *words[6:])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


def test_epochs_count_frames_of_clips_scaled_to_a_height(videos: Path, tmp_path: Path) -> None:
    words = ["train", "reel-fast", "--data", videos, *QUICK, "--set", "patch=16", "--height", 40]
    done = run(*words, "--out", tmp_path / "run", "--epochs", 2, "--json")
    assert done.exit_code == 0, done.output
    reported = events(done.stdout)
    # Two clips of five frames, four frames per step: three steps per epoch.
    assert [e["step"] for e in reported if e["event"] == "train"] == [0, 3, 6]
    assert reported[0] == {
        "event": "clip",
        "what": "prepared",
        "name": "clip0",
        "done": 1,
        "total": 4,
    }
    entry = open_store(tmp_path / "run" / "clips").entries[0]
    assert (entry.width, entry.height) == (48, 40)
    done = run(*words, "--out", tmp_path / "two", "--epochs", 2, "--set", "steps=3")
    assert done.exit_code == 2
    assert "--epochs and --set steps=N: choose one" in done.stderr
    store = tmp_path / "run" / "clips"
    done = run("train", "reel-fast", "--data", store, "--out", tmp_path / "two", "--height", 40)
    assert done.exit_code == 2
    assert "is a store, whose clips have their size" in done.stderr


def test_up_training_from_the_command_line(videos: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    words = ["--data", videos, *QUICK, "--set", "steps=2"]
    assert run("train", "reel-fast", "--out", first, *words).exit_code == 0
    start = ["--from", first / "reel-fast_x2.safetensors"]
    done = run("train", "reel-fast", "--out", tmp_path / "second", *words, *start)
    assert done.exit_code == 0, done.output
    other = ["train", "tsrcnn-small", "--out", tmp_path / "third", *words[:2], "--no-mlflow"]
    done = run(*other, "--set", "patch=16", *start)
    assert done.exit_code == 3
    assert "which cannot start a tsrcnn" in done.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "real-fast"], 2, "Did you mean reel-fast"),
        (["train", "reel-fast", "--set", "step=4"], 2, "Did you mean steps"),
        (
            ["train", "reel-fast", "--set", "patch=64"],
            2,
            "patch=64 is larger than every clip: in low resolution they are 48x40",
        ),
        (["train", "reel-fast", "--set", "degradation=bix"], 2, "bi"),
        (["train", "reel-fast", "--device", "cuda"], 4, "no CUDA GPU"),
        (["train", "reel-fast", "--list", "LIST"], 3, "names clips that are not in"),
        (["train", "iseebetter-4x", "--set", "patch=8"], 2, "vgg16-397923af.pth"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    words: list[str], code: int, message: str, videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("clip9\n")
    words = [str(tmp_path / "list.txt") if word == "LIST" else word for word in words]
    done = run(*words, "--data", videos, "--out", tmp_path / "run", "--no-mlflow", "--quiet")
    assert done.exit_code == code, done.output
    assert message in done.output
    assert done.stderr.count("\n") == 1


def test_a_list_selects_clips_of_a_store_as_of_a_folder(videos: Path, tmp_path: Path) -> None:
    store, listed = tmp_path / "store", tmp_path / "list.txt"
    prepare(find_clips(videos), store)
    words = ["train", "reel-fast", "--data", store, "--val", store, *QUICK]
    words += ["--set", "steps=2", "--list", listed]
    done = run(*words, "--out", tmp_path / "one")
    assert done.exit_code == 3
    assert "not a readable list" in done.stderr
    listed.write_text("clip1\nclip9\n")
    done = run(*words, "--out", tmp_path / "one")
    assert done.exit_code == 3
    assert "has no clip called clip9" in done.stderr
    listed.write_text("clip1\n")
    done = run(*words, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    card = load_model(tmp_path / "one" / "reel-fast_x2.safetensors").card
    assert card["data"]["clips"] == 1
    assert len(card["val_psnr_y"]["clips"]) == 4


def test_noncommercial_clips_are_skipped_unless_requested(videos: Path, tmp_path: Path) -> None:
    rows = "".join(
        f"videos/clip{k}.mp4,{'noncommercial' if k else 'permissive'}\n" for k in range(4)
    )
    (tmp_path / "MANIFEST.csv").write_text(f"file,rights\n{rows}")
    words = ["train", "reel-fast", "--data", videos, *QUICK, "--set", "steps=2", "--val", videos]
    done = run(*words, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    assert "3 noncommercial clips are skipped" in done.stderr
    card = load_model(tmp_path / "one" / "reel-fast_x2.safetensors").card
    assert card["data"]["clips by rights"] == {"permissive": 1}
    done = run(*words, "--out", tmp_path / "all", "--noncommercial")
    card = load_model(tmp_path / "all" / "reel-fast_x2.safetensors").card
    assert card["data"]["clips by rights"] == {"noncommercial": 3, "permissive": 1}
    prepare(find_clips(videos), tmp_path / "store")
    words[words.index("--data") + 1] = tmp_path / "store"
    done = run(*words, "--out", tmp_path / "three")
    assert "3 noncommercial clips are skipped" in done.stderr
    card = load_model(tmp_path / "three" / "reel-fast_x2.safetensors").card
    assert card["data"]["clips by rights"] == {"permissive": 1}


@pytest.mark.parametrize("command", ["train", "tune"])
def test_without_torch_the_extra_is_named_in_one_line(
    command: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    words = ["reel", "--data", videos, "--out", tmp_path / "run"]
    done = run(command, *words, *(["--space", "s.toml"] if command == "tune" else []))
    assert done.exit_code == 2
    assert "pip install 'sharpreel[train]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_recipes_are_listed() -> None:
    done = run("recipes", "--json")
    assert [e["name"] for e in events(done.stdout)] == list(RECIPES)
    assert all(name in run("recipes").stdout for name in RECIPES)


def test_a_search_writes_a_recipe_that_trains(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(
        'learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}\n'
    )
    words = ["tune", "reel-fast", "--data", videos, "--out", tmp_path / "search", *QUICK]
    words += ["--set", "steps=4", "--space", tmp_path / "space.toml", "--trials", "2"]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    reported = events(done.stdout)
    assert sum(e["event"] == "trial" for e in reported) == 2
    assert reported[-1]["event"] == "tuned"
    best = Path(reported[-1]["recipe"])
    assert (
        json.loads(best.read_text())["set"]["learning_rate"]
        == reported[-1]["settings"]["learning_rate"]
    )
    done = run("train", best, "--data", videos, "--out", tmp_path / "run", "--no-mlflow")
    assert done.exit_code == 0, done.output
    (tmp_path / "space.toml").write_text("learning_rat = {choices = [1, 2]}\n")
    done = run(*words[:-4], "--space", tmp_path / "space.toml", "--trials", "2")
    assert done.exit_code == 2
    assert "Did you mean learning_rate" in done.stderr


@pytest.mark.slow
def test_the_pipeline_of_dvc_does_nothing_the_second_time(videos: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(REPO / "examples" / "dvc", project)
    shutil.copytree(videos, project / "clips")
    params = (project / "params.yaml").read_text()
    for old, new in (
        ("steps: 2000", "steps: 4"),
        ("patch: 48", "patch: 16"),
        ("channels: 32", "channels: 8"),
    ):
        assert old in params
        params = params.replace(old, new)
    (project / "params.yaml").write_text(params)
    here = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}

    def dvc(*words: str) -> str:
        done = subprocess.run(
            ["dvc", *words], cwd=project, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    dvc("init", "-q")
    first = dvc("repro")
    for stage in ("prepare", "train", "evaluate", "report"):
        assert f"Running stage '{stage}'" in first
    metrics = json.loads(dvc("metrics", "show", "--json"))
    assert "bicubic" in json.dumps(metrics)
    second = dvc("repro")
    assert "Running stage" not in second
    (project / "params.yaml").write_text(params.replace("steps: 4", "steps: 6"))
    third = dvc("repro")
    assert "Running stage 'train'" in third
    assert "Running stage 'prepare'" not in third
    before = load_model(project / "model.safetensors").card
    for k in range(4):
        shutil.copy(videos / f"clip{(k + 1) % 4}.mp4", project / "clips" / f"clip{k}.mp4")
    dvc("repro")
    card = load_model(project / "model.safetensors").card
    assert card["data"]["sha256"] != before["data"]["sha256"]
    assert card["tensors_sha256"] != before["tensors_sha256"]  # trained again, not only renamed


def test_every_clip_is_used_in_several_degraded_versions(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(
        "train",
        "reel-fast-realistic",
        "--data",
        videos,
        "--out",
        out,
        *QUICK,
        "--set",
        "steps=2",
        "--set",
        "versions=3",
        "--json",
    )
    assert done.exit_code == 0, done.output
    (trained,) = [e for e in events(done.stdout) if e["event"] == "trained"]
    card = load_model(Path(trained["path"])).card
    assert (card["data"]["clips"], card["data"]["versions"]) == (2, 3)
    assert card["data"]["degradation"] == "realistic"
    versions = [np.load(p) for p in sorted((out / "clips.lr").rglob("clip*.npy"))]
    lrs = {version.tobytes() for version in versions}
    assert len(lrs) == len(versions) == 2 * 3 + 1  # one of the validation clip
