"""The form of a training run, and the command that it becomes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.studio import (
    widgets,
)
from sharpreel.studio.folder import (
    FOLDER_VARIABLE,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    errors,
    labelled,
    opened,
    start_training,
)


def test_choices_become_a_command(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(
        Job, "start", lambda self, arguments, *a, **k: begun.append(list(arguments))
    )
    at = opened("train")
    labelled(at.selectbox, "Recipe").set_value("tsrcnn-small").run()
    labelled(at.selectbox, "High resolution").set_value(360).run()
    low = labelled(at.selectbox, "Low resolution")
    assert low.options == ["180 lines (scale 2)", "120 lines (scale 3)", "90 lines (scale 4)"]
    low.set_value(3).run()
    labelled(at.text_input, "Learning rate").set_value("3e-4")
    labelled(at.selectbox, "Optimiser").set_value("sgd")
    labelled(at.selectbox, "Loss").set_value("dssim")
    labelled(at.number_input, "Batch size").set_value(2)
    labelled(at.number_input, "Past frames").set_value(2)
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
    assert settings == {
        *("learning_rate=3e-4", "optimizer=sgd", "loss=dssim", "seed=7", "weight_decay=0.5"),
        *("stages=[[1.0, 3, 2]]", "arguments.past=2"),
    }


def test_an_invalid_request_is_one_line_of_the_page(home: Path, videos: Path) -> None:
    at = start_training(opened("train"), videos / "nowhere")
    assert errors(at) == [f"{videos / 'nowhere'}: no such file or folder on the server."]
    labelled(at.text_input, "Learning rate").set_value("fast")
    (message,) = errors(start_training(at, videos))
    assert message.startswith("learning_rate=fast: ")
    labelled(at.text_input, "Learning rate").set_value("1e-3")
    labelled(at.text_area, "Other settings").set_value("step=3")
    (message,) = errors(start_training(at, videos))
    assert "Did you mean steps?" in message
    labelled(at.text_area, "Other settings").set_value("")
    labelled(at.text_input, "Name of the run").set_value("../up")
    (message,) = errors(start_training(at, videos))
    assert "is not a valid name" in message
    labelled(at.text_input, "Name of the run").set_value("one")
    (message,) = errors(start_training(at, videos / "clip0.mp4"))
    assert "not a folder of clips" in message
    assert list((home / "runs").iterdir()) == []  # nothing that would take a name


def test_uploads_are_saved_and_trained_on(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(
        Job, "start", lambda self, arguments, *a, **k: begun.append(list(arguments))
    )
    at = opened("train")
    at.radio(key="train-way").set_value("Upload").run()
    uploader = at.get("file_uploader")[0]
    assert uploader.label == "Videos, at most 500 MB each"
    assert "need no upload: enter their path" in " ".join(c.value for c in at.caption)
    given = [(f"../../{path.name}", path.read_bytes(), "video/mp4") for path in videos.iterdir()]
    uploader.set_value(given)
    labelled(at.button, "Start training").click().run()
    assert errors(at) == []
    (words,) = begun
    folder = Path(words[words.index("--data") + 1])
    assert home / "runs" / "reel-fast-1" in folder.parents
    assert sorted(p.name for p in folder.iterdir()) == [f"clip{k}.mp4" for k in range(4)]
    assert (folder / "clip2.mp4").read_bytes() == (videos / "clip2.mp4").read_bytes()
    twice = widgets.ChosenVideos(uploads=[type("Upload", (), {"name": "a.mp4"})] * 2)
    with pytest.raises(UsageError, match="have the same name"):
        twice.save(home / "two")


def test_a_checkpoint_can_be_the_start(
    trained: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(trained))
    begun: list[list[str]] = []
    monkeypatch.setattr(
        Job, "start", lambda self, arguments, *a, **k: begun.append(list(arguments))
    )
    at = opened("train")
    labelled(at.radio, "Start from").set_value("A checkpoint (up-training)").run()
    chosen = labelled(at.selectbox, "Checkpoint")
    assert "reel_x4 (bundled)" in chosen.options
    chosen.set_value("reel_x4 (bundled)").run()
    assert labelled(at.selectbox, "Recipe").value == "reel"
    assert labelled(at.selectbox, "Low resolution").options == ["1/4 of that (scale 4)"]
    chosen = labelled(at.selectbox, "Checkpoint")
    chosen.set_value("first: reel-fast_x2.safetensors").run()
    assert labelled(at.selectbox, "Recipe").value == "reel-fast"
    start_training(at, videos)
    assert errors(at) == []
    (words,) = begun
    model = trained / "runs" / "first" / "reel-fast_x2.safetensors"
    assert words[words.index("--from") + 1] == str(model)
    assert {"arguments.channels=8", "arguments.blocks=1"} <= set(words)


def test_a_third_party_checkpoint_selects_its_recipe_and_frames(
    home: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sharpreel.models import MODELS

    begun: list[list[str]] = []
    monkeypatch.setattr(
        Job, "start", lambda self, arguments, *a, **k: begun.append(list(arguments))
    )
    network = MODELS["tsrcnn"].build({"size": "small", "past": 2, "future": 2, "scale": 2})
    torch.save(network.state_dict(), tmp_path / "theirs.pt")
    at = opened("train")
    labelled(at.radio, "Start from").set_value("A checkpoint (up-training)").run()
    labelled(at.selectbox, "Checkpoint").set_value("A file on the server").run()
    hint = "Enter the path of a model file on the server."
    assert errors(at) == []
    assert hint in [c.value for c in at.caption]
    assert errors(start_training(at, videos)) == [hint]
    labelled(at.text_input, "Model file").set_value(str(videos / "clip0.mp4")).run()
    (message,) = errors(at)
    assert "clip0.mp4" in message
    assert labelled(at.button, "Start training")
    labelled(at.text_input, "Model file").set_value(str(tmp_path / "theirs.pt")).run()
    assert labelled(at.selectbox, "Recipe").value == "tsrcnn-small"
    assert labelled(at.number_input, "Past frames").value == 2
    labelled(at.number_input, "Patch size").set_value(16)
    start_training(at, videos)
    assert errors(at) == []
    assert {"arguments.past=2", "arguments.future=2", "patch=16"} <= set(begun[0])


def test_two_sessions_do_not_disturb_each_other(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(trained))
    one, two = opened("train"), opened("train")
    labelled(one.selectbox, "Recipe").set_value("reel-gan").run()
    labelled(two.selectbox, "Show").set_value("first").run()
    labelled(one.text_input, "Learning rate").set_value("7e-5").run()
    two.run()
    assert labelled(two.selectbox, "Show").value == "first"
    assert labelled(one.selectbox, "Recipe").value == "reel-gan"
    assert labelled(one.text_input, "Learning rate").value == "7e-5"
    assert labelled(one.selectbox, "Show").value == ""
