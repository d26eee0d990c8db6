"""weights.py: names and files to networks; nothing is unpickled."""

import hashlib
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import safetensors.torch
import torch
from openvino import opset13 as op

from sharpreel.engines.openvino import OpenVinoEngine, openvino_core
from sharpreel.errors import UsageError, WeightsError
from sharpreel.models import MODELS, weights
from sharpreel.models.reel import Reel
from sharpreel.models.export import export_graph
from sharpreel.models.weights import available_scales, load_model
from sharpreel.upscale import upscale_frames

BUNDLED = [("reel-fast", 2), ("reel-fast", 4)]


@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_a_bundled_card_tells_how_the_weights_were_made(name: str, scale: int) -> None:
    card = load_model(name, scale).card
    assert card["licence"] == "Apache-2.0"
    assert card["arguments"]["scale"] == scale
    assert card["steps"] > 0
    assert "noncommercial" not in card["data"]["clips by rights"]
    scores = card["val_psnr_y"]["clips"]
    assert len(scores) == 10
    for clip, (bicubic, psnr) in scores.items():
        assert psnr > bicubic + 0.3, clip


@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_the_checksum_in_the_header_is_that_of_the_tensors(name: str, scale: int) -> None:
    model = load_model(name, scale)
    assert model.tensors is not None
    tensors = safetensors.torch.load_file(model.tensors)
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].numpy().tobytes())
    assert model.card["tensors_sha256"] == digest.hexdigest()


@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_the_bundled_graph_is_built_from_the_bundled_weights(
    name: str, scale: int, tmp_path: Path
) -> None:
    model = load_model(name, scale)
    built = export_graph(model, tmp_path)
    assert model.graph is not None
    assert built.with_suffix(".bin").read_bytes() == model.graph.with_suffix(".bin").read_bytes()


def test_all_bundled_files_together_stay_small() -> None:
    sizes = {path.name: path.stat().st_size for path in weights.BUNDLED.iterdir()}
    large = sizes.pop("reel-quality_x4.safetensors", 0)
    assert sum(sizes.values()) <= 12e6
    assert large <= 20e6


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean reel-fast"):
        load_model("reel-fats")
    with pytest.raises(UsageError, match="Known models: bicubic, reel-fast"):
        load_model("zzz")


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0, -2])
def test_what_is_no_factor_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="is not a valid scale"):
        load_model("reel", scale)


def test_a_scale_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scale=3: reel-fast exists for 2x and 4x"):
        load_model("reel-fast", 3)
    path = saved_reel(tmp_path)
    with pytest.raises(UsageError, match="is a 2x model, not 4x"):
        load_model(path, 4)


def saved_reel(folder: Path, **card: object) -> Path:
    path = folder / "mine.safetensors"
    arguments = {"scale": 2, "channels": 16, "blocks": 2, "unshuffle": 2}
    torch.manual_seed(0)
    tensors = Reel(**arguments).state_dict()
    weights.save_weights(path, tensors, {"model": "reel-fast", "arguments": arguments, **card})
    return path


def test_a_file_of_ours_runs_by_path_with_its_own_arguments(tmp_path: Path) -> None:
    model = load_model(saved_reel(tmp_path))
    assert (model.name, model.scale, model.graph) == ("mine", 2, None)
    module = model.module()
    assert isinstance(module, Reel)
    assert module.channels == 16


def test_an_exported_graph_lies_beside_its_file_and_is_used(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    graph = export_graph(load_model(path), tmp_path)
    (tmp_path / "mine.xml").write_bytes(graph.read_bytes())
    (tmp_path / "mine.bin").write_bytes(graph.with_suffix(".bin").read_bytes())
    runner = OpenVinoEngine(load_model(path))
    assert runner.run(np.zeros((8, 8, 3), np.uint8)).shape == (16, 16, 3)


def test_a_graph_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    frame = op.parameter([1, 3, -1, -1], np.float32, "frame")
    frame.output(0).set_names({"frame"})
    ov.save_model(ov.Model([op.result(frame)], [frame]), tmp_path / "mine.xml")
    with pytest.raises(WeightsError, match="built by an earlier sharpreel"):
        OpenVinoEngine(load_model(path)).run(np.zeros((8, 8, 3), np.uint8))


def test_an_int8_graph_lies_beside_its_file_and_is_found(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    assert load_model(path).int8 is None
    (tmp_path / "mine_int8.xml").touch()
    assert load_model(path).int8 == tmp_path / "mine_int8.xml"


def test_a_graph_takes_any_size_without_being_built_again(tmp_path: Path) -> None:
    graph = openvino_core().read_model(load_model("reel-fast", 2).graph)
    assert graph.input("frame").partial_shape.to_string() == "[1,?,?,3]"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("touched"),))  # type: ignore[return-value]


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes) -> None:
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


def test_what_load_model_returns_can_be_used_again_and_again() -> None:
    model = load_model("reel-fast", 4)
    frame = np.full((6, 8, 3), 90, np.uint8)
    for _ in range(2):
        assert next(upscale_frames([frame], model)).shape == (24, 32, 3)
