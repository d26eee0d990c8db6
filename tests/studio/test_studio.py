"""studio/: pages that turn choices into commands and files into curves; jobs that outlive them."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.errors import UsageError
from sharpreel.evaluation import html_page
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import probe
from tests.support.videos import make_clip, write_frames
from tests.training.test_trainer import tiles

pytest.importorskip("streamlit", reason="streamlit is not installed")
import streamlit as st
from streamlit.testing.v1 import AppTest

from sharpreel.studio import charts, jobs, progress, runs_page, test_page
from sharpreel.studio import widgets as widgets_module
from sharpreel.studio.jobs import Follower, Job

SMALL = ["--set", "arguments.channels=8", "--set", "arguments.blocks=1", "--set", "patch=16",
         "--set", "stages=[[1.0,2,2]]", "--json", "--no-mlflow", "--threads", "1"]  # fmt: skip
DEADLINE = 240.0  # seconds; a machine that trains beside the tests is slow


def wait_until(true: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s"
        time.sleep(0.1)


def ended(job: Job) -> jobs.Outcome:
    wait_until(lambda: not job.running(), f"{job.name} ends")
    return job.outcome()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "studio"
    monkeypatch.setenv(jobs.FOLDER_VARIABLE, str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for k in range(4):
        write_frames(folder / f"clip{k}.mp4", [tiles(k, t) for t in range(5)], options={"crf": "5"})
    return folder


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studio's folder with one finished training, `runs/first`: 12 steps, scored every 4."""
    folder = tmp_path_factory.mktemp("trained")
    job = Job(folder / jobs.RUNS / "first")
    words = ["train", "reel-fast", "--data", str(videos), "--out", str(job.folder), *SMALL]
    for setting in ("steps=12", "save_every=4", "validate_every=4"):
        words += ["--set", setting]
    job.start(words)
    assert ended(job) == jobs.Outcome("finished"), job.log_tail()
    return folder


def page(name: str) -> AppTest:
    script = f"from sharpreel.studio import {name}_page\n{name}_page.show()"
    return AppTest.from_string(script, default_timeout=DEADLINE)


def opened(name: str) -> AppTest:
    """A page of its own session, without an exception."""
    at = page(name).run()
    assert not at.exception, at.exception[0].message
    return at


def labelled(widgets: Any, label: str) -> Any:
    """The one widget whose label begins so."""
    (found,) = [w for w in widgets if w.label.startswith(label)]
    return found


def errors(at: AppTest) -> list[str]:
    assert not at.exception, at.exception[0].message
    return [error.value for error in at.error]


# Pages.


@pytest.mark.parametrize("name", ["train", "tune", "test", "runs"])
def test_each_page_opens_on_an_empty_folder(name: str, home: Path) -> None:
    at = opened(name)
    assert errors(at) == []
    assert at.title[0].value == name.capitalize()


def test_the_app_begins_with_training_and_names_every_page(home: Path) -> None:
    at = AppTest.from_file(jobs.__file__.replace("jobs.py", "app.py"), default_timeout=DEADLINE)
    at.run()
    assert not at.exception
    assert at.title[0].value == "Train"


def start_training(at: AppTest, path: Path) -> AppTest:
    at.text_input(key="train-path").set_value(str(path))
    labelled(at.button, "Start training").click().run()
    return at


def test_choices_become_a_command(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(Job, "start", lambda self, words, *a, **k: begun.append(list(words)))
    at = opened("train")
    labelled(at.selectbox, "Recipe").set_value("tsrcnn-small").run()
    labelled(at.selectbox, "High resolution").set_value(360).run()
    low = labelled(at.selectbox, "Low resolution")
    assert low.options == ["180 lines (factor 2)", "120 lines (factor 3)", "90 lines (factor 4)"]
    low.set_value(3).run()
    labelled(at.text_input, "Learning rate").set_value("3e-4")
    labelled(at.selectbox, "Optimiser").set_value("sgd")
    labelled(at.selectbox, "Loss").set_value("dssim")
    labelled(at.number_input, "Batch size").set_value(2)
    labelled(at.number_input, "Frames back").set_value(2)
    labelled(at.radio, "Length").set_value("Epochs").run()
    labelled(at.number_input, "Epochs").set_value(5)
    labelled(at.text_area, "Other settings").set_value("weight_decay=0.5\n\nseed=7\n")
    labelled(at.text_input, "Name of the run").set_value("mine")
    start_training(at, videos)
    assert errors(at) == []
    (words,) = begun
    line = " ".join(words)
    assert words[:2] == ["train", "tsrcnn-small"]
    assert f"--data {videos} --json --device auto --scale 3 --epochs 5 --height 360" in line
    assert line.endswith(f"--out {home / 'runs' / 'mine'}")
    settings = {word for flag, word in itertools.pairwise(words) if flag == "--set"}
    assert settings == {"learning_rate=3e-4", "optimizer=sgd", "loss=dssim", "seed=7",
                        "stages=[[1.0, 3, 2]]", "arguments.past=2", "weight_decay=0.5"}  # fmt: skip


def test_what_cannot_be_is_the_houses_one_line(home: Path, videos: Path) -> None:
    at = start_training(opened("train"), videos / "nowhere")
    assert errors(at) == [f"{videos / 'nowhere'}: no such file or folder on the server."]
    labelled(at.text_input, "Learning rate").set_value("fast")
    (message,) = errors(start_training(at, videos))
    assert message.startswith("--set learning_rate=fast: ")
    labelled(at.text_input, "Learning rate").set_value("1e-3")
    labelled(at.text_area, "Other settings").set_value("step=3")
    (message,) = errors(start_training(at, videos))
    assert "Did you mean steps?" in message
    labelled(at.text_area, "Other settings").set_value("")
    labelled(at.text_input, "Name of the run").set_value("../up")
    (message,) = errors(start_training(at, videos))
    assert "is no name for a run" in message
    labelled(at.text_input, "Name of the run").set_value("one")
    (message,) = errors(start_training(at, videos / "clip0.mp4"))
    assert "not a folder of clips" in message
    assert list((home / "runs").iterdir()) == []  # nothing that would take a name


def test_uploads_are_written_and_trained_on(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(Job, "start", lambda self, words, *a, **k: begun.append(list(words)))
    at = opened("train")
    at.radio(key="train-way").set_value("Upload").run()
    uploader = at.get("file_uploader")[0]
    assert uploader.label == "Videos of 500 MB at most"
    assert "need no upload: give their path" in " ".join(c.value for c in at.caption)
    given = [(f"../../{path.name}", path.read_bytes(), "video/mp4") for path in videos.iterdir()]
    uploader.set_value(given)
    labelled(at.button, "Start training").click().run()
    assert errors(at) == []
    (words,) = begun
    folder = Path(words[words.index("--data") + 1])
    assert home / "runs" / "reel-fast-1" in folder.parents
    assert sorted(p.name for p in folder.iterdir()) == [f"clip{k}.mp4" for k in range(4)]
    assert (folder / "clip2.mp4").read_bytes() == (videos / "clip2.mp4").read_bytes()
    twice = widgets_module.Videos(uploads=[type("Upload", (), {"name": "a.mp4"})] * 2)
    with pytest.raises(UsageError, match="have one name"):
        twice.place(home / "two")


def test_uploads_of_one_job_are_no_others(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(Job, "start", lambda self, words, *a, **k: begun.append(list(words)))
    given = [(path.name, path.read_bytes(), "video/mp4") for path in sorted(videos.iterdir())]

    def start(name: str, key: str, files: Any, called: str | None = None) -> Path:
        at = opened(name)
        at.radio(key=f"{key}-way").set_value("Upload").run()
        at.get("file_uploader")[0].set_value(files)
        if called:
            labelled(at.text_input, "Name").set_value(called)
        labelled(at.button, "Start").click().run()
        assert errors(at) == []
        words = begun[-1]
        return Path(words[words.index("--data") + 1])

    learnt = start("train", "train", given)
    searched = start("tune", "tune", given[:3])  # proposes the very same name
    measured = start("test", "test-hr", given[0], "reel-fast-1")
    assert len({learnt, searched, measured}) == 3
    assert len(list(learnt.iterdir())) == 4
    assert len(list(searched.iterdir())) == 3
    assert measured.name == "clip0.mp4"


def test_uploads_to_learn_from_and_to_score_on_keep_apart_from_a_run_called_alike(
    home: Path,
) -> None:
    upload = type("Upload", (), {"name": "a.mp4", "getbuffer": lambda self: b"a"})
    places = set()
    for name in ("x", "x-val"):
        with jobs.new_job(home / jobs.RUNS, name) as one:
            for role in ("videos", "val"):
                places.add(widgets_module.Videos(uploads=[upload()]).place(one.uploads / role))
    assert len(places) == 4


def test_a_finished_training_shows_bars_nine_charts_and_its_model(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jobs.FOLDER_VARIABLE, str(trained))
    at = opened("train")
    assert labelled(at.selectbox, "Show").options == ["A new training", "first"]
    labelled(at.selectbox, "Show").set_value("first").run()
    assert errors(at) == []
    assert [s.value for s in at.success] == ["Finished"]
    drawn = at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")
    assert len(drawn) == 9
    texts = [bar.proto.text for bar in at.get("progress")]
    assert texts == ["Clips: loaded", "Epochs: 3 of 3", "Training batches: 4 of 4",
                     "Validation batches: 1 of 1"]  # fmt: skip
    assert "first" in at.query_params["run"]
    assert "reel-fast_x2.safetensors" in at.caption[0].value


def test_a_checkpoint_is_trained_further(
    trained: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jobs.FOLDER_VARIABLE, str(trained))
    begun: list[list[str]] = []
    monkeypatch.setattr(Job, "start", lambda self, words, *a, **k: begun.append(list(words)))
    at = opened("train")
    labelled(at.radio, "Begin with").set_value("A checkpoint (up-training)").run()
    chosen = labelled(at.selectbox, "Checkpoint")
    assert "reel_x4 (in the package)" in chosen.options
    chosen.set_value("reel_x4 (in the package)").run()
    assert labelled(at.selectbox, "Recipe").value == "reel"
    assert labelled(at.selectbox, "Low resolution").options == ["1/4 of that (factor 4)"]
    chosen = labelled(at.selectbox, "Checkpoint")
    chosen.set_value("first: reel-fast_x2.safetensors").run()
    assert labelled(at.selectbox, "Recipe").value == "reel-fast"
    start_training(at, videos)
    assert errors(at) == []
    (words,) = begun
    model = trained / "runs" / "first" / "reel-fast_x2.safetensors"
    assert words[words.index("--from") + 1] == str(model)
    assert {"arguments.channels=8", "arguments.blocks=1"} <= set(words)


def test_a_checkpoint_of_others_finds_its_recipe_and_its_frames(
    home: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sharpreel.models import MODELS

    begun: list[list[str]] = []
    monkeypatch.setattr(Job, "start", lambda self, words, *a, **k: begun.append(list(words)))
    network = MODELS["tsrcnn"].build({"size": "small", "past": 2, "future": 2, "scale": 2})
    torch.save(network.state_dict(), tmp_path / "theirs.pt")
    at = opened("train")
    labelled(at.radio, "Begin with").set_value("A checkpoint (up-training)").run()
    labelled(at.selectbox, "Checkpoint").set_value("A file on the server").run()
    hint = "Give the path of a model file on the server."
    assert errors(at) == []
    assert hint in [c.value for c in at.caption]
    assert errors(start_training(at, videos)) == [hint]
    labelled(at.text_input, "Model file").set_value(str(videos / "clip0.mp4")).run()
    (message,) = errors(at)
    assert "clip0.mp4" in message
    assert labelled(at.button, "Start training")
    labelled(at.text_input, "Model file").set_value(str(tmp_path / "theirs.pt")).run()
    assert labelled(at.selectbox, "Recipe").value == "tsrcnn-small"
    assert labelled(at.number_input, "Frames back").value == 2
    labelled(at.number_input, "Side of the crops").set_value(16)
    start_training(at, videos)
    assert errors(at) == []
    assert {"arguments.past=2", "arguments.future=2", "patch=16"} <= set(begun[0])


def test_a_training_that_fails_shows_its_error_and_the_end_of_its_log(
    home: Path, videos: Path
) -> None:
    at = opened("train")
    labelled(at.number_input, "Side of the crops").set_value(64)
    labelled(at.number_input, "Steps").set_value(3)
    labelled(at.text_area, "Other settings").set_value("arguments.blocks=1")
    at = start_training(at, videos)
    job = Job(home / "runs" / "reel-fast-1")
    assert ended(job).state == "failed"
    at.run()
    (message,) = errors(at)
    assert "a patch of 64 pixels: reduced they are 48x40" in message
    log = " ".join(code.value for code in at.code)
    assert f"sharpreel: {message}" in log
    assert "sharpreel train reel-fast" in log
    assert at.get("vega_lite_chart") == at.get("arrow_vega_lite_chart") == []  # no empty frames
    assert [c.value for c in at.caption].count("None yet.") == 3


@pytest.mark.slow
def test_a_training_is_found_again_stopped_and_gone_on_with(home: Path, videos: Path) -> None:
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
        labelled(at.button, "Go on").click().run()
        assert job.running()
        assert job.facts()["words"][-1] == "--resume"
        wait_until(lambda: batches.read()[-1]["step"] > saved, "it goes on")
    finally:
        job.stop()
    assert ended(job).state == "stopped"


def test_a_job_that_ends_while_its_page_is_made_is_not_shown_as_running(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jobs.FOLDER_VARIABLE, str(trained))
    outcome = Job.outcome
    told = [jobs.Outcome("running")]
    monkeypatch.setattr(Job, "outcome", lambda self: told.pop() if told else outcome(self))
    at = opened("train")
    told[:] = [jobs.Outcome("running")]
    labelled(at.selectbox, "Show").set_value("first").run()
    assert told == []
    assert "Stop" not in [button.label for button in at.button]
    assert [s.value for s in at.success] == ["Finished"]


def test_a_page_of_what_has_ended_sees_that_another_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Callable[[], None], float | None]] = []
    anew: list[bool] = []

    def fragment(part: Callable[[], None], run_every: float | None = None) -> Callable[[], None]:
        begun.append((part, run_every))
        return part

    monkeypatch.setattr(st, "fragment", fragment)
    monkeypatch.setattr(st, "rerun", lambda: anew.append(True))
    job = Job(tmp_path / "one")
    shown: list[bool] = []
    widgets_module.live(job, lambda: shown.append(True), running=False)
    again = [part for part, run_every in begun if run_every == widgets_module.LOOK_SECONDS]
    assert (len(again), shown, anew) == (1, [True], [])
    again[0]()
    assert (shown, anew) == ([True], [])  # nothing is drawn again for nothing
    job.start(["-c", "print"], program="this")
    ended(job)
    again[0]()
    assert anew == [True]  # though it has ended again


def test_a_session_reads_anew_what_a_job_that_began_anew_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(st, "session_state", {})
    facts: dict[str, Any] = {"began": 1.0}
    monkeypatch.setattr(Job, "facts", lambda self: facts)
    job, path = Job(home), home / "batches.jsonl"
    first = widgets_module.follower(job, path)
    assert widgets_module.follower(job, path) is first
    facts["began"] = 2.0
    assert widgets_module.follower(job, path) is not first


def test_two_sessions_do_not_disturb_each_other(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jobs.FOLDER_VARIABLE, str(trained))
    one, two = opened("train"), opened("train")
    labelled(one.selectbox, "Recipe").set_value("reel-gan").run()
    labelled(two.selectbox, "Show").set_value("first").run()
    labelled(one.text_input, "Learning rate").set_value("7e-5").run()
    two.run()
    assert labelled(two.selectbox, "Show").value == "first"
    assert labelled(one.selectbox, "Recipe").value == "reel-gan"
    assert labelled(one.text_input, "Learning rate").value == "7e-5"
    assert labelled(one.selectbox, "Show").value == ""


def test_a_space_that_cannot_be_searched_is_one_line(home: Path, videos: Path) -> None:
    at = opened("tune")
    labelled(at.text_area, "What is searched").set_value("learning_rat = {choices = [1, 2]}")
    labelled(at.button, "Start search").click().run()
    (message,) = errors(at)
    assert "Did you mean learning_rate?" in message
    labelled(at.text_area, "What is searched").set_value("learning_rate = ")
    labelled(at.button, "Start search").click().run()
    assert errors(at)[0].startswith("What is searched is not TOML: ")
    assert not (home / "searches").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0123, "+0.012 dB over bicubic"),
        (-0.0004, "no better than bicubic"),
        (-0.5, "0.500 dB below bicubic"),
    ],
)
def test_the_best_of_a_search_is_good_only_above_bicubic(
    value: float, said: str, home: Path
) -> None:
    search = home / jobs.SEARCHES / "found"
    (search / "studio").mkdir(parents=True)
    (search / "best.json").write_text(json.dumps({"recipe": "reel", "value": value, "trial": 3}))
    facts = {"words": [], "about": {"recipe": "reel", "trials": 4}, "began": 0}
    (search / "studio" / "job.json").write_text(json.dumps(facts))
    (search / "studio" / "events.jsonl").write_text('{"event": "tuned"}\n')
    at = opened("tune")
    labelled(at.selectbox, "Show").set_value("found").run()
    assert errors(at) == []
    good, neutral = ([one.value for one in kind] for kind in (at.success[1:], at.info))
    assert (good if value > 0.001 else neutral) == [f"Best: trial 3, {said}"]
    assert (neutral if value > 0.001 else good) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_is_watched_and_its_best_becomes_a_recipe(home: Path, videos: Path) -> None:
    at = opened("tune")
    labelled(at.text_input, "Path").set_value(str(videos))
    labelled(at.text_area, "What is searched").set_value(
        'learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}'
    )
    small = [w for w in SMALL if "=" in w and "--" not in w] + ["steps=4"]
    labelled(at.text_area, "Settings of all").set_value("\n".join(small))
    labelled(at.number_input, "Trials").set_value(4)
    labelled(at.button, "Start search").click().run()
    assert errors(at) == []
    job = Job(home / "searches" / "reel-fast-1")
    assert ended(job).state == "finished", job.log_tail()
    at.run()
    assert errors(at) == []
    assert [*at.success, *at.info][-1].value.startswith("Best: trial ")  # four steps gain little
    assert len(at.dataframe[0].value) == 4
    assert {"History", "Parallel coordinates"} <= {tab.label for tab in at.tabs}
    assert "best of reel-fast-1" in labelled(opened("train").selectbox, "Recipe").options
    titles = {run.name for run in runs_page.read_runs()}
    assert {"tune reel-fast", "trial-00000", "trial-00003"} <= titles


def test_a_test_measures_a_network_of_the_studio_frame_by_frame(
    trained: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jobs.FOLDER_VARIABLE, str(trained))
    at = opened("test")
    labelled(at.selectbox, "Network").set_value("first: reel-fast_x2.safetensors").run()
    labelled(at.text_input, "Path").set_value(str(videos / "clip1.mp4"))
    labelled(at.text_input, "Name").set_value("one")
    labelled(at.button, "Start test").click().run()
    assert errors(at) == []
    job = Job(trained / "tests" / "one")
    assert ended(job).state == "finished", job.log_tail()
    told = [e for e in job.events() if e["event"] == "frame"]
    assert [e["frame"] for e in told] == [0, 1, 2, 3, 4]
    assert set(told[0]["scores"]) == {"bicubic", "reel-fast_x2"}
    scores = json.loads((job.folder / "report" / "scores.json").read_text())
    bicubic = scores["clips"][0]["results"][0]["frames"]["psnr"]
    assert told[0]["scores"]["bicubic"]["psnr"] == bicubic[told[0]["frame"]]
    at.run()
    table = at.markdown[0].value
    assert "| model | gain, dB | score | PSNR, dB | SSIM | QM |" in table
    names = [button.proto.label for button in at.get("download_button")]
    assert names == [f"Download {name}" for name in test_page.FILES]


def test_a_video_is_enlarged_played_and_compared(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened("test")
    labelled(at.radio, "Mode").set_value(test_page.INFERENCE).run()
    labelled(at.text_input, "Path").set_value(str(videos / "clip1.mp4"))
    labelled(at.button, "Upscale").click().run()
    assert errors(at) == []
    job = Job(home / "tests" / "large-reel-1")
    assert ended(job).state == "finished", job.log_tail()
    at.run()
    assert errors(at) == []
    result = job.folder / "clip1_reel.mp4"
    pair = test_page.frames_at(videos / "clip1.mp4", result, 0.08)
    assert {frame.shape for frame in pair.values()} == {(160, 192, 3)}
    truth = tiles(1, 2).repeat(2, 0).repeat(2, 1).astype(float)
    others = [tiles(1, t).repeat(2, 0).repeat(2, 1).astype(float) for t in (0, 4)]
    for frame in pair.values():  # that of two twenty-fifths of a second, and no other
        far = [float(np.abs(frame - other).mean()) for other in others]
        assert float(np.abs(frame - truth).mean()) < min(far) / 2
    assert 'data-name="bicubic"' in html_page.slider(pair, "a & b")
    assert "a &amp; b" in html_page.slider(pair, "a & b")


@pytest.mark.parametrize("mode", ["test", "inference"])
def test_what_runs_is_shown_as_far_as_it_is(mode: str, home: Path) -> None:
    job = Job(home / "tests" / "one")
    job.start(["0", "--bind", "127.0.0.1"], {"mode": mode}, program="http.server")
    scores = {"bicubic": {"psnr": 30.0, "ssim": 0.9}, "ours": {"psnr": "inf", "ssim": 1.0}}
    told: list[dict[str, Any]] = [
        {"event": "frame", "clip": "a", "frame": k, "scores": scores} for k in range(3)
    ]
    told.append({"event": "progress", "clip": "a", "stage": "upscale", "frames": 3, "total": 12,
                 "fps": 2.0, "eta_seconds": 65})  # fmt: skip
    try:
        job.events_path.write_text("".join(json.dumps(row) + "\n" for row in told))
        at = opened("test")
        (bar,) = at.get("progress")
        drawn = at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")
        if mode == "test":
            assert bar.proto.text == "a: 3 of 12 frames, 1:05 left"
            assert len(drawn) == 2
        else:
            assert bar.proto.text == "upscale: 3 of 12 frames, 2.0 a second, 1:05 left"
    finally:
        job.stop()
        ended(job)
    curves = test_page.scores_of(told[:3])
    assert [(p.x, p.y, p.line) for p in curves["ssim"][:3]] == [(k, 1.0, "ours") for k in range(3)]


def test_runs_are_listed_filtered_and_compared(home: Path) -> None:
    from mlflow import MlflowClient

    from sharpreel.training import trackers

    runs_page.prepare_store()
    client = MlflowClient(runs_page.store_uri())
    experiment = client.get_experiment_by_name(trackers.EXPERIMENT)
    assert experiment is not None
    assert experiment.artifact_location == (home / "runs" / "mlartifacts").as_uri()
    for name, loss, gain in (("one", "l1", 1.5), ("two", "mse", 0.5), ("three", "l1", 0.1)):
        tags = {"mlflow.runName": name, "recipe": "reel-fast"}
        number = client.create_run(experiment.experiment_id, tags=tags).info.run_id
        client.log_param(number, "loss", loss)
        client.log_param(number, "patch", 16)
        client.log_param(number, "sha256", name)
        client.log_param(number, "stages", f"({{'share': 1.0, 'clip_len': 2, 'batch': {gain}}},)")
        for step in (0, 10):
            client.log_metric(number, "val_gain_db", gain * step / 10, step=step)
        client.set_terminated(number)
    at = opened("runs")
    assert len(at.dataframe[0].value) == 3
    labelled(at.number_input, "Gain").set_value(0.4).run()
    assert [name.split()[0] for name in at.dataframe[0].value["run"]] == ["two", "one"]
    labelled(at.text_input, "Name or setting").set_value("L1").run()
    assert [name.split()[0] for name in at.dataframe[0].value["run"]] == ["one"]
    labelled(at.text_input, "Name or setting").set_value("").run()
    compare = labelled(at.multiselect, "Compare")
    compare.set_value(compare.options).run()
    assert errors(at) == []
    compared = at.dataframe[1].value
    assert list(compared["setting"]) == ["loss", "stages", "gain, dB", "PSNR, dB",
                                         "training loss"]  # fmt: skip
    assert compared.iloc[1, 1] == "share 1.0, clip_len 2, batch 0.5"
    curves = runs_page.histories(runs_page.read_runs()[:1])
    assert [(p.x, p.y) for p in curves["val_gain_db"]] == [(0, 0), (10, 0.1)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("({'share': 0.5, 'batch': 4}, {'share': 0.5, 'batch': 2})",
         "share 0.5, batch 4; share 0.5, batch 2"),
        ("{'CC0': 3}", "CC0 3"),
        ("l1", "l1"),
        ("(broken", "(broken"),
        ("", ""),
    ],
)  # fmt: skip
def test_parameters_are_shown_in_words(value: str, words: str) -> None:
    assert runs_page.in_words(value) == words


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((1920, 1080), (1120, 630)),
        ((480, 854), (354, 630)),
        ((64, 48), (64, 48)),
    ],
)
def test_a_film_is_neither_enlarged_nor_taller_than_a_screen(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert widgets_module.fitted(*size) == shown
    middle = test_page._middle(np.zeros((*size[::-1], 3), np.uint8))
    assert middle.shape[1::-1] == shown  # the line moves over the same size


def test_a_film_that_is_turned_when_shown_is_compared_upright(tmp_path: Path) -> None:
    for name, size in (("lr.mp4", (64, 48)), ("sr.mp4", (128, 96))):
        make_clip(tmp_path / name, size=size, frames=3, rotation=90, audio=False)
    assert probe(tmp_path / "sr.mp4").shown_size == (96, 128)
    pair = test_page.frames_at(tmp_path / "lr.mp4", tmp_path / "sr.mp4", 0.0)
    assert {frame.shape for frame in pair.values()} == {(128, 96, 3)}
    stored = next(iter(video_reader.VideoReader(probe(tmp_path / "sr.mp4")))).pixels
    np.testing.assert_array_equal(pair["result"][0], stored[::-1, 0])  # clockwise


# Jobs.


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A process that does nothing until it is told to end."""
    one = Job(tmp_path / "idle")
    one.start(["0", "--bind", "127.0.0.1"], {"k": 1}, {"VARIABLE": "v"}, program="http.server")
    yield one
    one.stop()
    ended(one)


def test_a_job_is_begun_once_and_is_alive_while_its_process_is(job: Job) -> None:
    assert Job(job.folder).running()
    with pytest.raises(UsageError, match="idle is under way already"):
        Job(job.folder).start(["0"], program="http.server")
    seen = [sys.executable, "-c", "import sys; from pathlib import Path;"
            "from sharpreel.studio.jobs import Job; print(Job(Path(sys.argv[1])).running())",
            str(job.folder)]  # fmt: skip
    told = subprocess.run(seen, capture_output=True, text=True, check=True).stdout
    assert told == "True\n"
    assert job.outcome() == jobs.Outcome("running")
    facts = job.facts()
    assert (facts["about"], facts["environment"]) == ({"k": 1}, {"VARIABLE": "v"})
    os.kill(facts["pid"], signal.SIGKILL)
    assert ended(job) == jobs.Outcome(
        "failed", "It ended without a word: killed, or out of memory."
    )


def test_a_job_outlives_the_process_that_began_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from sharpreel.studio.jobs import Job
Job(Path(sys.argv[1])).start(["0", "--bind", "127.0.0.1"], program="http.server")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "idle")], check=True)
    job = Job(tmp_path / "idle")
    assert job.running()
    job.stop()
    assert ended(job) == jobs.Outcome("stopped", "Stopped before it had begun.")


def test_jobs_are_listed_newest_first_and_named_apart(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        (tmp_path / name / "studio").mkdir(parents=True)
        (tmp_path / name / "studio" / "job.json").write_text(json.dumps({"began": number}))
    (tmp_path / "other").mkdir()
    assert [one.name for one in jobs.all_jobs(tmp_path)] == ["c", "b", "a"]
    (tmp_path / "reel-1").mkdir()
    assert jobs.free_name(tmp_path, "reel") == "reel-2"
    with pytest.raises(UsageError, match="a is there already"), jobs.new_job(tmp_path, "a"):
        pass
    for name in ("", "..", "a/b", "-x", ".hidden"):
        with (
            pytest.raises(UsageError, match="is no name for a run"),
            jobs.new_job(tmp_path, name),
        ):
            pass


def test_a_job_that_does_not_begin_leaves_its_name_free(tmp_path: Path) -> None:
    def fail() -> None:
        with jobs.new_job(tmp_path, "a") as one:
            (one.folder / "upload").touch()
            raise UsageError("It cannot begin.")

    with pytest.raises(UsageError, match="It cannot begin"):
        fail()
    with jobs.new_job(tmp_path, "a") as one:
        assert list(one.folder.iterdir()) == []


def test_two_who_look_at_a_dead_job_do_not_take_each_other_for_it(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (tmp_path / "studio").mkdir()
    lock = tmp_path / "studio" / "lock"
    lock.touch()
    with lock.open("rb") as looking:  # as another page does
        assert jobs._held(looking, fcntl.LOCK_SH)
        assert not job.running()
        threading.Timer(0.2, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        job.start(["0", "--bind", "127.0.0.1"], program="http.server")  # it waits for that one
    job.stop()
    ended(job)


def test_who_follows_a_job_that_begins_anew_forgets_what_was(tmp_path: Path) -> None:
    job = Job(tmp_path / "one")
    words = ["-c", "print", "--help"]
    job.start(words, program="this")
    ended(job)
    job.events_path.write_text('{"a": 1}\n')
    follower = Follower(job.events_path)
    assert follower.read() == [{"a": 1}]
    job.start(words, program="this")
    ended(job)
    with job.events_path.open("w") as file:  # by the time of the next look it is as long again
        file.write('{"a": 2}\n')
    assert follower.read() == [{"a": 2}]


def test_lines_are_read_once_and_only_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    reader = Follower(path)
    assert reader.read() == []
    with path.open("a") as file:
        file.write('{"a": 1}\n{"a": ')
        file.flush()
        assert reader.read() == [{"a": 1}]
        file.write('2}\nnonsense\n{"a": 3}\n')
        file.flush()
        assert reader.read() == [{"a": 1}, {"a": 2}, {"a": 3}]
    path.unlink()
    path.write_text('{"a": 4}\n')
    assert reader.read() == [{"a": 4}]


# Curves and bars.


def batch(step: int, psnr: float, at: float = 0.0) -> dict[str, Any]:
    return {"step": step, "steps": 1, "psnr": psnr, "bicubic_psnr": psnr - 1, "time": at}


def scored(step: int, number: int, psnr: float, at: float = 0.0) -> dict[str, Any]:
    return {"step": step, "clip": f"c{number}", "number": number, "of": 2, "psnr": psnr,
            "bicubic_psnr": 30.0, "time": at}  # fmt: skip


def test_rows_become_nine_curves() -> None:
    rows = [scored(0, 1, 30), scored(0, 2, 32), batch(1, 20), batch(2, 22), scored(2, 1, 33),
            scored(2, 2, 35)]  # fmt: skip
    drawn = progress.curves(rows)
    assert len(drawn) == 9

    def line(row: str, name: str) -> list[tuple[float, float]]:
        return [(p.x, p.y) for p in drawn[row, "psnr"] if p.line == name]

    assert line("training batches", "network") == [(1, 20), (2, 22)]
    assert line("training batches", "bicubic") == [(1, 19), (2, 21)]
    assert line("validation batches", "network") == [(1, 30), (2, 32), (3, 33), (4, 35)]
    assert line("epochs", "training") == [(1, 21)]
    assert line("epochs", "validation") == [(0, 31), (1, 34)]
    assert line("epochs", "bicubic") == [(0, 30), (1, 30)]
    assert drawn["epochs", "ssim"] == []


def test_steps_that_were_done_again_are_drawn_once() -> None:
    rows = [batch(1, 1), batch(2, 2), batch(3, 3), batch(2, 5), batch(3, 6)]
    assert [row["psnr"] for row in progress.latest(rows)] == [1, 5, 6]


def test_long_curves_are_means() -> None:
    points = progress.thinned([(float(k), float(k % 2)) for k in range(2000)])
    assert len(points) == progress.MOST_POINTS
    assert {y for _, y in points} <= {0.4, 0.6}
    assert points[-1][0] == 1999


def test_bars_say_where_a_training_is_and_how_long_it_takes() -> None:
    none = progress.bars([], 20, 10, progress.loading([], []))
    assert [bar.done for bar in none] == [0, 0, 0, 0]
    event = {"event": "clip", "what": "prepared", "name": "c", "done": 1, "total": 4}
    assert progress.loading([event], [5.0]) == progress.Share(0.25, "Clips prepared: 1 of 4")
    rows = [scored(0, 1, 30, 0), scored(0, 2, 32, 3)]
    rows += [batch(step, 20, 2.0 * step) for step in range(1, 13)]
    rows[12:12] = [scored(10, 1, 30, 20), scored(10, 2, 31, 23)]
    bars = progress.bars(rows, 20, 10, none[0])
    assert [bar.text for bar in bars] == [
        "Clips: loaded", "Epochs: 1 of 2, 0:16 left", "Training batches: 2 of 10, 0:16 left",
        "Validation batches: 0 of 2, 0:06 left",
    ]  # fmt: skip
    assert [bar.done for bar in bars] == [1, 0.5, 0.2, 0]
    bars = progress.bars(rows[:13], 20, 10, none[0])
    assert bars[2].text == "Training batches: 10 of 10"
    assert (bars[3].done, bars[3].text) == (0.5, "Validation batches: 1 of 2, 0:03 left")
    first = progress.bars(rows[:1], 20, 10, none[0])
    assert first[3].text == "Validation batches: 1 of 2"  # nobody knows yet


def test_loading_says_how_long_it_takes_by_what_came_since_one_looks() -> None:
    events = [{"event": "clip", "what": "prepared", "name": "c", "done": k, "total": 10}
              for k in range(1, 6)]  # fmt: skip
    at_once = progress.loading(events[:3], [1.0] * 3)
    assert at_once.text == "Clips prepared: 3 of 10"
    later = progress.loading(events, [1.0, 1.0, 1.0, 5.0, 9.0])
    assert later.text == "Clips prepared: 5 of 10, 0:20 left"
    other = [*events, {"event": "clip", "what": "reduced (bi)", "name": "c", "done": 1, "total": 4}]
    assert progress.loading(other, [1.0] * 5 + [9.0]).text == "Clips reduced (bi): 1 of 4"


def test_a_chart_leaves_out_what_is_no_number_and_dashes_bicubic() -> None:
    points = [progress.Point(1, 2.0, "network"), progress.Point(2, float("inf"), "network"),
              progress.Point(1, 1.0, "bicubic")]  # fmt: skip
    spec = charts.chart(points, "step")
    assert len(spec["data"]["values"]) == 2
    assert spec["encoding"]["strokeDash"]["scale"] == {
        "domain": ["network", "bicubic"], "range": [[1, 0], [4, 3]]
    }  # fmt: skip


def test_charts_of_many_runs_have_one_legend_and_the_same_colours() -> None:
    runs = [f"trial-{k:05d} (abc12{k})" for k in range(6)]
    whole = [progress.Point(1, float(k), run) for k, run in enumerate(runs)]
    one, other = (charts.chart(points, "step", lines=runs) for points in (whole, whole[3:]))
    colours = one["encoding"]["color"]
    assert colours["scale"] == other["encoding"]["color"]["scale"]
    assert len(set(colours["scale"]["range"])) == 6
    assert colours["legend"]["columns"] == 1  # below each other, where the page cuts none off
    assert one["height"] > charts.chart(whole[:1], "step")["height"]


# The command.


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_without_streamlit_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpreel.cli import studio

    monkeypatch.setattr(studio, "find_spec", lambda name: None)
    done = run("studio")
    assert done.exit_code == 2
    assert done.stderr == (
        "sharpreel: The studio requires an optional dependency: pip install 'sharpreel[studio]'.\n"
    )


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("me", False)],
)
def test_hosts_that_others_reach_are_known(host: str, only_here: bool) -> None:
    from sharpreel.cli import studio

    assert studio.is_loopback(host) == only_here


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("studio", "--port", str(port), "--folder", str(tmp_path))
    assert done.exit_code == 2
    assert f"127.0.0.1:{port} cannot be listened at" in done.stderr
