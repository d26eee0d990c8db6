"""Names and files become networks; no code in a file is executed."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sharpreel.errors import MissingExtra, UsageError, WeightsError
from sharpreel.media.reader import read_frames
from sharpreel.models import MODELS, weights
from sharpreel.models.reel import Reel
from sharpreel.models.weights import available_scales, load_model
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from sharpreel.system.download import sha256_of
from sharpreel.upscale import upscale_frames
from tests.support.checkpoints import FILES, rbpn, run_cli, save
from tests.support.videos import make_clip
from tests.support.weights import saved_reel


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean reel-fast"):
        load_model("reel-fats")
    with pytest.raises(UsageError, match="Known models: bicubic, reel-fast"):
        load_model("zzz")


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0, -2])
def test_an_invalid_scale_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="is not a valid scale"):
        load_model("reel", scale)


def test_a_scale_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scale=3: reel-fast exists for 2x and 4x"):
        load_model("reel-fast", 3)
    path = saved_reel(tmp_path)
    with pytest.raises(UsageError, match="is a 2x model, not 4x"):
        load_model(path, 4)


def test_an_own_model_file_runs_by_path_with_its_own_arguments(tmp_path: Path) -> None:
    model = load_model(saved_reel(tmp_path))
    assert (model.name, model.scale, model.graph) == ("mine", 2, None)
    module = model.module()
    assert isinstance(module, Reel)
    assert module.channels == 16


def test_an_int8_graph_next_to_its_file_is_found(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    assert load_model(path).int8 is None
    (tmp_path / "mine_int8.xml").touch()
    assert load_model(path).int8 == tmp_path / "mine_int8.xml"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("touched"),))  # type: ignore[return-value]


def test_a_pickle_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match=r"evil.pt: not a model file"):
        load_model("evil.pt")
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        struct.pack("<Q", 2**40),
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 22) + b'{"__metadata__": "no"}',
    ],
)
def test_files_that_are_not_models_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a model file of sharpreel"):
        load_model(path)


def test_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    card = {"model": "reel-fast", "arguments": {"scale": 2}}
    weights.save_weights(path, {"head.weight": torch.zeros(1)}, card)
    with pytest.raises(WeightsError, match="does not hold x"):
        load_model(path).module()


def test_a_card_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    card = json.dumps({"format": "sharpreel-9", "model": "reel-fast"})
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"sharpreel": card})
    with pytest.raises(WeightsError, match="another version of sharpreel"):
        load_model(path)


def test_every_model_of_the_table_is_bundled_at_every_scale() -> None:
    for name, spec in MODELS.items():
        assert available_scales(name) == (spec.scales if spec.bundled else ())


def test_a_loaded_model_can_be_used_repeatedly() -> None:
    model = load_model("reel-fast", 4)
    frame = np.full((6, 8, 3), 90, np.uint8)
    for _ in range(2):
        assert next(upscale_frames([frame], model)).shape == (24, 32, 3)


def test_the_file_name_of_a_tsrcnn_gives_its_scale(tmp_path: Path) -> None:
    name = "small_240_720_36videos_AdamWopt_PNSRloss_1fb_1ff_3ep_final.pt"
    path = save(tmp_path, ("tsrcnn", {"size": "small", "scale": 3}, name, dict))
    assert load_model(path).scale == 3
    plain = save(tmp_path, FILES[0])
    assert load_model(plain).scale == 2
    assert load_model(plain, 4).scale == 4


def test_a_scale_the_weights_do_not_have_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[4])
    with pytest.raises(UsageError, match="is a 2x srvgg, not 4x"):
        load_model(path, 4)


def test_a_network_without_weights_asks_for_a_checkpoint() -> None:
    with pytest.raises(UsageError, match="give a checkpoint file of it as `model` instead"):
        load_model("rbpn")


def test_without_torch_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, FILES[4])
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sharpreel\[torch\]'"):
        load_model(path)


def test_choices_reach_the_network_and_change_its_output(tmp_path: Path) -> None:
    path = rbpn(tmp_path)
    clip = make_clip(tmp_path / "in.mp4", frames=4, size=(64, 48), audio=False)
    means = {}
    for name, words in {
        "plain": [],
        "residual": ["--set", "residual=true"],
        "past": ["--set", "residual=yes", "--set", "past_only=true", "--set", "flow=none"],
    }.items():
        out = tmp_path / f"{name}.mp4"
        done = run_cli("upscale", clip, "-o", out, "-m", path, *words)
        assert done.exit_code == 0, done.output
        means[name] = read_frames(out).astype(float).mean()
    original = read_frames(clip).astype(float).mean()
    # A network of random weights is black; in residual mode the bicubic frame is added.
    assert abs(means["residual"] - original) < abs(means["plain"] - original) / 4
    assert means["past"] != means["residual"]
    module: Any = load_model(path, choices={"past_only": True, "flow": "coarse2fine"}).module()
    assert (module.past, module.future, module.flow) == (2, 0, "coarse2fine")


def test_the_frame_split_of_a_tsrcnn_can_be_chosen(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    module: Any = load_model(path, choices={"past": "2", "future": "0"}).module()
    assert (module.past, module.future) == (2, 0)
    done = run_cli("plan", make_clip(tmp_path / "in.mp4"), "-m", path, "--set", "past=3")
    assert done.exit_code == 2
    assert "its tensors do not fit --set past=3" in done.output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("residual", "write NAME=VALUE"),
        ("residual=perhaps", "--set residual=perhaps: must be true or false"),
        ("flow=farneback", "must be dis or coarse2fine or none"),
        (
            "colour=true",
            "not a choice of rbpn.pth, a rbpn; its choices are past_only",
        ),
    ],
)
def test_an_invalid_choice_is_one_line(word: str, message: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    done = run_cli("upscale", clip, "-m", rbpn(tmp_path), "--set", word)
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1


def test_a_bundled_network_has_no_choices(clip: Path) -> None:
    done = run_cli("upscale", clip, "--set", "residual=true")
    assert done.exit_code == 2
    assert "reel has no configurable arguments" in done.output


def test_a_run_with_other_choices_is_another_run(tmp_path: Path) -> None:
    clip, path = make_clip(tmp_path / "in.mp4", frames=2), str(rbpn(tmp_path))
    plans = [
        make_plan(clip, None, UpscaleOptions(model=path, choices=choices))
        for choices in ({}, {"residual": "true"})
    ]
    one, two = (plan.journal_settings("torch-cpu") for plan in plans)
    assert one != two


def test_the_digest_of_an_int8_engine_is_that_of_its_graph(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    (tmp_path / "mine_int8.xml").touch()
    (tmp_path / "mine_int8.bin").write_bytes(b"weights in eight bits")
    model = load_model(path)
    assert model.digest("float32") == model.sha256 == sha256_of(path)
    assert model.digest("int8") == sha256_of(tmp_path / "mine_int8.bin")
