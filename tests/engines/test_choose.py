"""The engine is chosen by device, precision and what the network has."""

from __future__ import annotations

import pytest

from sharpreel.engines import choose
from sharpreel.engines.choose import choose_engine, engine_choice
from sharpreel.errors import DeviceError, UsageError
from sharpreel.models.weights import load_model
from sharpreel.system.resources import cuda_available
from tests.support.engines import torch_model


def test_a_cpu_gets_the_saved_graph_and_torch_only_on_request() -> None:
    model = load_model("reel-fast", 2)
    assert choose_engine(model, "cpu").name.startswith("openvino")
    assert choose_engine(model, "cpu", "torch").name == "torch-cpu"
    without_graph, _ = torch_model("tsrcnn", {"size": "small", "scale": 2})
    assert choose_engine(without_graph, "cpu").name == "torch-cpu"
    with pytest.raises(UsageError, match="no saved graph"):
        choose_engine(without_graph, "cpu", "openvino")


def test_unknown_devices_and_engines_are_named() -> None:
    model = load_model("bicubic", 2)
    with pytest.raises(UsageError, match="device='tpu' is not known"):
        choose_engine(model, "tpu")
    with pytest.raises(UsageError, match="engine='onnx' is not known"):
        choose_engine(model, "cpu", "onnx")
    with pytest.raises(UsageError, match="runs on the CPU"):
        choose_engine(model, "cuda", "openvino")


@pytest.mark.skipif(cuda_available(), reason="a GPU is there")
def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        choose_engine(load_model("reel-fast", 2), "cuda")


@pytest.mark.parametrize(
    ("requested", "wanted"),
    [
        ({"device": "cpu", "engine": "torch"}, ("torch", "cpu", "float32")),
        ({"device": "cpu", "precision": "float32"}, ("openvino", "cpu", "float32")),
        ({"precision": "int8"}, ("openvino", "cpu", "int8")),
        ({"engine": "openvino", "precision": "float32"}, ("openvino", "cpu", "float32")),
        ({"device": "cuda"}, ("torch", "cuda", "auto")),
        ({"device": "cuda", "precision": "float16"}, ("torch", "cuda", "float16")),
    ],
)
def test_an_explicit_request_decides_the_engine(
    requested: dict[str, str], wanted: tuple[str, ...]
) -> None:
    chosen = engine_choice(load_model("reel-fast", 2), **requested)
    assert (chosen.engine, chosen.device, chosen.precision) == wanted
    assert chosen.why == "requested"


def test_a_gpu_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "cuda_available", lambda: True)
    model = load_model("reel-fast", 2)
    assert engine_choice(model).device == "cuda"
    assert engine_choice(model, "cpu").device == "cpu"
    assert engine_choice(model, engine="openvino").device == "cpu"
    monkeypatch.setattr(choose, "cuda_available", lambda: False)
    with pytest.raises(DeviceError, match="PyTorch finds none"):
        engine_choice(model, precision="float16")
    with pytest.raises(UsageError, match="slower on a CPU"):
        engine_choice(model, "cpu", precision="float16")
